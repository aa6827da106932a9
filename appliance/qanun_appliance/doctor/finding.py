"""What a check finds, and the reports that the box's own work leaves for it to look at."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from qanun_appliance.places import Places

Level = Literal["ok", "info", "warn", "crit"]
ORDER: tuple[Level, ...] = ("ok", "info", "warn", "crit")


@dataclass(frozen=True, slots=True)
class Finding:
    """`code` names a sentence, `values` fill it. `warn` wants a person this week, `crit` today."""

    code: str
    level: Level
    values: dict[str, Any] = field(default_factory=dict)


def ok(code: str, **values: Any) -> Finding:
    return Finding(code, "ok", values)


def warn(code: str, **values: Any) -> Finding:
    return Finding(code, "warn", values)


def crit(code: str, **values: Any) -> Finding:
    return Finding(code, "crit", values)


def report(places: Places, name: str) -> dict[str, Any]:
    """The newest report of one kind; empty when there is none."""
    try:
        found = json.loads((places.reports / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
