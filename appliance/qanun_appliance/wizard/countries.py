"""What a country usually has: time zone, currency; and the lists that people choose from. Suggestions, never decisions."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from zoneinfo import available_timezones

from babel import Locale as Words
from babel.numbers import get_territory_currencies

_NO_COUNTRY = frozenset({"EU", "EZ", "UN", "XA", "XB", "QO", "ZZ"})
_ZONES = Path("/usr/share/zoneinfo/zone.tab")


@cache
def countries(language: str) -> tuple[tuple[str, str], ...]:
    """(code, name) in that language, by name."""
    names = Words(language).territories
    found = [(code, str(name)) for code, name in names.items() if len(code) == 2 and code.isalpha()]
    return tuple(sorted((one for one in found if one[0] not in _NO_COUNTRY), key=lambda one: one[1].casefold()))


def currency_of(country: str) -> str:
    found = get_territory_currencies(country) if country else []
    return str(found[-1]) if found else "USD"


@cache
def _zones_by_country() -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    try:
        lines = _ZONES.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        parts = line.split("\t")
        if not line.startswith("#") and len(parts) >= 3:
            found.setdefault(parts[0], []).append(parts[2])
    return {country: tuple(zones) for country, zones in found.items()}


def zones(country: str) -> tuple[list[str], list[str]]:
    """(those of the country, the others)."""
    near = list(_zones_by_country().get(country, ()))
    every = sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "SystemV/")))
    return near, ["UTC", *(zone for zone in every if zone not in near)]


def zone_of(country: str) -> str:
    near = _zones_by_country().get(country, ())
    return near[0] if near else "UTC"
