"""What a clinic's machine speaks with in its network, for tests: a mail server, a recogniser of speech, an authority for certificates; and
what is said to the machine so that it does.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from debian_server import Server


def shown_by_the_relay(server: Server) -> int | None:
    """The serial number of the certificate on the relay's TLS port; None while it does not answer."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((server.address, 5349), timeout=20) as line, trust.wrap_socket(line) as shown:
            return x509.load_der_x509_certificate(shown.getpeercert(binary_form=True)).serial_number
    except OSError:
        return None


def until(what: Callable[[], Any], patience: float = 90.0) -> Any:
    """Its first answer that is something."""
    end = time.monotonic() + patience
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.3)
    assert found
    return found


SAYS = """
import asyncio
from qanun.access import open_context
from qanun.api import Config, PatientDraft, assemble, get_locale, register_patient
from qanun.app.worker import tenants
from qanun.context import SYSTEM
from qanun.notifications import notify_patient

async def main():
    runtime = assemble(Config.from_environment()).runtime
    [clinic] = await tenants(runtime)
    async with open_context(runtime, clinic, SYSTEM, get_locale("ar")) as ctx:
        draft = PatientDraft(given="Layla", family="Haddad", sex="female", birth_date="1990-01-01", email="layla@example.org")
        patient = await register_patient(ctx, draft)
        print(await notify_patient(ctx, patient.id, "رسالة من العيادة", "Something waits."))
    await runtime.database.close()

asyncio.run(main())
"""
HEARS = """
import math, socket
from array import array
from fractions import Fraction
import av
from qanun_telemedicine.captions.ear import packed

words = socket.socket(socket.AF_UNIX); words.connect("/run/qanun/captions.sock"); words.settimeout(60)
sound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); sound.connect("/run/qanun/captions.sock.in")
voice = av.CodecContext.create("libopus", "w")
voice.sample_rate, voice.layout, voice.format, voice.time_base = 48000, "mono", "s16", Fraction(1, 48000)
number = 0
for at in range(100):
    wave = array("h", (int(9000 * math.sin(2 * math.pi * 300 * (at * 960 + i) / 48000)) for i in range(960)))
    frame = av.AudioFrame(format="s16", layout="mono", samples=960)
    frame.planes[0].update(wave.tobytes()); frame.sample_rate, frame.pts, frame.time_base = 48000, at * 960, Fraction(1, 48000)
    for packet in voice.encode(frame):
        number += 1
        head = b"\\x80\\x6f" + number.to_bytes(2, "big") + (number * 960).to_bytes(4, "big") + b"\\0\\0\\0\\1"
        sound.send(packed("room", "somebody", head + bytes(packet)))
print(words.recv(4096).decode())
"""
AS_PRODUCT = (
    "set -a; . /etc/qanun/qanun.env; set +a; cd /; exec setpriv --reuid=qanun --regid=qanun --init-groups "
    "/opt/qanun/bin/python -I -"
)


class Recogniser(http.server.BaseHTTPRequestHandler):
    """Speaks what whisper.cpp and others speak, and understands one sentence."""

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["Content-Length"]))
        well = self.path == "/v1/audio/transcriptions" and b"RIFF" in said and b"said.wav" in said
        answer = json.dumps({"text": "good morning"} if well else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


class Post:
    """A clinic's mail server. `letters` are (who signed in, recipients, the letter)."""

    def __init__(self) -> None:
        self.letters: list[tuple[bytes, list[str], EmailMessage]] = []

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        well = (data.login, data.password) == (b"clinic", b"geheim")
        return AuthResult(success=well, auth_data=data.login)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append((session.auth_data, envelope.rcpt_tos, letter))
        return "250 taken"


AUTHORITY = """{
	admin off
	storage file_system /root/ca
	skip_install_trust
	http_port 9080
	https_port 9443
}
https://ca.example.test:9443 {
	tls internal
	acme_server
}
"""


@contextlib.contextmanager
def beside(here: str) -> Iterator[tuple[str, int, int, Post]]:
    """(address, the mail server's port, the recogniser's, what came by mail) until the end of the block."""
    post = Post()
    with socket.create_server((here, 0)) as free:
        port = free.getsockname()[1]
    mail = Controller(post, hostname=here, port=port, authenticator=post, auth_required=True, auth_require_tls=False)
    mail.start()
    speech = http.server.ThreadingHTTPServer((here, 0), Recogniser)
    threading.Thread(target=speech.serve_forever, daemon=True).start()
    try:
        yield here, port, speech.server_port, post
    finally:
        mail.stop()
        speech.shutdown()
