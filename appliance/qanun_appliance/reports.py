"""What root's programs found out, where the administrator's pages and the doctor read it: one file for each kind, no secret, no
personal data. What a report says is its writer's.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private


def note(places: Places, what: str, found: dict[str, Any]) -> None:
    """The newest report of one kind, and when it last went well: what the pages and the doctor read."""
    before = report(places, what)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last_well = now if found.get("well") else before.get("last_well", "")
    kept = {name: before[name] for name in ("used", "free", "total", "sets", "oldest", "where") if name in before}
    content = json.dumps({**kept, **found, "at": now, "last_well": last_well}, indent=1)
    write_private(places.reports / f"{what}.json", content.encode(), 0o644)


def report(places: Places, name: str) -> dict[str, Any]:
    """The newest report of one kind; empty when there is none."""
    try:
        found = json.loads((places.reports / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
