"""The data plane alone, without ICE, DTLS and control plane: for finding where a packet's microseconds go.

    python -m tests.load engine [--engine c|python|both] [--family 4|both|6] [--profile gcm] [--python-profile FILE]

The figures that count come from `sfu`, which measures the whole worker.
"""

import argparse
import asyncio
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

from tests.load import machine

_AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
_MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
_SSRC = 0x1234


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load engine", description="The data plane alone.")
    parser.add_argument("--subscribers", type=int, default=3)
    parser.add_argument("--packets", type=int, default=12_000)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engine", choices=("c", "python", "both"), default="both", help="they take turns")
    parser.add_argument(
        "--family", choices=("4", "both", "6"), default="4", help="of the socket; both: one for both, reached by IPv4"
    )
    parser.add_argument("--profile", choices=("gcm", "cm"), default="gcm")
    parser.add_argument("--python-profile", help="write cProfile's statistics to this file (slows everything down)")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        import uvloop  # what the worker runs on

        uvloop.run(_serve(json.loads(options.serve)))
        return 0
    engines = ["python", "c"] if options.engine == "both" else [options.engine]
    figures: dict[str, list[float]] = {engine: [] for engine in engines}
    for turn in range(options.rounds):
        for engine in engines if turn % 2 == 0 else engines[::-1]:
            figures[engine].append(_round(options, engine))
    for engine, those in figures.items():
        print(f"{engine}, {options.profile}: {statistics.median(those):.2f} µs/packet, the median of {options.rounds}")
    return 0


def _session(profile: str, key: str, *, outbound: bool) -> Any:
    from pylibsrtp import Policy, Session

    kind = {"gcm": Policy.SRTP_PROFILE_AEAD_AES_256_GCM, "cm": Policy.SRTP_PROFILE_AES128_CM_SHA1_80}[profile]
    policy = Policy(srtp_profile=kind, key=bytes.fromhex(key))
    policy.ssrc_type = Policy.SSRC_ANY_OUTBOUND if outbound else Policy.SSRC_ANY_INBOUND
    policy.allow_repeat_tx = True
    policy.window_size = 1024
    return Session(policy=policy)


def _round(options: argparse.Namespace, engine: str) -> float:
    from tests.load import traffic

    address = "::1" if options.family == "6" else machine.address()
    sockets = []
    for _ in range(options.subscribers + 1):
        one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        one.setblocking(False)
        one.bind((address, 0))
        sockets.append(one)
    keys = [secrets.token_hex(44 if options.profile == "gcm" else 30) for _ in sockets]
    setting = {
        "address": address,
        "listen": "::" if options.family == "both" else address,
        "profile": options.profile,
        "engine": engine,
        "peers": [[one.getsockname()[1], key] for one, key in zip(sockets, keys, strict=True)],
        "statistics": options.python_profile,
    }
    process = subprocess.Popen(
        [*machine.pinned(0), sys.executable, "-m", "tests.load", "engine", "--serve", json.dumps(setting)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    port = int(process.stdout.readline())
    outbound = _session(options.profile, keys[0], outbound=True)
    publisher = _Peer(sockets[0], (address, port), outbound.protect)
    subscribers = [_Peer(one, (address, port), None) for one in sockets[1:]]
    load = traffic.Load(options.packets, options.rate)
    sealed, _ = traffic.build(publisher, load)  # type: ignore[arg-type]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    receivers = traffic.Receivers([publisher, *subscribers], None)  # type: ignore[list-item, arg-type]
    before = machine.cpu(process.pid)
    traffic.send(publisher, sealed, load)  # type: ignore[arg-type]
    time.sleep(0.3)
    used = machine.cpu(process.pid) - before
    receivers.stop()
    process.stdin.close()
    process.wait(10)
    delivered = sum(len(peer.received) for peer in subscribers)
    if delivered != options.packets * options.subscribers:
        print(f"only {delivered} of {options.packets * options.subscribers} packets came")
    share = used.system / max(0.01, used.user + used.system)
    print(f"{engine}: {used.exact / max(1, delivered) * 1e6:.2f} µs/packet, {share:.0%} of it in the kernel")
    return used.exact / max(1, delivered) * 1e6


class _Peer:
    """As much of `traffic.Peer` as sending and receiving need."""

    ssrc = _SSRC
    payload_type = 96

    def __init__(self, own: socket.socket, address: tuple[str, int], protect: Any) -> None:
        self.socket, self.address, self.protect = own, address, protect
        self.received: list[tuple[int, int]] = []
        self.samples: list[bytes] = []
        self.control = 0
        self.transceiver = self
        self.mid = "0"

    @staticmethod
    def extension(uri: str) -> int | None:
        return {_MID: 4, _SEND_TIME: 2}.get(uri)


class _Nobody:
    """Listens to the engine and does nothing."""

    def datagram(self, data: bytes, address: Any) -> None: ...
    def rtcp_received(self, transport: str, data: bytes, arrival_ns: int) -> None: ...
    def first_packet(self, track: str) -> None: ...
    def key_frame_needed(self, track: str, rid: str) -> None: ...
    def moved(self, transport: str, address: Any) -> None: ...


async def _serve(setting: dict[str, Any]) -> None:
    from qanun_telemedicine.sfu.engine import SenderSpec, SrtpKeys, TrackSpec
    from qanun_telemedicine.sfu.engines import open_engine

    engine = open_engine(setting["engine"], (setting["listen"], 0))
    engine.start(_Nobody())
    for number, (port, key) in enumerate(setting["peers"]):
        name = f"t{number}"
        made = [_session(setting["profile"], key, outbound=flag) for flag in (False, True, False, True)]
        engine.add_transport(name, SrtpKeys(*made))
        engine.send_to(name, (setting["address"], port))
        if number == 0:
            engine.publish(
                name, TrackSpec("v", "p", "video", "vp8", 90000, 96, mid="0", extensions={_MID: 4, _SEND_TIME: 2})
            )
        else:
            numbers = 97, 0x5000 + number, 98, 0x6000 + number
            sender = SenderSpec("s", "video", "vp8", 90000, *numbers, {_SEND_TIME: 3})
            engine.add_sender(name, sender)
            engine.route(name, "s", "v")
    print(engine.address[1], flush=True)
    statistics_file = setting["statistics"]
    if statistics_file:
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
    await asyncio.to_thread(sys.stdin.read)
    if statistics_file:
        profile.disable()
        profile.dump_stats(statistics_file)
    engine.close()
