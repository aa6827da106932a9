"""The second half of `./appliance/try`, inside the environment: database, demonstration clinics, all services, and their end.

Everything it keeps lies in one folder that `--reset` throws away. It is for trying Qanun out on one machine; what makes
an appliance safe to rely on (encrypted disks, backups, updates) is the image's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import http.server
import os
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from bootstrap import HOME, ROOT, Missing, Steps, debian_program, environment, run
from services import Daemon, Keeper, daemon, services

from qanun.config import Config
from qanun.db.embedded import EmbeddedPostgres
from qanun_appliance.local_ca import server_certificate

_SIOCGIFADDR = 0x8915
_LONGEST_SOCKET_PATH = 85


def main(options: argparse.Namespace, steps: Steps) -> int:
    state = HOME / "try"
    state.mkdir(parents=True, exist_ok=True)
    with (state / "running").open("a+") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mark.seek(0)
            print(f"Qanun is running already: {mark.read().strip() or 'it is just starting'}", file=sys.stderr)
            return 1
        mark.truncate(0)
        if options.reset:
            _reset(state)
        return asyncio.run(_run(options, steps, state, mark))


def _reset(state: Path) -> None:
    for place in (*state.iterdir(), _outside()):
        if place.name != "running":
            shutil.rmtree(place, ignore_errors=True) if place.is_dir() else place.unlink(missing_ok=True)
    print("The demonstration clinics and everything entered into them are gone; making new ones.")


async def _run(options: argparse.Namespace, steps: Steps, state: Path, mark) -> int:  # type: ignore[no-untyped-def]
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    place = _runtime_folder(state)
    postgres = EmbeddedPostgres(place / "pg")
    try:
        notes: list[str] = []
        with steps.step("Relay for calls (coturn)"):
            try:
                debian_program("turnserver", "coturn", steps)
            except Missing as missing:
                notes.append(f"No TURN relay ({str(missing).splitlines()[0]}). Calls work where a browser reaches this "
                             "machine directly; from behind strict firewalls they do not.")  # fmt: skip
        with steps.step("Database"):
            await asyncio.to_thread(postgres.start)
        settings, base = _settings(options, state, place, postgres, notes)
        config = Config.from_environment(settings)
        with steps.step("Tables and demonstration clinics"):
            sign_ins = await asyncio.to_thread(_prepare, settings, state, steps)
        keeper = Keeper(settings, state / "logs")
        try:
            with steps.step("Web server, media server, relay and background work"):
                _start(keeper, options, config, state, notes)
                if not await _answers(f"{base.split(':')[0]}://127.0.0.1:{options.port}", stopping, keeper):
                    if stopping.is_set():
                        return 130
                    raise Missing(f"the web server did not answer; see {state / 'logs' / 'web.log'}")
            mark.write(base)
            mark.flush()
            _welcome(base, sign_ins, notes, options, state)
            await stopping.wait()
            print("\nStopping …", flush=True)
        finally:
            await keeper.stop()
    finally:
        await asyncio.to_thread(postgres.halt)
        mark.truncate(0)
    print("Stopped. What was entered is kept; ./appliance/try goes on from there.")
    return 0


# --- where things are -------------------------------------------------------------------------------------------------


def _outside() -> Path:
    return Path("/var/tmp") / f"qanun-try-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]}"  # noqa: S108


def _runtime_folder(state: Path) -> Path:
    """Where sockets and the cluster live: in the state folder, unless its path is too long for a socket or root's alone."""
    passable = os.geteuid() != 0 or all(one.stat().st_mode & 0o001 for one in (state, *state.parents))
    if passable and len(str(state)) < _LONGEST_SOCKET_PATH:
        return state
    outside = _outside()
    outside.mkdir(mode=0o711, exist_ok=True)
    if outside.stat().st_uid != os.geteuid() or outside.is_symlink():
        raise Missing(f"{outside} belongs to somebody else")
    return outside


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses but loopback: browsers use no loopback for media."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", name.encode()[:15])
            with contextlib.suppress(OSError):
                found.append(socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, asked)[20:24]))
    return [address for address in found if not address.startswith("127.")]


def _free(port: int, *kinds: socket.SocketKind) -> bool:
    for kind in kinds:
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - only asks whether it is free
            except OSError:
                return False
    return True


def _next_free(port: int, *kinds: socket.SocketKind) -> int:
    return next(number for number in range(port, port + 200) if _free(number, *kinds))


def _settings(
    options: argparse.Namespace, state: Path, place: Path, postgres: EmbeddedPostgres, notes: list[str]
) -> tuple[dict[str, str], str]:
    """The environment of every service, and the address people open."""
    addresses = own_addresses()
    if not addresses:
        addresses = ["127.0.0.1"]
        notes.append("This machine has no network address of its own; browsers refuse media over loopback, so calls will "
                     "not connect. Everything else works.")  # fmt: skip
    if not _free(options.port, socket.SOCK_STREAM):
        raise Missing(f"port {options.port} is in use; choose another one: ./appliance/try --port {options.port + 10}")
    scheme, host = ("https", addresses[0]) if options.lan else ("http", "localhost")
    base = f"{scheme}://{host}:{options.port}"
    media = _next_free(8100, socket.SOCK_DGRAM)
    turn = _next_free(3478, socket.SOCK_DGRAM, socket.SOCK_STREAM)
    settings = {
        **environment(),
        "QANUN_DATABASE_URL": postgres.application_url,
        "QANUN_OWNER_DATABASE_URL": postgres.owner_url,
        "QANUN_STATE_DIR": str(state),
        "QANUN_BASE_URL": base,
        "QANUN_MEDIA_SOCKET": str(place / "media.sock"),
        "QANUN_MEDIA_LISTEN": f"0.0.0.0:{media}",
        "QANUN_MEDIA_ADVERTISE": ",".join(addresses),
    }
    if shutil.which("turnserver", path=settings["PATH"]):
        settings |= {
            "QANUN_TURN_URLS": ",".join(f"turn:{addresses[0]}:{turn}?transport={way}" for way in ("udp", "tcp")),
            "QANUN_TURN_LISTEN": ",".join(addresses),
            "QANUN_TURN_PORT": str(turn),
            "QANUN_TURN_SECRET_FILE": str(state / "turn" / "secret"),
        }
    return settings, base


# --- doing it ----------------------------------------------------------------------------------------------------------


def _prepare(settings: dict[str, str], state: Path, steps: Steps) -> list[list[str]]:
    qanun = [sys.executable, "-m", "qanun"]
    run([*qanun, "keys", "create"], env=settings)
    run([*qanun, "db", "upgrade"], env=settings, on_line=steps.tell)
    kept = state / "sign-ins"
    # Opened on another day, it gets a fresh day to show.
    if not kept.exists() or time.time() - kept.stat().st_mtime > 12 * 3600:
        printed = run([*qanun, "demo", "seed"], env={**settings, "PYTHONUNBUFFERED": "1"}, on_line=steps.tell)
        kept.write_text(
            "".join(f"{line}\n" for line in printed.splitlines() if line.startswith(("sign-in\t", "password\t")))
        )
    return [line.split("\t") for line in kept.read_text().splitlines()]


def _start(keeper: Keeper, options: argparse.Namespace, config: Config, state: Path, notes: list[str]) -> None:
    for service in services(config):
        found = daemon(service, config)
        if shutil.which(found.command[0], path=keeper.environment["PATH"]) is None:
            continue  # said already, with what follows from it
        keeper.keep(found)
    serve = [sys.executable, "-m", "qanun", "serve", "--port", str(options.port)]
    if options.lan:
        chain, key, root = server_certificate(state / "ca", list(config.media_advertise))
        serve += ["--host", "0.0.0.0", "--certificate", str(chain), "--certificate-key", str(key)]  # noqa: S104
        port = _next_free(options.port + 1, socket.SOCK_STREAM)
        _offer_root(root, port)
        notes.append(f"For other devices: open http://{config.media_advertise[0]}:{port} once and trust the certificate "
                     "offered there; without it the browser warns, and phones may refuse the camera.")  # fmt: skip
    keeper.keep(Daemon("web", serve))
    keeper.keep(Daemon("jobs", [sys.executable, "-m", "qanun", "worker"]))


def _offer_root(root: Path, port: int) -> None:
    """Hand out the authority's certificate, and nothing else, over plain HTTP: it is public, and nobody trusts us yet."""
    content = root.read_bytes()
    text = ("<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'><title>Qanun</title>"
            "<p><a href='/qanun-ca.crt'>qanun-ca.crt</a><p>Trust this certificate on this device to open the clinic."
            "<p lang=ar dir=rtl>ثبّت هذه الشهادة على هذا الجهاز لفتح العيادة.")  # fmt: skip

    class Offer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            certificate = self.path == "/qanun-ca.crt"
            body = content if certificate else text.encode()
            self.send_response(200)
            self.send_header(
                "Content-Type", "application/x-x509-ca-cert" if certificate else "text/html; charset=utf-8"
            )
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("0.0.0.0", port), Offer)  # noqa: S104 - for the devices of the network
    threading.Thread(target=server.serve_forever, daemon=True).start()


async def _answers(base: str, stopping: asyncio.Event, keeper: Keeper) -> bool:
    import ssl

    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # only asks whether it is there

    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2, context=trust) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    for _ in range(300):
        if await asyncio.to_thread(ask):
            return True
        if stopping.is_set() or keeper.restarts.get("web", 0) > 3:
            return False
        await asyncio.sleep(0.1)
    return False


def _welcome(base: str, lines: list[list[str]], notes: list[str], options: argparse.Namespace, state: Path) -> None:
    password = next(line[1] for line in lines if line[0] == "password")
    clinics: dict[str, list[list[str]]] = {}
    for line in lines:
        if line[0] == "sign-in":
            clinics.setdefault(line[1], []).append(line)
    print(f"\nQanun is running.   Staff: {base}   Everybody's password: {password}\n")
    for clinic, people in clinics.items():
        print(f"  {clinic}")
        for _, _, role, name, login, path in people:
            where = f"   {base}{path}" if role == "patient" else ""
            print(f"    {role:<15} {login:<30} {name}{where}")
        print()
    print("A video visit: sign in as the patient in one window (the portal shows today's visit), go through the device")
    print("check and wait; sign in as the first doctor in another, open the day, confirm who it is, and admit.")
    for note in notes:
        print(f"\n! {note}")
    print(f"\nLogs: {state / 'logs'}   Start over: ./appliance/try --reset   Stop: Ctrl+C", flush=True)
