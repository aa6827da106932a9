"""Figures beside what they must not exceed, and the table that says which did."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bar:
    """A figure and what it must not exceed (or, with `at_least`, must reach)."""

    name: str
    value: float
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit


def judged(bars: Sequence[Bar]) -> int:
    """Print them; what the measurement ends with: 1 when one is missed."""
    width = max(len(bar.name) for bar in bars)
    for bar in bars:
        relation = "≥" if bar.at_least else "≤"
        verdict = "ok" if bar.met else "MISSED"
        print(f"{bar.name:{width}}  {bar.value:10.1f} {bar.unit:5} {relation} {bar.limit:g}  {verdict}")
    return 0 if all(bar.met for bar in bars) else 1
