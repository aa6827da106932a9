"""Reports as pages show them: sentences in the reader's language, ages, sizes. Reads files that root wrote; asks nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from qanun.api import N_, Context, Invalid, isolate
from qanun_appliance import incoming
from qanun_appliance.doctor.sentences import in_words, pieces

#: Written by root every five minutes: twice that without a new one, and what it says may no longer be so.
_STALE_S = 900
#: A step of staging, the backup and its proof among them, takes no longer.
_STAGING_S = 6 * 3600
WISHES = ("doctor", "backup")


def wishes_folder() -> Path:
    return Path(os.environ.get("QANUN_WISHES_DIR") or "/run/qanun-wishes")


def can_wish() -> bool:
    """Whether somebody listens: a machine that is only tried out has no root beside it."""
    return os.access(wishes_folder(), os.W_OK)


def make_wish(name: str, moment: str = "") -> None:
    """Ask root for one of the acts it offers. The name is the message; `moment` is for the one that wants a time."""
    (wishes_folder() / name).write_text(moment, encoding="ascii")
    os.utime(wishes_folder() / name)


def report(ctx: Context, name: str) -> dict[str, Any]:
    path = ctx.runtime.config.state_dir / "reports" / f"{name}.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def moment(report: Mapping[str, Any], name: str = "at") -> datetime | None:
    try:
        return datetime.fromisoformat(str(report[name]))
    except (KeyError, ValueError):
        return None


def health(ctx: Context) -> dict[str, Any]:
    """`{"at", "stale", "todo", "well", "notes", "version"}`; `at` is None when no doctor has been here."""
    found = report(ctx, "doctor")
    at = moment(found)
    rows = [_row(ctx, finding) for finding in found.get("findings", [])]
    todo = [row for row in rows if row["level"] in {"warn", "crit"}]
    return {
        "at": at, "stale": at is not None and (ctx.now - at).total_seconds() > _STALE_S, "version": found.get("version", ""),
        "todo": todo, "urgent": [row for row in todo if row["level"] == "crit"],
        "well": [row for row in rows if row["level"] in {"ok", "info"}],
    }  # fmt: skip


def _row(ctx: Context, finding: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: isolate(str(value)) for name, value in finding.get("values", {}).items()}
    said, mend = in_words(str(finding.get("code", "")), values, ctx.locale.resolve)
    return {"level": finding.get("level", "info"), "said": pieces(said), "mend": pieces(mend)}


def backups(ctx: Context) -> dict[str, Any]:
    """What was taken, what was proven, what arrived since, and whether somebody holds the key."""
    taken, proven, log = (_filled(report(ctx, name)) for name in ("backup", "drill", "log"))
    total, free = int(taken.get("total", 0)), int(taken.get("free", 0))
    return {
        "taken": taken, "taken_at": moment(taken, "last_well"), "proven": proven, "proven_at": moment(proven, "last_well"),
        "log": log, "log_at": moment(log, "last_well"), "key_kept": bool(report(ctx, "recovery-key").get("verified")),
        "total_gb": f"{total / 1e9:.0f}" if total else "", "free_gb": f"{free / 1e9:.1f}",
        "used_gb": f"{int(taken.get('used', 0)) / 1e9:.1f}", "oldest": _set_moment(str(taken.get("oldest", ""))),
    }  # fmt: skip


def _filled(found: dict[str, Any]) -> dict[str, Any]:
    """A report of any age with all that a page asks for; empty stays empty."""
    usual = {"well": False, "why": "", "rows": 0, "files": 0, "seconds": 0, "sets": 0}
    return {**usual, **found} if found else {}


def _set_moment(name: str) -> datetime | None:
    try:
        return datetime.strptime(f"{name}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return None


#: What staging says while it is at work, in words of the page.
_STEPS: Mapping[str, Any] = {
    "signature, product and version": N_("Signature, product and version are checked"),
    "hashes": N_("Every byte is compared with what was signed"), "room": N_("Room is looked for"),
    "backup, and its restore into a copy": N_("A backup is taken and proven by restoring it"),
    "reading it back": N_("What was written is read back"), "boot entry": N_("It is made ready to start"),
}  # fmt: skip


def minute_of(ctx: Context, typed: str, *, stay: bool) -> str:
    """The moment in the one spelling that root reads. Raises Invalid."""
    if stay:
        return "never"
    if not typed:
        return ctx.now.isoformat(timespec="seconds")
    try:
        moment = datetime.strptime(typed, "%Y-%m-%dT%H:%M").replace(tzinfo=ctx.tenant.zone)
    except ValueError:
        raise Invalid({"minute": N_("Choose a day and a minute.")}) from None
    if not ctx.now <= moment <= ctx.now + timedelta(days=7):
        raise Invalid({"minute": N_("Choose a minute within the next seven days.")})
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _staging(ctx: Context) -> dict[str, Any]:
    found = {"state": "", "step": "", "why": "", "version": "", **report(ctx, "staging")}
    at = moment(found)
    if found["state"] == "working" and (at is None or (ctx.now - at).total_seconds() > _STAGING_S):
        found["state"] = ""  # whoever was at work was cut off; the file is asked for again
    said = _STEPS.get(str(found["step"]), N_("It is written into the spare half of the disk"))
    return {**found, "said": ctx.locale.resolve(said)}


def _planned(ctx: Context) -> datetime | None:
    moment_ = moment(report(ctx, "restart"), "planned")
    return moment_ if moment_ is not None and moment_ > ctx.now else None


def updates(ctx: Context) -> dict[str, Any]:
    """What runs, what lies beside it, and how the last release fared, with its notes in the reader's language."""
    found = report(ctx, "update")
    usual = {"version": "", "state": "", "why": "", "without_backup": ""}
    last = {**usual, **found["last"]} if found.get("last") else {}
    notes = last.get("notes") or {}
    history = [{**usual, **entry, "at": moment(entry)} for entry in reversed(found.get("history", []))]
    return {
        "running": found.get("running") or report(ctx, "doctor").get("version", ""), "other": found.get("other", ""),
        "last": last, "last_at": moment(last), "notes": notes.get(ctx.locale.code) or notes.get("en", ""),
        "interrupted": bool(found.get("interrupted")), "history": history, "known": bool(found),
        "staging": _staging(ctx), "planned": _planned(ctx), "whole": incoming.is_whole(ctx.runtime.config.state_dir),
        "piece": incoming.PIECE,
    }  # fmt: skip
