"""Whose words are written along in a call: the clinic asks, everybody answers for themselves, and takes it back at will.

Nothing is stored by it (`transcripts` asks for that, and asks everybody); but what somebody says is worked on by a machine, and
they decide.
"""

from __future__ import annotations

import uuid

from qanun.api import N_, Conflict, Context, Invalid, Locale, ResourceRef
from qanun_telemedicine.models import IN_PROGRESS, Consultation, Participant
from qanun_telemedicine.service import encryption
from qanun_telemedicine.service.presence import present

#: Change it whenever the words change: consent was given to particular words.
WORDING = "2026-2"
QUESTION = N_("May what you say be written along?")
SENTENCES = (
    N_("Everybody in the call then reads what you say as text, and a machine can get it wrong."),
    N_(
        "A computer of the clinic does it, and nothing leaves the clinic. Sound is not kept, and text only if everybody agrees to that, too."
    ),
    N_("Saying no changes nothing about your care. You can stop it at any moment."),
)
GIVEN, REFUSED = "given", "refused"


def wording(locale: Locale) -> tuple[str, list[str]]:
    """The question and its sentences in one language."""
    return locale.resolve(QUESTION), [locale.resolve(text) for text in SENTENCES]


async def ask(ctx: Context, row: Consultation, person: Participant, on: bool) -> None:
    """Offer captions to everybody in the call, or end them. Who asks has agreed to their own words.

    Raises Conflict when no call runs, and for an encrypted one: the server hears nothing of it.
    """
    if row.state != IN_PROGRESS:
        raise Conflict("the consultation is not in progress")
    encryption.refuse(row)
    if on == (row.captions_asked_at is not None):
        return
    row.captions_asked_at = ctx.now if on else None
    _note(ctx, row, "telemedicine.captions.ask" if on else "telemedicine.captions.end", person, {})
    for one, _ in await present(ctx, row.id):
        one.captions = ""
    if on:
        person.captions = GIVEN
        _note(ctx, row, "telemedicine.captions.given", person, {"wording": WORDING, "language": ctx.locale.code})
    await ctx.db.flush()


async def answer(ctx: Context, row: Consultation, person: Participant, decision: str, version: str) -> None:
    """One person's answer, now or changed. Raises Invalid (no such answer, other words) and Conflict (nobody asked)."""
    if decision not in (GIVEN, REFUSED):
        raise Invalid({"decision": N_("Choose one of the listed values.")})
    if version != WORDING:
        raise Invalid({"version": N_("The wording has changed. Please read it again.")})
    if row.state != IN_PROGRESS or row.captions_asked_at is None:
        raise Conflict("nobody asked for captions")
    if person.captions == decision:
        return
    person.captions = decision
    _note(ctx, row, f"telemedicine.captions.{decision}", person, {"wording": version, "language": ctx.locale.code})
    await ctx.db.flush()


async def heard(ctx: Context, row: Consultation) -> frozenset[uuid.UUID]:
    """Whose sound may be listened to right now: of those in the call, who agreed since it was asked."""
    if row.state != IN_PROGRESS or row.captions_asked_at is None or row.encrypted:
        return frozenset()
    return frozenset(
        one.id for one, stay in await present(ctx, row.id) if stay.place == "call" and one.captions == GIVEN
    )


def _note(ctx: Context, row: Consultation, type: str, person: Participant, detail: dict[str, str]) -> None:
    ctx.audit(
        type, patient_id=row.patient_id or person.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"participant": str(person.id), **detail},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
