"""What the clinic tells people who wait: a phrase that everybody reads in their own language, or words of its own."""

from __future__ import annotations

import uuid

from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Invalid, ResourceRef, new_id, to_ascii_digits
from qanun_telemedicine.models import WAITING, WRITTEN, Consultation, Notice

#: Phrase → the sentence; `%(minutes)s` is asked for where it stands.
PHRASES = {
    "late": N_("We are running late. Please stay on this page."),
    "soon": N_("It will be your turn in a few minutes. Please stay on this page."),
    "papers": N_("Please have your papers and your medicines at hand."),
    "phone": N_("We will call you by phone. You can leave this page open."),
    "fault": N_("We have a technical problem and are working on it. Please stay on this page."),
}
#: The same, short, for who chooses.
CHOICES = {
    "late": N_("Running late"),
    "soon": N_("Soon your turn"),
    "papers": N_("Papers and medicines at hand"),
    "phone": N_("We call by phone"),
    "fault": N_("Technical problem"),
    "own": N_("Own words"),
}
MOST_LETTERS = 300
MOST_MINUTES = 240
NOT_WAITING = N_("This patient does not wait any more.")


async def send(ctx: Context, row: Consultation, phrase: str, minutes: str = "", text: str = "") -> Notice:
    """Tell one patient who waits. Raises Invalid (no such phrase, no minutes, no words) or Conflict (does not wait)."""
    filled = _filled(phrase, minutes, text)
    if row.state != WAITING or row.mode == WRITTEN:
        raise Conflict("nobody waits for this consultation")
    return _keep(ctx, row, *filled)


async def send_to_all(
    ctx: Context, practitioner_id: uuid.UUID | None, phrase: str, minutes: str = "", text: str = ""
) -> int:
    """Tell everybody who waits, for one practitioner or at all; how many that were. Raises Invalid like `send`."""
    filled = _filled(phrase, minutes, text)
    statement = select(Consultation).where(Consultation.state == WAITING, Consultation.mode != WRITTEN).limit(200)
    if practitioner_id is not None:
        statement = statement.where(Consultation.practitioner_id == practitioner_id)
    rows = (await ctx.db.execute(statement)).scalars().all()
    for row in rows:
        _keep(ctx, row, *filled)
    return len(rows)


def _filled(phrase: str, minutes: str, text: str) -> tuple[str, int | None, str]:
    number = to_ascii_digits(minutes).strip()
    words = text.strip()
    if phrase not in CHOICES:
        raise Invalid({"phrase": N_("Choose one of the listed values.")})
    if phrase == "own":
        if not words:
            raise Invalid({"text": N_("Write something first.")})
        if len(words) > MOST_LETTERS:
            raise Invalid({"text": N_("Please make it shorter: at most 300 letters.")})
        return "", None, words
    if phrase == "late":
        if not number.isdecimal() or not 1 <= int(number) <= MOST_MINUTES:
            raise Invalid({"minutes": N_("Write how many minutes, from 1 to 240.")})
        return phrase, int(number), ""
    return phrase, None, ""


def _keep(ctx: Context, row: Consultation, phrase: str, minutes: int | None, text: str) -> Notice:
    notice = Notice(
        id=new_id(), consultation_id=row.id, phrase=phrase, minutes=minutes, text=text, sent_at=ctx.now,
        sent_by=ctx.actor.id, sent_by_name=ctx.actor.name,
    )  # fmt: skip
    ctx.db.add(notice)
    ctx.audit(
        "telemedicine.notice.send", patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"notice": str(notice.id), "phrase": phrase or "own"},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)
    return notice


async def notices_of(ctx: Context, consultation_id: uuid.UUID) -> list[tuple[Notice, str]]:
    """The newest twenty, newest first, each with its words in the language of who asks."""
    statement = (
        select(Notice)
        .where(Notice.consultation_id == consultation_id)
        .order_by(Notice.sent_at.desc(), Notice.id.desc())
        .limit(20)
    )
    return [(one, words(ctx, one)) for one in (await ctx.db.execute(statement)).scalars()]


def words(ctx: Context, notice: Notice) -> str:
    if notice.phrase not in PHRASES:
        return notice.text
    if notice.phrase == "late" and notice.minutes:
        late: str = ctx.locale.ngettext(
            "We are running late: about %(minutes)s more minute. Please stay on this page.",
            "We are running late: about %(minutes)s more minutes. Please stay on this page.",
            notice.minutes, domain="qanun_telemedicine",
        )  # fmt: skip
        return late % {"minutes": notice.minutes}
    sentence: str = ctx.locale.resolve(PHRASES[notice.phrase])
    return sentence
