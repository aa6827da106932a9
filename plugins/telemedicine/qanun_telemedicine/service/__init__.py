"""The rules of a video consultation: who may be where, what must be recorded, what follows from what.

Everything here works in the caller's transaction and knows neither sockets nor the media server.
"""

from qanun_telemedicine import models_kept  # noqa: F401 - its tables are known wherever the rules are
from qanun_telemedicine.service.chat import said, say
from qanun_telemedicine.service.consultations import (
    REFUSALS,
    admit,
    cancel,
    concerning,
    consultation,
    end,
    enter_waiting_room,
    for_appointment,
    invitation_link,
    nearest,
    open_for_patient,
    prepare,
    reference,
    renew_invitation,
    write_concern,
)
from qanun_telemedicine.service.identity import IDENTIFIERS, IdentityForm, check_identity, latest_check
from qanun_telemedicine.service.listing import WaitingPatient, day_list, position, waiting_list
from qanun_telemedicine.service.presence import arrive, attend, depart, loosen, present, seen, stays, sweep
from qanun_telemedicine.service.recording import (
    Plan,
    ask_to_record,
    consents_of,
    decide,
    new_recording,
    plan,
    recording,
    recording_key,
    recording_lost,
    recordings_of,
    stop_asking,
    wording,
)
from qanun_telemedicine.service.snapshot import snapshot

__all__ = [
    "IDENTIFIERS",
    "REFUSALS",
    "IdentityForm",
    "Plan",
    "WaitingPatient",
    "admit",
    "arrive",
    "ask_to_record",
    "attend",
    "cancel",
    "check_identity",
    "concerning",
    "consents_of",
    "consultation",
    "day_list",
    "decide",
    "depart",
    "end",
    "enter_waiting_room",
    "for_appointment",
    "invitation_link",
    "latest_check",
    "loosen",
    "nearest",
    "new_recording",
    "open_for_patient",
    "plan",
    "position",
    "prepare",
    "present",
    "recording",
    "recording_key",
    "recording_lost",
    "recordings_of",
    "reference",
    "renew_invitation",
    "said",
    "say",
    "seen",
    "snapshot",
    "stays",
    "stop_asking",
    "sweep",
    "waiting_list",
    "wording",
    "write_concern",
]
