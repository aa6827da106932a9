"""Who somebody is: users and their sign-in, practitioners, patients and their portal accounts.

Core knows names, birth dates, identifiers and contacts — never what is wrong with a person. What somebody may do is
`qanun.access`.
"""

from qanun.identity.models import (
    GuestPass,
    Membership,
    Patient,
    PatientAccount,
    PatientIdentifier,
    PluginState,
    PortalInvitation,
    Practitioner,
    RecoveryCode,
    RoleChange,
    SignInSession,
    User,
)
from qanun.identity.passkey_models import PatientPasskey, SpentChallenge, UserPasskey
from qanun.identity.patients import PatientDraft, PatientSummary, find_patients, patient, register_patient

__all__ = [
    "GuestPass",
    "Membership",
    "Patient",
    "PatientAccount",
    "PatientDraft",
    "PatientIdentifier",
    "PatientPasskey",
    "PatientSummary",
    "PluginState",
    "PortalInvitation",
    "Practitioner",
    "RecoveryCode",
    "RoleChange",
    "SignInSession",
    "SpentChallenge",
    "User",
    "UserPasskey",
    "find_patients",
    "patient",
    "register_patient",
]
