"""What is said, written along: offered by the clinic, agreed to by each for themselves, heard on this machine, kept nowhere."""

import asyncio
import contextlib
import http.server
import io
import json
import socket
import threading
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import av
import pytest
import pytest_asyncio

from plugins.telemedicine.tests.conftest import until
from plugins.telemedicine.tests.test_encryption import Sealed, encrypted
from plugins.telemedicine.tests.test_encryption import call as sealed_call
from plugins.telemedicine.tests.test_group import joined
from plugins.telemedicine.tests.test_sockets import InCall, call
from qanun.api import ConfigurationError
from qanun_telemedicine.captions.ear import Ear, packed, unpacked
from qanun_telemedicine.captions.hearing import RATE, Voice
from qanun_telemedicine.captions.line import SERVICE, CaptionLine
from qanun_telemedicine.captions.recognisers import SpeechServer, recogniser
from qanun_telemedicine.captions.service import Captions
from qanun_telemedicine.service.captions import WORDING
from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.payloads import CODECS

SPEECH = Path("/usr/share/pocketsphinx/test/data/goforward.raw")


def spoken(pcm: bytes, *, pause_s: float = 1.0) -> list[bytes]:
    """RTP packets of 20 ms of Opus: a short quiet, the speech, a pause."""
    quiet = bytes(RATE // 2)
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    resampler = av.AudioResampler(format="s16", layout="mono", rate=48_000)
    made = quiet + pcm + bytes(int(RATE * pause_s) * 2)
    packets = []
    for at in range(0, len(made) - 640, 640):
        frame = av.AudioFrame(format="s16", layout="mono", samples=320)
        frame.planes[0].update(made[at : at + 640])
        frame.sample_rate, frame.pts = RATE, at // 2
        for one in resampler.resample(frame):
            one.pts = None
            packets += encoder.encode(one)
    return [
        rtp.serialise(rtp.Packet(111, number & 0xFFFF, number * 960, 7, bytes(packet)))
        for number, packet in enumerate(packets, 65500)
    ]


def tone(seconds: float, loud: int = 8000) -> bytes:
    samples = [loud if (n // 40) % 2 else -loud for n in range(int(RATE * seconds))]
    return b"".join(value.to_bytes(2, "little", signed=True) for value in samples)


# --- hearing ---------------------------------------------------------------------------------------------------------------


def test_an_utterance_goes_from_the_first_sound_to_the_pause():
    voice = Voice()
    said = [pcm for packet in spoken(tone(1.2)) for pcm in voice.take(packet, 0.0)]
    assert len(said) == 1
    assert 1.2 < len(said[0]) / 2 / RATE < 2.4
    assert voice.pause(100.0) is None, "nothing is left"


def test_what_stops_in_the_middle_ends_with_the_silence_and_noise_is_no_voice():
    voice = Voice()
    packets = spoken(tone(1.2), pause_s=0)
    assert [pcm for packet in packets for pcm in voice.take(packet, 5.0)] == []
    assert voice.pause(5.1) is None
    assert voice.pause(6.0)
    quiet = Voice()
    assert [pcm for packet in spoken(tone(2.0, loud=60)) for pcm in quiet.take(packet, 0.0)] == []


def test_what_is_malformed_late_or_repeated_is_passed_over():
    packets = spoken(tone(0.6))
    plain = Voice()
    straight = [pcm for packet in packets for pcm in plain.take(packet, 0.0)]
    voice, said = Voice(), []
    for number, packet in enumerate(packets):
        said += voice.take(packet, 0.0)
        for odd in (b"", b"\x80", packet[:11], packet[:12], packet, packets[max(0, number - 3)]):
            assert voice.take(odd, 0.0) == []
    assert said == straight and len(said) == 1


def test_what_is_not_from_an_ear_is_nobodys():
    assert unpacked(packed("room", "someone", b"packet")) == ("room", "someone", b"packet")
    for odd in (b"", b"\xff", b"\x02a", b"\x01a\xff", b"\x01\xff\x00"):
        found = unpacked(odd)
        assert found is None or found[2] == b""


@dataclass
class Track:
    """A published track, as a tap is told of it."""

    kind: str = "audio"
    codec: str = "opus"
    participant: str = "someone"


def test_an_ear_passes_on_sound_alone_holds_up_nothing_and_finds_who_was_started_anew(tmp_path):
    path = tmp_path / "in"
    with pytest.raises(OSError):
        Ear({"socket": str(path), "room": "room"})
    first = bound(path)
    ear = Ear({"socket": str(path), "room": "room"})
    assert ear.codecs == frozenset(CODECS), "no picture is sent in another codec for its sake"
    for track in (Track(), Track(kind="video", codec="vp8"), Track(codec="pcmu")):
        ear.packet(track, b"packet", 1)
    assert unpacked(first.recv(100)) == ("room", "someone", b"packet")
    with pytest.raises(BlockingIOError):
        first.recv(100)
    for _ in range(2000):
        ear.packet(Track(), b"packet", 1)
    assert ear.lost > 0, "nobody reads, and nobody waits for them"
    first.close()
    path.unlink()
    ear.packet(Track(), b"packet", 2_000_000_000)
    second = bound(path)
    for at in (2_000_000_001, 4_000_000_000, 4_000_000_001):
        ear.packet(Track(), b"again", at)
    assert unpacked(second.recv(100)) == ("room", "someone", b"again")
    ear.pause()
    ear.packet(Track(), b"not this", 5_000_000_000)
    with pytest.raises(BlockingIOError):
        second.recv(100)
    ear.close()
    second.close()


def bound(path):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind(str(path))
    return made


# --- recognisers -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def speech_server(answer: dict, status: int = 200, location: str = ""):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.append((self.path, self.headers["content-type"], body))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_speech_server_of_the_clinic_gets_the_sound_as_a_file_and_its_words_come_back():
    with speech_server({"text": " hello doctor "}) as (address, asked):
        assert recogniser(address, "small").words(tone(0.5)) == "hello doctor"
    ((path, kind, body),) = asked
    assert path == "/v1/audio/transcriptions" and kind.startswith("multipart/form-data; boundary=")
    assert b'name="model"\r\n\r\nsmall' in body
    start = body.index(b"RIFF")
    with wave.open(io.BytesIO(body[start:])) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.readframes(8000)) == (RATE, 1, tone(0.5))


@pytest.mark.parametrize(
    "outside",
    ["https://8.8.8.8/v1", "http://[2001:4860:4860::8888]/v1", "http://169.254.169.254/v1", "http://0.0.0.0/v1",
     "http://[::ffff:8.8.8.8]/v1", "ftp://127.0.0.1/v1", "sphinx", "file:///etc/passwd", "http:///v1"],
)  # fmt: skip
def test_nothing_is_sent_outside(outside):
    with pytest.raises(ConfigurationError):
        recogniser(outside, "x")


def test_a_redirection_is_not_followed():
    with speech_server({"text": "stolen"}) as (elsewhere, asked), speech_server({}, 307, elsewhere) as (address, _):
        with pytest.raises(OSError):
            SpeechServer(address, "x").words(tone(0.2))
        assert asked == []


# --- in a call -------------------------------------------------------------------------------------------------------------


class Echo:
    """A recogniser that says how long an utterance was."""

    def words(self, pcm: bytes) -> str:
        return "something was said"


@pytest_asyncio.fixture
async def hearing(assembly, tmp_path) -> AsyncIterator[Captions]:
    """The process that writes captions, in this one, and the web process's line to it."""
    path = tmp_path / "captions.sock"
    service = Captions(Echo(), path)
    line = assembly.runtime.services[SERVICE] = CaptionLine(path)
    tasks = [asyncio.create_task(service.serve())]
    await service.ready.wait()
    tasks.append(asyncio.create_task(line.run()))
    await until(lambda: line.available, "the line is up")
    yield service
    del assembly.runtime.services[SERVICE]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def talks(one: InCall) -> None:
    """A sentence in real Opus, then a pause."""
    peer = one.peer
    for packet in spoken(tone(0.6)):
        peer.sequence += 1
        opus = rtp.parse(packet).payload
        made = rtp.Packet(111, peer.sequence, peer.sequence * 960, 1111, opus, True)
        number = (2 * peer.sequence).to_bytes(2, "big")
        await peer.send(rtp.serialise(made, rtp.extension_block([(4, b"0"), (3, number)])))
        await asyncio.sleep(0.002)


async def test_only_the_words_of_who_agreed_are_written_along_and_only_for_those_in_the_call(
    clinic, other_clinic, book, worker, hearing
):
    visit = await book(clinic)
    doctor, patient = await call(visit)
    karim, _ = await joined(visit, "Karim")
    waits = await visit.invites("Sami", "relative")
    outside = await waits.page()
    patient.page.send("captions", on=True)
    assert (await patient.page.hears("problem", about="captions"))["code"] == "forbidden"
    doctor.page.send("captions", on=True)
    for one in (patient, karim):
        await one.page.sees(lambda state: state["captions"]["asked"] and state["captions"]["mine"] == "", "is asked")
    await doctor.page.sees(lambda state: state["captions"]["mine"] == "given", "who asks agreed")
    await until(lambda: another_tap(visit, ""), "somebody listens")
    await talks(doctor)
    for one in (doctor, patient, karim):
        said = await one.page.hears("caption", participant=doctor.peer.name)
        assert said["text"] == "something was said"
    await talks(patient)
    patient.page.send("captions-answer", decision="given", version="old")
    assert "version" in (await patient.page.hears("problem", about="captions-answer"))["fields"]
    assert not doctor.page.said("caption", participant=patient.peer.name), "not before they agreed"
    before = (await visit.row()).captions_tap
    patient.page.send("captions-answer", decision="given", version=WORDING)
    await patient.page.sees(lambda state: state["captions"]["mine"] == "given", "agreed")
    await until(lambda: another_tap(visit, before), "somebody more is heard")
    await talks(patient)
    await doctor.page.hears("caption", participant=patient.peer.name)
    both = (await visit.row()).captions_tap
    patient.page.send("captions-answer", decision="refused", version=WORDING)
    await until(lambda: another_tap(visit, both), "took it back")
    before = len(doctor.page.said("caption", participant=patient.peer.name))
    await talks(patient)
    await talks(doctor)
    await until(lambda: len(doctor.page.said("caption", participant=doctor.peer.name)) > 1, "the doctor's come on")
    assert len(doctor.page.said("caption", participant=patient.peer.name)) == before
    assert outside.said("caption") == []
    assert [one["wording"] for one in await visit.noted("telemedicine.captions.given")] == [WORDING, WORDING]
    assert len(await visit.noted("telemedicine.captions.refused")) == 1
    doctor.page.send("captions", on=False)
    await patient.page.sees(lambda state: not state["captions"]["asked"], "it is over")
    await until(lambda: no_tap(visit), "nobody listens any more")


async def another_tap(visit, before: str) -> bool:
    return (await visit.row()).captions_tap not in ("", before)


async def no_tap(visit) -> bool:
    return (await visit.row()).captions_tap == ""


async def test_an_encrypted_call_has_none_and_neither_has_a_server_without_a_recogniser(clinic, book, worker):
    visit = await book(clinic)
    doctor, _ = await call(visit)
    assert not (await doctor.page.sees(lambda state: True, "greeted"))["captions"]["offered"]
    doctor.page.send("captions", on=True)
    assert (await doctor.page.hears("problem", about="captions"))["code"] == "unavailable"


async def test_captions_of_an_encrypted_call_are_refused(clinic, book, worker, hearing):
    visit = await encrypted(book, clinic)
    doctor, _ = await sealed_call(visit)
    assert isinstance(doctor, Sealed)
    assert not doctor.page.said("state")[-1]["captions"]["offered"]
    doctor.page.send("captions", on=True)
    assert (await doctor.page.hears("problem", about="captions"))["code"] == "conflict"
    assert (await visit.row()).captions_asked_at is None


@pytest.mark.long
@pytest.mark.skipif(not SPEECH.exists(), reason="Debian's pocketsphinx-testdata is not installed")
def test_a_real_recogniser_understands_what_came_as_opus():
    pytest.importorskip("pocketsphinx")
    voice = Voice()
    said = [pcm for packet in spoken(SPEECH.read_bytes()) for pcm in voice.take(packet, 0.0)]
    words = " ".join(recogniser("pocketsphinx", "").words(pcm) for pcm in said)
    assert "go forward ten meters" in words
