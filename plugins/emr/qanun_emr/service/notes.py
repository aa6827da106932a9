"""The visit note: drafts by version, both texts in a conflict, the signature, addenda."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from qanun.api import N_, Conflict, Context, Invalid, ResourceRef
from qanun_emr.events import EncounterSigned
from qanun_emr.models import Encounter, Note, NoteAddendum
from qanun_emr.service.visits import encounter_of, note_of

SECTIONS = ("subjective", "objective", "assessment", "plan")
LEASE = timedelta(seconds=45)
LONGEST = 20_000


@dataclass(frozen=True, slots=True)
class Saved:
    """A stored draft: the version to send with the next change."""

    version: int
    at: Any


class NoteConflict(Conflict):
    """Somebody else saved meanwhile. `note` is what is stored now: both texts are shown, nothing is overwritten."""

    def __init__(self, note: Note) -> None:
        super().__init__("the note was changed by somebody else")
        self.note = note


async def save_note(ctx: Context, encounter_id: UUID, *, version: int, sections: Mapping[str, str]) -> Saved:
    """Store a draft that grew from `version`. Raises NoteConflict when another version is stored, Invalid when too long.

    A repeated send of the same text (the answer got lost on the way) is recognised and answered again.
    """
    note = await note_of(ctx, encounter_id, lock=True)
    texts = {name: str(sections.get(name, "")).rstrip() for name in SECTIONS}
    long = {name: N_("This text is too long.") for name, text in texts.items() if len(text) > LONGEST}
    if long:
        raise Invalid(long)
    same = all(getattr(note, name) == text for name, text in texts.items())
    if not same and (note.signed_at is not None or note.version != version):
        raise NoteConflict(note)
    if note.signed_at is not None:
        return Saved(note.version, note.saved_at or note.signed_at)
    if not same:
        for name, text in texts.items():
            setattr(note, name, text)
        note.version += 1
        note.saved_at, note.saved_by, note.saved_name = ctx.now, ctx.actor.id, ctx.actor.name
        ctx.audit(
            "emr.note.draft",
            patient_id=note.patient_id,
            entity=ResourceRef("Encounter", encounter_id),
            detail={"version": note.version},
        )
    note.lease_by, note.lease_name, note.lease_until = ctx.actor.id, ctx.actor.name, ctx.now + LEASE
    return Saved(note.version, note.saved_at or ctx.now)


def written_by_another(ctx: Context, note: Note) -> str:
    """The name of somebody else who is writing this note right now; empty when nobody is."""
    busy = note.lease_until is not None and note.lease_until > ctx.now and note.lease_by != ctx.actor.id
    return note.lease_name if busy else ""


async def sign_encounter(ctx: Context, encounter_id: UUID, *, version: int | None = None) -> Encounter:
    """Sign the visit: its note no longer changes. Raises Invalid when the note is empty, NoteConflict when the signer has
    not seen the latest text. Signing twice is signing once."""
    encounter = await encounter_of(ctx, encounter_id, lock=True)
    note = await note_of(ctx, encounter_id, lock=True)
    if encounter.signed_at is not None:
        return encounter
    if version is not None and note.version != version:
        raise NoteConflict(note)
    if not any(getattr(note, name).strip() for name in SECTIONS):
        raise Invalid({"note": N_("Write the note before signing.")})
    encounter.signed_at = note.signed_at = ctx.now
    encounter.signed_by, encounter.signed_name = ctx.actor.id, ctx.actor.name
    note.lease_until = None
    if encounter.class_code == "AMB" and encounter.status != "finished":
        encounter.status, encounter.end = "finished", ctx.now
    ctx.audit("emr.encounter.sign", patient_id=encounter.patient_id, entity=ResourceRef("Encounter", encounter.id))
    ctx.emit(
        EncounterSigned(encounter_id=encounter.id, patient_id=encounter.patient_id, appointment=encounter.appointment)
    )
    ctx.notify("emr.encounter", patient=encounter.patient_id, encounter=encounter.id)
    return encounter


async def add_addendum(ctx: Context, encounter_id: UUID, text: str) -> NoteAddendum:
    """Add to a signed note. Raises Invalid when there is nothing to add or the note is not signed yet."""
    note = await note_of(ctx, encounter_id)
    if note.signed_at is None:
        raise Invalid({"text": N_("This note is still a draft: change it directly.")})
    if not text.strip():
        raise Invalid({"text": N_("Write what is to be added.")})
    if len(text) > LONGEST:
        raise Invalid({"text": N_("This text is too long.")})
    addendum = NoteAddendum(
        note_id=note.id, text=text.strip(), author_id=ctx.actor.id, author_name=ctx.actor.name, at=ctx.now
    )
    ctx.db.add(addendum)
    ctx.audit("emr.note.addendum", patient_id=note.patient_id, entity=ResourceRef("Encounter", encounter_id))
    return addendum
