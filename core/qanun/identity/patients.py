"""Finding and registering patients: forgiving about spelling and script, strict about what is stored."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func, literal, or_, select

from qanun.context import Context, ResourceRef
from qanun.db import new_id
from qanun.errors import Invalid, NotFound
from qanun.i18n import N_, fold_name, to_ascii_digits
from qanun.identity.counters import advance
from qanun.identity.models import SEXES, Patient, PatientIdentifier

_DIGITS = re.compile(r"\D+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
SEARCH_LIMIT = 20
OLDEST = date(1880, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientDraft:
    """What reception types. All strings as typed; `register_patient` cleans and checks them."""

    given: str
    family: str
    birth_date: str
    sex: str = "unknown"
    given_alt: str = ""
    family_alt: str = ""
    phone: str = ""
    email: str = ""
    language: str = ""
    address: str = ""
    identifiers: Sequence[tuple[str, str]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class PatientSummary:
    """A search result: enough to tell two people apart, nothing clinical. `score` is 0..1."""

    id: uuid.UUID
    mrn: str
    name: str
    name_alt: str
    sex: str
    birth_date: date
    phone: str
    score: float = 1.0


def _search_text(patient: Patient, identifiers: Sequence[tuple[str, str]]) -> str:
    names = (patient.given, patient.family, patient.given_alt, patient.family_alt)
    parts = [fold_name(part) for part in names if part]
    parts += [fold_name(patient.mrn), _DIGITS.sub("", patient.phone), *(fold_name(value) for _, value in identifiers)]
    return " ".join(part for part in parts if part)


_COLUMNS = (
    Patient.id,
    Patient.mrn,
    Patient.given,
    Patient.family,
    Patient.given_alt,
    Patient.family_alt,
    Patient.sex,
    Patient.birth_date,
    Patient.phone,
)
_LIVING = (Patient.merged_into.is_(None), Patient.voided_at.is_(None))


async def find_patients(ctx: Context, query: str, *, limit: int = SEARCH_LIMIT) -> list[PatientSummary]:
    """Patients whose names, MRN, phone or identifiers resemble `query`, best first; at most `limit` (≤ 50).

    Folds Arabic variants and tolerates typos (trigram word similarity). A date of birth (`1991-08-19`) is understood as
    one. Fewer than two characters find nothing.
    """
    limit = max(1, min(limit, 50))
    typed = to_ascii_digits(query).strip()
    if len(typed) < 2:
        return []
    try:
        born = date.fromisoformat(typed)
    except ValueError:
        born = None
    if born:
        statement = select(*_COLUMNS, literal(1.0)).where(Patient.birth_date == born, *_LIVING).order_by(Patient.family)
    else:
        folded = fold_name(typed)
        digits = _DIGITS.sub("", typed)
        # Digits are compared exactly: a number that is nearly a phone number is another person's.
        if len(digits) >= 4 and len(digits) >= len(folded.replace(" ", "")) - 3:
            score: ColumnElement[float] = literal(1.0)
            match = or_(Patient.search.like(f"%{digits}%"), Patient.search.like(f"%{_escape(folded)}%"))
        else:
            score = func.word_similarity(folded, Patient.search)
            match = or_(
                Patient.search.op("%>", return_type=None)(literal(folded, Text)),
                Patient.search.like(f"%{_escape(folded)}%"),
            )
        statement = (
            select(*_COLUMNS, score).where(match, *_LIVING).order_by(score.desc(), Patient.family, Patient.given)
        )
    rows = (await ctx.db.execute(statement.limit(limit))).all()
    return [_summary(row) for row in rows]


def _summary(row: Any) -> PatientSummary:
    names = f"{row[2]} {row[3]}".strip(), f"{row[4]} {row[5]}".strip()
    return PatientSummary(row[0], row[1], *names, row[6], row[7], row[8], float(row[9]))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


_BY_ID = select(Patient).where(Patient.id == bindparam("patient_id"))


async def patient(ctx: Context, patient_id: uuid.UUID) -> Patient:
    """The patient, followed through merges. Raises NotFound for an unknown, voided or foreign id alike."""
    for _ in range(5):
        found = (await ctx.db.execute(_BY_ID, {"patient_id": patient_id})).scalar_one_or_none()
        if found is None or found.voided_at is not None:
            raise NotFound("patient")
        if found.merged_into is None:
            return found
        patient_id = found.merged_into
    raise NotFound("patient")


async def likely_duplicates(ctx: Context, draft: PatientDraft) -> list[PatientSummary]:
    """People already registered who may be the same: same birth date and a similar name, or the same phone number."""
    try:
        born = date.fromisoformat(to_ascii_digits(draft.birth_date).strip())
    except ValueError:
        return []
    name = fold_name(f"{draft.given} {draft.family}")
    # Born on the same day is rare enough that a faint likeness of the name is worth showing.
    likeness = func.word_similarity(name, Patient.search)
    same_day = (
        select(*_COLUMNS, likeness)
        .where(Patient.birth_date == born, likeness >= 0.3, *_LIVING)
        .order_by(likeness.desc())
        .limit(5)
    )
    found = {row[0]: _summary(row) for row in (await ctx.db.execute(same_day)).all()}
    phone = _DIGITS.sub("", to_ascii_digits(draft.phone))
    if len(phone) >= 7:
        found.update({match.id: match for match in await find_patients(ctx, phone)})
    return list(found.values())[:5]


async def register_patient(ctx: Context, draft: PatientDraft) -> Patient:
    """Store a new patient with the clinic's next MRN. Raises Invalid naming each field; nothing is half-written."""
    faults: dict[str, object] = {}
    given, family = draft.given.strip(), draft.family.strip()
    if not given:
        faults["given"] = N_("Enter the given name.")
    if not family:
        faults["family"] = N_("Enter the family name.")
    for name in ("given", "family", "given_alt", "family_alt"):
        if len(getattr(draft, name)) > 120:
            faults[name] = N_("This name is too long (120 characters at most).")
    born = None
    try:
        born = date.fromisoformat(to_ascii_digits(draft.birth_date).strip())
    except ValueError:
        faults["birth_date"] = N_("Enter the date of birth as year-month-day, for example 1991-08-19.")
    if born and not OLDEST <= born <= ctx.local(ctx.now).date():
        faults["birth_date"] = N_("This date of birth is not possible.")
    if draft.sex not in SEXES:
        faults["sex"] = N_("Choose one of the listed values.")
    phone = to_ascii_digits(draft.phone).strip()
    if phone and not re.fullmatch(r"\+?[\d\s().-]{5,24}", phone):
        faults["phone"] = N_("Enter a phone number, digits only, with + for another country.")
    email = draft.email.strip().lower()
    if email and (len(email) > 254 or not _EMAIL.fullmatch(email)):
        faults["email"] = N_("Enter an e-mail address, for example name@example.org.")
    identifiers = [(system.strip(), to_ascii_digits(value).strip()) for system, value in draft.identifiers]
    identifiers = [(system, value) for system, value in identifiers if system and value]
    for system, value in identifiers:
        taken = select(PatientIdentifier.id).where(PatientIdentifier.system == system, PatientIdentifier.value == value)
        if (await ctx.db.execute(taken)).first():
            faults["identifier"] = N_("Another patient is registered with this number.")
    if faults or born is None:
        raise Invalid(faults)
    registered = Patient(
        id=new_id(), mrn=f"QN-{await advance(ctx, 'mrn'):06d}", given=given, family=family, given_alt=draft.given_alt.strip(),
        family_alt=draft.family_alt.strip(), sex=draft.sex, birth_date=born, phone=phone, email=email,
        language=draft.language.strip(), address=draft.address.strip()[:500],
    )  # fmt: skip
    registered.search = _search_text(registered, identifiers)
    ctx.db.add(registered)
    for system, value in identifiers:
        ctx.db.add(PatientIdentifier(patient_id=registered.id, system=system, value=value))
    ctx.audit("core.patient.register", patient_id=registered.id, entity=ResourceRef("Patient", registered.id))
    await ctx.db.flush()
    return registered
