"""Does this machine do what people came for: the page through the proxy, records, calls. Asked from outside, like a browser.

It is the gate of a boot: a release that cannot answer here is left again. Findings for people are the doctor's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from qanun_appliance.addresses import own_addresses
from qanun_appliance.apply import is_slot
from qanun_appliance.places import Places, running_release
from qanun_appliance.render.services import media_workers
from qanun_appliance.secrets import write_private
from qanun_appliance.site import Site

_TRY_S = 5.0
_STUN_MAGIC = 0x2112A442
#: What a release answers for, whatever network it stands in.
_DECIDES = frozenset({"web", "database", "media"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One answer: `name` is `web`, `database`, `media` or `turn`; `said` is why not, empty when it is well."""

    name: str
    said: str = ""

    @property
    def well(self) -> bool:
        return not self.said


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where this machine's services answer; tests point it elsewhere."""

    https: tuple[str, int] = ("127.0.0.1", 443)
    database: str = "postgresql://postgres@/qanun?host=/run/postgresql"
    media: Path = Path("/run/qanun/media.sock")
    media_workers: int = 1
    turn: tuple[str, int] | None = None


def where(site: Site) -> Where:
    addresses = own_addresses(site, wait=0)
    workers = media_workers(site, os.cpu_count() or 1)
    return Where(
        turn=(addresses[0], site.turn.port) if site.turn.enabled and addresses else None, media_workers=workers
    )  # fmt: skip


def probes(site: Site, places: Places, at: Where) -> list[Probe]:
    """Ask everything once, each with its own time limit."""
    asked: list[tuple[str, Callable[[], str]]] = [
        ("web", lambda: _web(site, places, at)),
        ("database", lambda: _database(at)),
        ("media", lambda: _media(at)),
    ]
    if site.turn.enabled:
        asked.append(("turn", lambda: _turn(at)))
    found = []
    for name, ask in asked:
        try:
            said = ask()
        except (OSError, http.client.HTTPException, psycopg.Error, ValueError) as error:
            said = _words(error)
        found.append(Probe(name=name, said=said))
    return found


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _web(site: Site, places: Places, at: Where) -> str:
    trust = ssl.create_default_context()
    if site.certificate.kind == "own":
        trust.load_verify_locations(places.tls / "qanun-ca.crt")
    else:
        # A public authority may not have answered yet, a given chain may be the clinic's own: the doctor looks at that.
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection(at.https, timeout=_TRY_S)
    with plain, trust.wrap_socket(plain, server_hostname=site.hosts[0]) as line:
        request = f"GET /health HTTP/1.1\r\nHost: {site.hosts[0]}\r\nConnection: close\r\n\r\n"
        line.sendall(request.encode("ascii"))
        answer = http.client.HTTPResponse(line)
        answer.begin()
        body = answer.read(4096)
    if answer.status != 200:
        return f"the page answers {answer.status}"
    try:
        state = json.loads(body)["status"]
    except (ValueError, KeyError, TypeError):
        return "the answer is not Qanun's"
    return "" if state == "ok" else f"says {state}"


def _database(at: Where) -> str:
    with psycopg.connect(at.database, connect_timeout=int(_TRY_S)) as connection:
        connection.execute("select 1")
    return ""


def _media(at: Where) -> str:
    """Every worker: with one of them gone, calls go on at the others, and the clinic is to know."""
    for number in range(1, at.media_workers + 1):
        path = at.media if number == 1 else at.media.with_name(f"{at.media.stem}-{number}{at.media.suffix}")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_TRY_S)
            try:
                line.connect(str(path))
            except OSError as error:
                if at.media_workers == 1:
                    raise
                return f"worker {number} of {at.media_workers}: {_words(error)}"
    return ""


def _turn(at: Where) -> str:
    """A STUN binding request (RFC 8489), the question every relay answers without knowing who asks."""
    if at.turn is None:
        return "this machine has no address"
    ticket = secrets.token_bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(1.0)
        line.connect(at.turn)
        for _ in range(3):
            line.send(struct.pack(">HHI", 1, 0, _STUN_MAGIC) + ticket)
            with contextlib.suppress(TimeoutError):
                answer = line.recv(2048)
                # A relay that asks who one is answers with an error of its own: it is there.
                if answer[:2] in {b"\x01\x01", b"\x01\x11"} and answer[8:20] == ticket:
                    return ""
    return "no answer in time"


def wait_until_well(site: Site, places: Places, at: Where, seconds: float) -> list[Probe]:
    """Ask again until all is well or the time is over; the last answers."""
    deadline = time.monotonic() + seconds
    while True:
        found = probes(site, places, at)
        if all(probe.well for probe in found) or time.monotonic() >= deadline:
            return found
        time.sleep(1.0)


# --- the gate --------------------------------------------------------------------------------------------------------


def gate(places: Places, found: list[Probe]) -> str:
    """Write down how this boot went, where the next one finds it; returns `well`, `stay` or `leave`.

    `leave` only from one of the image's slots, only for a release that never was well here, and only where another one
    was: a release that worked is not to blame, and with nothing to go back to, starting again and again helps nobody. Nor
    is a release to blame for a network cable: the relay, which wants an address, does not decide.
    """
    running = running_release(places)
    report = places.reports / "boot.json"
    try:
        before = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    proven = list(before.get("proven", []))
    well = all(probe.well for probe in found if probe.name in _DECIDES)
    if well:
        proven = [*[one for one in proven if one != running], running][-5:]
    boots = [*before.get("boots", []), {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "version": running, "well": well,
        "faults": {probe.name: probe.said for probe in found if not probe.well},
    }][-20:]  # fmt: skip
    write_private(report, json.dumps({"proven": proven, "boots": boots}, indent=1).encode(), 0o644)
    os.sync()
    if well:
        return "well"
    return "leave" if is_slot(places) and proven and running not in proven else "stay"


def leave() -> None:
    """Start again; the boot loader counts, and goes back to the other slot when this one has used up its tries."""
    subprocess.run(["systemctl", "reboot"], check=False, timeout=30)
