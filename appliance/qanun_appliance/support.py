"""What an engineer elsewhere needs to help, and nothing about anybody: versions, states, findings, logs without their words.

Logs are rebuilt from what is known to be harmless, not cleaned of what is known to be harmful; and before the file is
handed over it is searched for the names and numbers that this machine knows, and refused when one is in it.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psycopg

from qanun.api import QanunError
from qanun_appliance.places import Places
from qanun_appliance.secrets import write_private
from qanun_appliance.site import Site

#: Fields of our own log lines that hold names of things in the program, or numbers.
_HARMLESS = frozenset(
    {"event", "level", "timestamp", "plugin", "plugins", "code", "status", "job", "hook", "contribution", "method",
     "path_template", "duration_ms", "attempt", "count", "logger", "version"}
)  # fmt: skip
_WORD = re.compile(r"[a-z][a-z0-9_.:/{}\- ]{0,80}")
_FRAME = re.compile(r'^\s*File "([^"]*)", line (\d+), in (\w+)')
_RAISED = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Timeout|Unavailable|Violation|Conflict|Invalid))\b")
_LINES = 4000
_UNITS = ("qanun-*", "caddy.service", "chrony.service", "nftables.service")
_TABLES = (("core_patient", ("given", "family", "given_alt", "family_alt")), ("core_user", ("name", "email")))


class Leaks(QanunError):
    """Something personal was found in the file; it was not written."""

    code = "support-bundle-leaks"


def support_bundle(site: Site, places: Places, target: Path, *, journal: str | None = None, url: str = "") -> list[str]:
    """Write `target` (tar.gz, for its owner only); the names of what is in it. Raises Leaks and writes nothing."""
    parts = {
        "versions.json": _json({one.metadata["Name"]: one.version for one in distributions()}),
        "site.json": _json(_site(site)),
        "machine.txt": _machine(),
        "units.txt": _output(
            "systemctl", "list-units", "--all", "--plain", "--no-legend", "--no-pager", "qanun*", "caddy*"
        ),
        "log.jsonl": log_without_words(journal if journal is not None else _journal()),
    }
    for path in sorted(places.reports.glob("*.json")):
        parts[f"reports/{path.name}"] = _json(_report(path))
    private = _known(site) | (_people(url) if url else set())
    for name, text in parts.items():
        _refuse(name, text, private)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, text in parts.items():
            member = tarfile.TarInfo(f"qanun-support/{name}")
            content = text.encode()
            member.size, member.mtime = len(content), int(time.time())
            archive.addfile(member, io.BytesIO(content))
    write_private(target, packed.getvalue())
    return list(parts)


# --- what is in it -----------------------------------------------------------------------------------------------------


def _site(site: Site) -> dict[str, Any]:
    """How the machine is set up, without whose it is or where."""
    return {
        "language": site.language, "network": site.network.mode, "certificate": site.certificate.kind,
        "hosts": len(site.hosts), "turn": site.turn.enabled, "turn_external": bool(site.turn.external),
        "media_port": site.media_port, "ssh": site.ssh, "web_workers": site.web_workers,
        "backup": site.backup.target.partition(":")[0] if ":" in site.backup.target else bool(site.backup.target),
        "time_servers": len(site.time_servers),
    }  # fmt: skip


def _report(path: Path) -> Any:
    """A report's numbers and codes; its sentences may quote what another program said."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unreadable"
    return _numbers(found)


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _numbers(item) for name, item in value.items() if name not in {"notes", "kept"}}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w.:+\-]{0,40}", value, re.ASCII) else _plain(value)
    return value


def log_without_words(text: str) -> str:
    """Log lines (journalctl's JSON) with what is harmless of each: our own by field, others' by the shape of their words."""
    lines = []
    for raw in text.splitlines()[-_LINES:]:
        try:
            entry = json.loads(raw)
            message = entry["MESSAGE"]
        except (ValueError, KeyError, TypeError):
            continue
        if not isinstance(message, str):
            continue
        kept: dict[str, Any] = {"unit": str(entry.get("_SYSTEMD_UNIT", ""))[:60], "at": _at(entry)}
        try:
            ours = json.loads(message)
        except ValueError:
            ours = None
        if isinstance(ours, dict):
            kept |= {name: _harmless(value) for name, value in ours.items() if name in _HARMLESS}
            if isinstance(ours.get("exception"), str):
                kept["raised"] = trace_without_words(ours["exception"])
        else:
            kept["said"] = _plain(message)
        lines.append(json.dumps(kept, ensure_ascii=True))
    return "\n".join(lines) + "\n"


def trace_without_words(text: str) -> list[str]:
    """Where something went wrong and what kind it was; what it said is left out."""
    found = []
    for line in text.splitlines():
        frame, raised = _FRAME.match(line), _RAISED.match(line.strip())
        if frame:
            found.append(f"{Path(frame[1]).name}:{frame[2]} {frame[3]}")
        elif raised:
            found.append(raised[1])
    return found[-40:]


def _harmless(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [_harmless(item) for item in value[:40]]
    text = str(value)
    return text if _WORD.fullmatch(text) or re.fullmatch(r"[\d\-T:.Z+]{1,40}", text) else "…"


def _plain(text: str) -> str:
    """Another program's sentence: quoted text, names with capitals inside, addresses and long numbers become `…`."""
    text = re.sub(r"\"[^\"]*\"|'[^']*'|\([^)]*\)", "…", text[:400])
    return " ".join(word if _is_common(word) else "…" for word in text.split())


def _is_common(word: str) -> bool:
    """Lower-case words, a capital at the beginning only of the few that daemons use, short numbers."""
    bare = word.strip(".,:;[]")
    return bool(
        re.fullmatch(
            r"[a-z]{1,18}|\d{1,4}|…|[-=]+|LOG|FATAL|PANIC|INFO|ERROR|WARNING|DETAIL|HINT|STATEMENT|PostgreSQL|TURN|TLS",
            bare,
        )
    )


def _at(entry: Mapping[str, Any]) -> str:
    try:
        return datetime.fromtimestamp(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, UTC).isoformat(timespec="milliseconds")
    except (KeyError, ValueError, TypeError, OverflowError):
        return ""


def _journal() -> str:
    units = [word for unit in _UNITS for word in ("--unit", unit)]
    return _output("journalctl", "--output=json", "--no-pager", f"--lines={_LINES}", *units)


def _machine() -> str:
    memory = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()[:3]
    load = Path("/proc/loadavg").read_text(encoding="ascii").split()[:3]
    disks = _output("df", "--output=pcent,size,used,fstype,target", "-x", "tmpfs", "-x", "devtmpfs")
    return "\n".join((*memory, "load: " + " ".join(load), disks))


def _output(*words: str) -> str:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, errors="replace").stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True, sort_keys=True) + "\n"


# --- the search --------------------------------------------------------------------------------------------------------


def _known(site: Site) -> set[str]:
    clinic = site.clinic
    texts = (clinic.name, clinic.name_alt, clinic.slug, clinic.phone, site.administrator_name, site.administrator_email,
             *(host for host in site.hosts if host != "localhost"), site.network.address.partition("/")[0])  # fmt: skip
    return {text for text in texts if len(text) >= 4}


def _people(url: str) -> set[str]:
    """Names, as the database has them, of everybody it knows; a sample where there are very many."""
    found: set[str] = set()
    with psycopg.connect(url, connect_timeout=5) as connection:
        for table, columns in _TABLES:
            rows = connection.execute(f"select {', '.join(columns)} from {table} limit 20000").fetchall()  # type: ignore[call-overload] # noqa: S608 - our own names
            found |= {str(value) for row in rows for value in row if value and len(str(value)) >= 5}
    return found


def _refuse(name: str, text: str, private: Iterable[str]) -> None:
    """Raises Leaks when a name stands in the text, written out or in JSON's spelling of other scripts."""
    spelled = re.sub(r"\\u([0-9a-f]{4})", lambda code: chr(int(code[1], 16)), text)
    lower = f"{text}\n{spelled}".lower()
    words = set(re.findall(r"\w+", lower))
    for value in private:
        parts = re.findall(r"\w+", value.lower())
        # Most names are no word of the file at all; only the others are looked for as they stand.
        if parts and all(part in words for part in parts) and value.lower() in lower:
            raise Leaks(
                f"{name} would name somebody or something of this clinic; it was not written. Tell the maintainers"
            )
    if found := re.search(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", lower):
        raise Leaks(f"{name} holds an address ({len(found.group(0))} letters); it was not written")
