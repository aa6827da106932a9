"""What root's programs found out, where the administrator's pages and the doctor read it: one file for each kind, no secret, no
personal data. What a report says is its writer's.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private


def note(places: Places, what: str, report: dict[str, Any]) -> None:
    """The newest report of one kind, and when it last went well: what the pages and the doctor read."""
    path = places.reports / f"{what}.json"
    before: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        before = json.loads(path.read_text(encoding="utf-8"))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    last_well = now if report.get("well") else before.get("last_well", "")
    kept = {name: before[name] for name in ("used", "free", "total", "sets", "oldest", "where") if name in before}
    write_private(path, json.dumps({**kept, **report, "at": now, "last_well": last_well}, indent=1).encode(), 0o644)
