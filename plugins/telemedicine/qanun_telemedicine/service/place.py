"""Where a patient is during a visit, and whom to call for help there: asked before it starts, seen by who holds it.

The numbers are those for an ambulance, or for all emergencies where a country has one number. They are a help and not an
authority: who holds the visit sees the country beside the number, and the clinic checks the list for the places its
patients call from. A country that is not listed shows no number rather than a guess.
"""

from __future__ import annotations

from babel import Locale

from qanun.api import N_, Conflict, Context, Invalid, ResourceRef
from qanun_telemedicine.models import OPEN, Consultation

MOST_LETTERS = 300
_EU = "AT BE BG HR CY CZ DK EE FI FR DE GR HU IE IT LV LT LU MT NL PL PT RO SK SI ES SE IS NO"
NUMBERS = {
    **dict.fromkeys(_EU.split(), "112"),
    "GB": "999", "CH": "144", "TR": "112", "US": "911", "CA": "911", "AU": "000", "NZ": "111",
    "MA": "150", "TN": "190", "EG": "123", "JO": "911", "LB": "140", "SA": "997", "AE": "998", "QA": "999", "KW": "112",
    "BH": "999", "OM": "9999", "IQ": "122", "IR": "115",
}  # fmt: skip


def countries(ctx: Context) -> list[tuple[str, str]]:
    """(code, name in the reader's language) of every country, the clinic's own first."""
    territories = Locale.parse(ctx.locale.code, sep="-").territories
    known = sorted(
        (
            (code, str(name))
            for code, name in territories.items()
            if len(code) == 2 and code.isalpha() and code not in _NONE
        ),
        key=lambda one: one[1],
    )
    return sorted(known, key=lambda one: one[0] != ctx.tenant.country)


#: Babel lists groups and outlying parts beside countries.
_NONE = frozenset({"EU", "EZ", "UN", "QO", "XA", "XB", "ZZ"})


def emergency_number(country: str) -> str:
    """The number to call for an ambulance there; empty when it is not known."""
    return NUMBERS.get(country, "")


async def confirm_place(ctx: Context, row: Consultation, text: str, country: str) -> None:
    """Keep where the patient is now. Raises Invalid (nothing, too long, no country) or Conflict (over)."""
    if row.state not in OPEN:
        raise Conflict("the consultation is over")
    text = " ".join(text.split())
    faults: dict[str, object] = {}
    if len(text) < 3:
        faults["place"] = N_("Write the street, the number and the town.")
    elif len(text) > MOST_LETTERS:
        faults["place"] = N_("Please make it shorter: at most 300 letters.")
    if country not in {code for code, _ in countries(ctx)}:
        faults["country"] = N_("Choose one of the listed values.")
    if faults:
        raise Invalid(faults)
    row.place, row.place_country, row.place_at = text, country, ctx.now
    row.place_by = "patient" if ctx.actor.kind == "patient" else "staff"
    ctx.audit(
        "telemedicine.place.confirm", patient_id=row.patient_id, entity=ResourceRef("Consultation", row.id),
        detail={"country": country, "by": row.place_by},
    )  # fmt: skip
    ctx.notify("telemedicine.consultation", consultation=row.id, patient=row.patient_id)


def country_name(ctx: Context, code: str) -> str:
    return str(Locale.parse(ctx.locale.code, sep="-").territories.get(code, code))
