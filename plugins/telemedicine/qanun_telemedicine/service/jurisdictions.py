"""Starting points for how long recordings are kept, each with the source it was taken from.

They are no legal advice and no promise of being current: every one says what it is about (mostly the medical record as a
whole, and whether a recording is part of it is for the clinic to decide), and the administrator confirms the figures as
the clinic's own. Where a source says nothing for a case, the note says so instead of a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

from qanun.api import N_

#: Below this age somebody counts as a minor at the time of the recording.
MAJORITY = 18
OWN = "own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Jurisdiction:
    """A preset: `adult_years` after the day that `counted_from` names; who was a minor, until `minor_age` and
    `minor_years` more (0 and 0: as an adult). `source` is quoted by its official name, `note` says what it leaves open."""

    code: str
    label: object
    adult_years: int
    minor_age: int
    minor_years: int
    counted_from: str
    source: str
    note: object


_WHOLE_RECORD = N_(
    "This is about the medical record as a whole. Whether a recording is part of it is the clinic’s own responsibility."
)

JURISDICTIONS: tuple[Jurisdiction, ...] = (
    Jurisdiction(
        code="ae", label=N_("United Arab Emirates"), adult_years=25, minor_age=0, minor_years=0, counted_from="last-visit",
        source="Federal Law No. 2 of 2019 on the Use of ICT in Health Fields, Art. 20",
        note=N_("At least 25 years from the last health procedure; the emirates’ health authorities may ask for more."),
    ),
    Jurisdiction(
        code="au-nsw", label=N_("Australia: New South Wales, private sector"), adult_years=7, minor_age=25, minor_years=0,
        counted_from="last-visit", source="Health Records and Information Privacy Act 2002 (NSW), s 25",
        note=N_("Seven years from the last service; collected under 18, until 25. Other states have rules of their own."),
    ),
    Jurisdiction(
        code="de", label=N_("Germany"), adult_years=10, minor_age=0, minor_years=0, counted_from="last-visit",
        source="BGB § 630f Abs. 3",
        note=N_(
            "Ten years after the end of the treatment. For statutory insurance, annex 31b of the federal framework contract "
            "(BMV-Ä) allows no recording of video visits at all."
        ),
    ),
    Jurisdiction(
        code="es", label=N_("Spain"), adult_years=5, minor_age=0, minor_years=0, counted_from="last-visit",
        source="Ley 41/2002, art. 17.1",
        note=N_("At least five years after each course of treatment. Several regions ask for more, and for minors it names no time."),
    ),
    Jurisdiction(
        code="fr", label=N_("France"), adult_years=20, minor_age=28, minor_years=0, counted_from="last-visit",
        source="Code de la santé publique, art. R. 1112-7",
        note=N_(
            "Written for health institutions: twenty years from the last stay or visit, at least until the 28th birthday. "
            "Practices follow it by custom."
        ),
    ),
    Jurisdiction(
        code="gb-eng", label=N_("United Kingdom: England"), adult_years=8, minor_age=26, minor_years=0,
        counted_from="last-visit", source="NHS England, Records Management Code of Practice, Appendix II",
        note=N_(
            "Eight years after the last contact; children until 25, or 26 when 17 at the end (26 is taken for all). "
            "Maternity, mental health and general practice records are kept longer."
        ),
    ),
    Jurisdiction(
        code="nl", label=N_("Netherlands"), adult_years=20, minor_age=0, minor_years=0, counted_from="last-visit",
        source="Burgerlijk Wetboek, art. 7:454 lid 3",
        note=N_("Twenty years from the last change of the record; for minors it names no other time."),
    ),
    Jurisdiction(
        code=OWN, label=N_("Another place, or rules of our own"), adult_years=10, minor_age=18, minor_years=10,
        counted_from="last-visit", source="",
        note=N_("No source is known here. Which law applies, and what it asks, is the clinic’s own responsibility."),
    ),
)  # fmt: skip

BY_CODE = {one.code: one for one in JURISDICTIONS}
WHOLE_RECORD = _WHOLE_RECORD
