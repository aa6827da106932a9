"""What a check finds: a code with values, and how grave it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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
