"""What the administrator's page may ask of root about releases: put the file that came in into the spare slot, start into it at a
minute, stay, go back. Three names and one moment in one spelling; everything else is refused.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from qanun.api import ConfigurationError, QanunError
from qanun_appliance.incoming import WHOLE, folder
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private

NAMES = ("stage", "restart", "rollback")
_MOST_AHEAD = timedelta(days=7)
_TIMER = "qanun-planned-restart"
NEVER = "never"


def tell(places: Places, name: str, **values: Any) -> None:
    values = {**values, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    write_private(places.reports / f"{name}.json", json.dumps(values, indent=1).encode(), 0o644)


def stage_what_came(places: Places, stage: Callable[[Path, Callable[[str], None]], dict[str, Any]]) -> bool:
    """`stage` proves and writes; how far it is stands in the report `staging`. The file is gone afterwards, good or not."""
    source, mine = folder(places.data) / WHOLE, places.data / "updates" / WHOLE
    try:
        found = source.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise ConfigurationError("what came in is no plain file")
        mine.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(source, mine)  # from now on no other account can put something else in its place
        done = stage(mine, lambda step: tell(places, "staging", state="working", step=step))
        tell(places, "staging", state="done", version=done["version"])
    except (QanunError, OSError, subprocess.SubprocessError) as error:
        tell(places, "staging", state="failed", why=str(error))
        return False
    finally:
        mine.unlink(missing_ok=True)
    return True


def planned_moment(text: str, now: datetime) -> datetime | None:
    """The moment that a wish names; None to stay. Raises ConfigurationError for anything else."""
    words = text.strip()
    if words == NEVER:
        return None
    try:
        moment = datetime.fromisoformat(words[:40])
    except ValueError:
        raise ConfigurationError("the wish names no moment") from None
    if moment.tzinfo is None or not now - timedelta(minutes=2) <= moment <= now + _MOST_AHEAD:
        raise ConfigurationError("the wish names no moment within the next seven days")
    return max(moment.astimezone(UTC), now + timedelta(seconds=5))


def plan_restart(places: Places, text: str, now: datetime | None = None) -> datetime | None:
    """Once, at that moment; a former plan is forgotten first."""
    moment = planned_moment(text, now or datetime.now(UTC))
    if places.is_machine:
        subprocess.run(["systemctl", "stop", f"{_TIMER}.timer"], capture_output=True, check=False, timeout=30)
    if moment is None:
        tell(places, "restart", planned="")
        return None
    if places.is_machine:
        # Of a unit that is there already: what starts then is shut in like everything else.
        words = ["systemd-run", f"--unit={_TIMER}.service", f"--on-calendar={moment:%Y-%m-%d %H:%M:%S} UTC",
                 "--timer-property=AccuracySec=1s"]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            raise ConfigurationError(f"systemd-run: {done.stderr.strip()[-300:]}")
    tell(places, "restart", planned=moment.isoformat(timespec="seconds"))
    return moment
