"""The verbs of the record: start a visit, write and sign its note, record and void facts.

Every verb takes the context first, checks what must hold, and writes audit and events with the change.
"""

from qanun_emr.service.facts import (
    VOIDABLE,
    record_allergy,
    record_condition,
    record_medication,
    record_vitals,
    void_entry,
)
from qanun_emr.service.notes import (
    LEASE,
    LONGEST,
    SECTIONS,
    NoteConflict,
    Saved,
    add_addendum,
    save_note,
    sign_encounter,
    written_by_another,
)
from qanun_emr.service.visits import encounter_of, finish_encounter, hold_patient, note_of, start_encounter

__all__ = [
    "LEASE",
    "LONGEST",
    "SECTIONS",
    "VOIDABLE",
    "NoteConflict",
    "Saved",
    "add_addendum",
    "encounter_of",
    "finish_encounter",
    "hold_patient",
    "note_of",
    "record_allergy",
    "record_condition",
    "record_medication",
    "record_vitals",
    "save_note",
    "sign_encounter",
    "start_encounter",
    "void_entry",
    "written_by_another",
]
