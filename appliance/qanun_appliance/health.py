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
    #: The relay, once for each family that this machine has.
    turn: tuple[tuple[str, int], ...] = ()


def where(site: Site) -> Where:
    addresses = own_addresses(site, wait=0)
    workers = media_workers(site, os.cpu_count() or 1)
    families = {":" in address: address for address in reversed(addresses)} if site.turn.enabled else {}
    return Where(
        turn=tuple((families[six], site.turn.port) for six in (False, True) if six in families), media_workers=workers
    )


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
        request = f"GET /health HTTP/1.1\r\nHost: {site.authority}\r\nConnection: close\r\n\r\n"
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
    """Whether it answers in every family."""
    silent = [host for host, port in at.turn if not _answers_stun(host, port)]
    if not at.turn:
        return "this machine has no address"
    return "" if not silent else f"no answer in time at {', '.join(silent)}"


def _answers_stun(host: str, port: int) -> bool:
    """A STUN binding request (RFC 8489), the question every relay answers without knowing who asks."""
    ticket = secrets.token_bytes(12)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(1.0)
        line.connect((host, port))
        for _ in range(3):
            line.send(struct.pack(">HHI", 1, 0, _STUN_MAGIC) + ticket)
            with contextlib.suppress(TimeoutError):
                answer = line.recv(2048)
                # A relay that asks who one is answers with an error of its own: it is there.
                if answer[:2] in {b"\x01\x01", b"\x01\x11"} and answer[8:20] == ticket:
                    return True
    return False


def wait_until_well(
    site: Site, places: Places, at: Where, seconds: float, hopeless: Callable[[], dict[str, str]] = dict
) -> list[Probe]:  # fmt: skip
    """Ask again until all is well, the time is over, or waiting is of no use; the last answers. `hopeless` says which probes
    can no longer become well by waiting, and why; that goes with what they answered."""
    deadline = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        found = probes(site, places, at)
        if all(probe.well for probe in found):
            return found
        lost = hopeless()
        if any(probe.name in lost for probe in found if not probe.well) or time.monotonic() >= deadline:
            return [_more(probe, lost.get(probe.name, "")) for probe in found]
        # A slow machine is not to be kept from starting by being asked whether it has.
        time.sleep(max(1.0, 2 * (time.monotonic() - asked)))


def _more(probe: Probe, why: str) -> Probe:
    return probe if probe.well or not why else Probe(name=probe.name, said=f"{probe.said}; {why}")


#: Nobody starts these again once they have failed, and what answers a probe needs them.
_ONCE = {"qanun-prepare.service": "database", "qanun-migrate.service": "web"}
#: These are started again and again. One that ended so often before its probe was well for the first time will go on so.
_AGAIN = {"qanun-postgresql.service": "database", "qanun-web.service": "web"}
_OFTEN = 6
_ASKED = ("Id", "ActiveState", "Result", "ExecMainStatus", "NRestarts")


def definite(show: Callable[[list[str]], str] | None = None) -> dict[str, str]:
    """Which probes cannot become well any more at this start, by what systemd knows of the services behind them, and why."""
    units = [*_ONCE, *_AGAIN]
    said = (show or _show)([f"--property={','.join(_ASKED)}", *units])
    found: dict[str, str] = {}
    for block in said.split("\n\n"):
        of = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        unit = of.get("Id", "")
        # Between two of its starts a service has no result.
        result = of.get("Result", "")
        how = "" if result in {"", "success"} else f" ({result} {of.get('ExecMainStatus', '')})"
        if unit in _ONCE and of.get("ActiveState") == "failed":
            found[_ONCE[unit]] = f"{unit} failed{how}"
        elif unit in _AGAIN and int(of.get("NRestarts") or 0) >= _OFTEN:
            found[_AGAIN[unit]] = f"{unit} ended {of['NRestarts']} times{how}"
    return found


def _show(words: list[str]) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            ["systemctl", "show", *words], capture_output=True, text=True, check=False, timeout=20
        ).stdout
    return ""


# --- the gate --------------------------------------------------------------------------------------------------------


def gate(places: Places, found: list[Probe]) -> str:
    """Write down how this boot went, where the next one finds it; returns `well`, `stay`, `leave` or `give up`.

    `leave` only from one of the image's slots, only for a release that never was well here, and only where another one
    was: a release that worked is not to blame, and with nothing to go back to, starting again and again helps nobody. Nor
    is a release to blame for a network cable: the relay, which wants an address, does not decide. `give up` when the start
    before was this release's as well and failed: what fails twice is not tried a third time while people wait.
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
    if not (is_slot(places) and proven and running not in proven):
        return "stay"
    return "give up" if [(one["version"], one["well"]) for one in boots[-2:-1]] == [(running, False)] else "leave"


def leave(*, for_good: bool = False) -> None:
    """Start again; the boot loader counts, and goes back to the other slot when this one has used up its tries, which
    `for_good` takes from it at once."""
    if for_good:
        # Not from in here: this service sees no disks.
        subprocess.run(["systemctl", "start", "qanun-give-up.service"], check=False, timeout=60)
    subprocess.run(["systemctl", "reboot"], check=False, timeout=30)
