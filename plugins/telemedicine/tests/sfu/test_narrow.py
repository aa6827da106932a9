"""A way that becomes narrow or loses: whoever sends over it hears of it, in time and as much as they can do something about."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from qanun_telemedicine.sfu import control, rtcp, rtp, shares
from qanun_telemedicine.sfu.bandwidth import START

from .conftest import until
from .peer import Peer
from .test_worker import Inside, inside, pair, talk  # noqa: F401

pytestmark = pytest.mark.asyncio

#: Transport-wide sequence numbers, as the server's answers number the extension.
_NUMBERED = 3
_AUDIO = 50_000
#: What a peer sends.
SOUND, PICTURE = 1111, 2222


class Visit:
    """A doctor who is seen over a way that can be narrow, and a patient who reports how it arrives."""

    def __init__(self, inside: Inside, doctor: Peer, patient: Peer) -> None:  # noqa: F811
        self.inside, self.doctor, self.patient = inside, doctor, patient
        #: Seconds that each packet waits longer than the one before.
        self.waits = 0.0
        self._queue = 0.0
        self._read = self._told = 0
        self._task = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        while True:
            await self.doctor.speak(3)
            await self.patient.speak(1)
            await asyncio.sleep(0.04)  # what arrives is well below what a picture needs
            await self.report()

    async def report(self) -> None:
        arrivals = []
        for data in self.patient.dtls.rtp[self._read :]:
            packet = rtp.parse(data)
            self._read += 1
            self._queue = self._queue + self.waits if self.waits else 0.0
            if packet is not None and _NUMBERED in packet.extensions:
                number = int.from_bytes(packet.extensions[_NUMBERED][:2], "big")
                arrivals.append((number, time.monotonic_ns() + int(self._queue * 1e9)))
        packets, self._told = rtcp.transport_feedback(1, 1, self._told, arrivals)
        for told in packets:
            await self.patient.dtls._send_rtp(told)

    def asked(self) -> list[int]:
        """Bits per second that the doctor was asked to keep to, in the order of asking."""
        found = []
        for data in list(self.doctor.dtls.rtcp):
            at = data.find(b"REMB")
            if at >= 0:
                exponent, mantissa = (
                    data[at + 5] >> 2,
                    (data[at + 5] & 3) << 16 | int.from_bytes(data[at + 6 : at + 8], "big"),
                )
                found.append(mantissa << exponent)
        return found

    def way(self) -> shares.WayState:
        participant = self.inside.worker.rooms.participant("nour", "nour-patient")
        return self.inside.worker.control.state(participant.transport.name)

    def pictures(self) -> int:
        parsed = (rtp.parse(data) for data in list(self.patient.dtls.rtp))
        return sum(packet is not None and packet.payload_type == 96 for packet in parsed)

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@pytest_asyncio.fixture
async def visit(inside: Inside) -> AsyncIterator[Visit]:  # noqa: F811
    doctor, patient = await pair(inside.client, "nour")
    await talk(doctor, patient)
    made = Visit(inside, doctor, patient)
    await until(lambda: made.way().leg.estimator.fed, "the patient's reports are read")
    yield made
    await made.end()


async def test_who_sends_hears_of_a_narrow_way_before_the_next_second(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    await until(visit.asked, "the first second is over")
    monkeypatch.setattr(control, "_EVERY_REPORT", 1_000_000)  # and the next never comes
    before = len(visit.asked())
    visit.waits = 0.01
    await until(lambda: visit.way().leg.budget() < START / 4, "the queue is noticed")
    await until(lambda: len(visit.asked()) > before, "and its sender told")
    asked = visit.asked()[before:]
    assert asked == sorted(asked, reverse=True), "each time less"
    assert asked[-1] < START / 2


async def test_a_picture_that_a_way_does_not_carry_is_left_out_at_once_and_kept_small_for_when_it_is_tried_again(
    visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    leg = visit.way().leg
    leg.since -= 60
    await until(lambda: visit.asked() and visit.asked()[-1] > START / 2, "there is no limit to speak of")
    every = control._EVERY_REPORT
    monkeypatch.setattr(control, "_EVERY_REPORT", 1_000_000)
    visit.waits = 0.01
    await until(lambda: leg.paused, "no picture fits any more")
    await asyncio.sleep(0.2)
    before, heard = visit.pictures(), visit.patient.heard()
    await until(lambda: visit.patient.heard() > heard + 20, "the sound goes on")
    assert visit.pictures() == before
    monkeypatch.setattr(control, "_EVERY_REPORT", every)
    visit.waits = 0.0
    await until(lambda: visit.asked()[-1] == shares._LEAST_PICTURE + _AUDIO, "the doctor keeps it small meanwhile")
    assert leg.paused


async def test_whoever_speaks_hears_of_losses_on_the_way_to_those_who_listen(inside: Inside) -> None:  # noqa: F811
    (doctor, patient), (other, listener) = await pair(inside.client, "nour"), await pair(inside.client, "shifa")

    def told(peer: Peer, ssrc: int) -> list[int]:
        """Shares that the server said it missed of a stream, in 256 parts; it missed none."""
        reports = [one for data in list(peer.dtls.rtcp) for one in rtcp.parse(data) if isinstance(one, rtcp.Report)]
        return [one.fraction_lost for one in reports if one.ssrc == ssrc]

    async def go_on() -> None:
        await talk(doctor, patient)
        await talk(other, listener)
        await patient.report(26)
        await listener.report(0)

    async def heard() -> bool:
        await go_on()
        return 26 in told(doctor, SOUND)

    await until(heard, "the doctor's encoder can protect the sound")
    await patient.report(200)

    async def bounded() -> bool:
        await talk(doctor, patient)
        await patient.report(200)
        return max(told(doctor, SOUND)) == control._MOST_TOLD

    await until(bounded, "as far as that makes sense")
    assert set(told(doctor, PICTURE)) == {0}, "of the picture nothing is said: lost packets of it are repeated"
    assert set(told(patient, SOUND)) == set(told(other, SOUND)) == set(told(listener, SOUND)) == {0}


async def test_a_microphone_takes_less_while_somebody_hears_it_over_a_way_for_words_alone(visit: Visit) -> None:
    leg = visit.way().leg
    leg.since -= 60

    def told(who: str) -> list[int]:
        events = [one for one in visit.inside.events if one.event == "participant.sound" and one.participant == who]
        return [one.data["bitrate"] for one in events]

    visit.waits = 0.01
    await until(lambda: leg.tight, "not even the sound fits")
    await until(lambda: told("nour-doctor"), "its microphone is told")
    assert set(told("nour-doctor")) == {shares._NARROW_SOUND}
    visit.waits = 0.0
    leg._tight_until = 0.0
    leg.paused = False
    leg.estimator.rate = float(START)
    await until(lambda: told("nour-doctor")[-1] == 0, "and may take what it likes again")
    assert told("nour-patient") == [], "what the doctor hears comes another way"
