"""Real video and speech over a bad network into a recording, and back out of it as files that decode."""

import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import av
import pytest

from qanun.crypto import Key, Tampered, WrongKey, bind
from qanun_telemedicine.recording.player import Damaged, Empty, Recording
from qanun_telemedicine.recording.recorder import OptionsError, Recorder, options
from qanun_telemedicine.recording.view import View

from .conftest import CONTEXT, KEY, Feed, Track, audio_feed, new_recorder, play_into, rtp, video_feed


def recorded(directory: Path, feeds: list[Feed]) -> Recording:
    recorder = new_recorder(directory)
    play_into(recorder, feeds)
    recorder.close()
    assert recorder.problem is None
    return Recording(directory, KEY, CONTEXT)


def decoded(view: View) -> tuple[list[av.VideoFrame], list[av.AudioFrame]]:
    """Every frame of a view, decoded by FFmpeg, which would complain about anything out of order."""
    data = b"".join(view.iterate(step=10_000))
    assert len(data) == view.size
    pictures: list[av.VideoFrame] = []
    sounds: list[av.AudioFrame] = []
    with av.open(io.BytesIO(data), format="matroska") as container:
        last: dict[int, int] = {}
        for packet in container.demux():
            if packet.dts is not None:
                assert packet.dts >= last.get(packet.stream_index, -1)
                last[packet.stream_index] = packet.dts
            for frame in packet.decode():
                (pictures if isinstance(frame, av.VideoFrame) else sounds).append(frame)
    return pictures, sounds


def test_every_frame_of_two_people_comes_back(tmp_path: Path, doctor: list[Feed], patient: list[Feed]) -> None:
    with recorded(tmp_path, doctor + patient) as recording:
        assert recording.complete
        assert [(seat.participant, seat.has_video, seat.has_audio) for seat in recording.seats()] == [
            ("doctor", True, True),
            ("patient", True, True),
        ]
        for feeds, size in ((doctor, (176, 144)), (patient, (320, 240))):
            view = recording.view(feeds[0].track.participant)
            pictures, sounds = decoded(view)
            assert len(pictures) == feeds[0].frames == 120
            assert {(picture.width, picture.height) for picture in pictures} == {size}
            assert sum(sound.samples for sound in sounds) == pytest.approx(view.duration_ms * 48, abs=48 * 40)
            assert view.mime == 'video/webm; codecs="vp8,opus"'
            times = [picture.time for picture in pictures]
            assert all(0.025 < after - before < 0.042 for before, after in itertools.pairwise(times))
        with pytest.raises(KeyError):
            recording.view("doctor", 1)
        with pytest.raises(KeyError):
            recording.view("stranger")


def test_reordered_packets_are_put_right_and_lost_ones_cost_no_broken_picture(
    tmp_path: Path, doctor: list[Feed], patient: list[Feed]
) -> None:
    late = [feed.lossy(1, late=0.2) for feed in doctor]
    lost = [feed.lossy(2, loss=0.02, late=0.1) for feed in patient]
    with recorded(tmp_path, late + lost) as recording:
        assert len(decoded(recording.view("doctor"))[0]) == 120
        pictures, sounds = decoded(recording.view("patient"))
        # Pictures that build on a missing one are left out until the next key frame (every two seconds here).
        assert 10 < len(pictures) < 120
        assert all(picture.is_corrupt is False for picture in pictures)
        assert sum(sound.samples for sound in sounds) > 3.7 * 48000


def test_both_views_are_equally_long_and_lie_on_one_timeline(
    tmp_path: Path, doctor: list[Feed], patient: list[Feed]
) -> None:
    late = [feed.shifted(3000) for feed in patient]
    with recorded(tmp_path, doctor + late) as recording:
        seats = {seat.participant: seat for seat in recording.seats()}
        assert seats["patient"].starts_ms - seats["doctor"].starts_ms == pytest.approx(3000, abs=50)
        assert recording.view("doctor").duration_ms == recording.view("patient").duration_ms
        pictures, sounds = decoded(recording.view("patient"))
        assert pictures[0].time == pytest.approx(3.0, abs=0.06)
        assert sounds[0].time == 0
        assert decoded(recording.view("doctor"))[1][-1].time == pytest.approx(7.0, abs=0.1)


def test_any_range_of_a_view_equals_the_same_range_of_the_whole(tmp_path: Path, doctor: list[Feed]) -> None:
    with recorded(tmp_path, doctor) as recording:
        view = recording.view("doctor")
        whole = view.read(0, view.size)
        for start in range(0, view.size, 7919):
            for size in (1, 500, 70_000):
                assert view.read(start, size) == whole[start : start + size]
        assert view.read(view.size, 10) == b""


def test_ffmpeg_seeks_by_the_cues(tmp_path: Path, doctor: list[Feed]) -> None:
    with recorded(tmp_path, doctor) as recording:
        view = recording.view("doctor")
        with av.open(io.BytesIO(view.read(0, view.size)), format="matroska") as container:
            assert container.duration == view.duration_ms * 1000
            container.seek(2_500_000, backward=True)
            packet = next(packet for packet in container.demux(video=0) if packet.size)
            assert packet.is_keyframe
            assert float(packet.pts * packet.time_base) == pytest.approx(2.0, abs=0.06)


def test_nothing_is_recorded_while_paused_and_the_gap_stays_a_gap(tmp_path: Path) -> None:
    video, audio = video_feed("doctor", 6, key_every=15), audio_feed("doctor", 5)
    recorder = new_recorder(tmp_path)
    zero = recorder._zero_ns
    for feed in (video, audio):
        recorder.track_added(feed.track)

    def send(start: float, end: float) -> None:
        for feed in (video, audio):
            for at, packet in feed.packets:
                if start <= at < end:
                    recorder.packet(feed.track, packet, zero + int(at * 1e6))

    send(0, 1000)
    recorder.pause()
    assert recorder.status()["state"] == "paused"
    send(1000, 3000)
    recorder.resume()
    send(3000, 4500)
    recorder.close()
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert [pause.reason for pause in recording.pauses] == ["paused"]
        pictures, sounds = decoded(recording.view("doctor"))
        times = [picture.time for picture in pictures]
        assert not [time for time in times if 1.05 < time < 2.99]
        assert [time for time in times if time >= 3.0]
        # Silence was put into the gap, so that sound and picture stay together in players that ignore time stamps.
        assert sum(sound.samples for sound in sounds) == pytest.approx(4.5 * 48000, rel=0.03)


def test_somebody_who_comes_back_is_one_view_and_a_shared_screen_is_another(tmp_path: Path) -> None:
    first, second, screen = video_feed("doctor", 1), video_feed("doctor", 1), video_feed("doctor", 2, size=(320, 180))
    second.track = Track("camera-again", "doctor", "video", "video/VP8", 90000, 96)
    screen.track = Track("screen", "doctor", "video", "video/VP8", 90000, 96)
    with recorded(tmp_path, [first, second.shifted(2000), screen.shifted(500)]) as recording:
        seats = recording.seats()
        assert [(seat.number, seat.has_video, seat.has_audio) for seat in seats] == [(0, True, False), (1, True, False)]
        assert len(decoded(recording.view("doctor", 0))[0]) == 60
        shown = decoded(recording.view("doctor", 1))[0]
        assert len(shown) == 60
        assert {(picture.width, picture.height) for picture in shown} == {(320, 180)}


def test_a_change_of_resolution_in_the_middle_still_decodes(tmp_path: Path) -> None:
    small, large = video_feed("doctor", 1), video_feed("doctor", 1, size=(320, 240))
    large.packets = [(at, packet[:8] + b"\0\0\0\x0c" + packet[12:]) for at, packet in large.packets]  # as another layer
    joined = Feed(small.track, small.packets + large.shifted(1000).packets)
    with recorded(tmp_path, [joined]) as recording:
        pictures, _ = decoded(recording.view("doctor"))
        assert [picture.width for picture in pictures] == [176] * 30 + [320] * 30
        assert (recording.seats()[0].width, recording.seats()[0].height) == (320, 240)


def test_a_kill_loses_at_most_two_seconds_and_what_remains_plays(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    here = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.recording.record_slowly", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
        env=environment,
    )
    assert process.stdout is not None
    sent = 0.0
    began: float | None = None
    for line in process.stdout:
        sent = float(line)
        began = sent if began is None else began
        if sent - began > 3700:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert not recording.complete
        assert sent - recording.duration_ms <= 2000
        pictures, sounds = decoded(recording.view("doctor"))
        assert len(pictures) >= 50
        assert sounds
        recording.finish()
    with Recording(tmp_path, KEY, CONTEXT) as again:
        assert not again.complete
        assert len(decoded(again.view("doctor"))[0]) == len(pictures)


def test_a_recording_that_went_on_in_another_worker_is_one_recording(tmp_path: Path, doctor: list[Feed]) -> None:
    recorded(tmp_path, doctor).close()
    # The recording's clock is the wall clock; the feed was handed over faster than it lasts.
    with recorded(tmp_path, doctor) as recording:
        assert list(recording.parts) == ["0001.part", "0002.part"]
        assert [pause.reason for pause in recording.pauses] == ["interrupted"]
        pictures, _ = decoded(recording.view("doctor"))
        assert len(pictures) == 240
        assert recording.duration_ms >= 7900


def test_an_index_is_kept_and_gives_the_same_bytes(tmp_path: Path, doctor: list[Feed]) -> None:
    with recorded(tmp_path, doctor) as recording:
        before = recording.view("doctor").read(0, 1 << 30)
        etag = recording.view("doctor").etag
        recording.finish()
    with Recording(tmp_path, KEY, CONTEXT) as again:
        assert again.view("doctor").read(0, 1 << 30) == before
        assert again.view("doctor").etag == etag
    # A lost or unreadable index is made again.
    (tmp_path / "index").write_bytes(b"junk")
    with Recording(tmp_path, KEY, CONTEXT) as again:
        assert again.view("doctor").read(0, 1 << 30) == before


def test_a_flipped_byte_is_refused_and_named(tmp_path: Path, doctor: list[Feed]) -> None:
    recorded(tmp_path, doctor).close()
    part = tmp_path / "0001.part"
    whole = part.read_bytes()
    for place in (60, len(whole) // 2, len(whole) - 3):
        part.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(Damaged) as caught:
            Recording(tmp_path, KEY, CONTEXT)
        assert caught.value.part == "0001.part"
        assert caught.value.chunk is not None
        assert "chunk" in str(caught.value)
    part.write_bytes(whole)
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        recording.finish()
    # With an index nothing is read beforehand: the change is found when that place is played, and by `verify`.
    place = len(whole) // 2
    part.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        with pytest.raises(Damaged):
            recording.view("doctor").read(0, 1 << 30)
        with pytest.raises(Damaged) as caught:
            recording.verify()
        assert isinstance(caught.value.__cause__, Tampered)


def test_another_clinics_key_or_context_plays_nothing(tmp_path: Path, doctor: list[Feed]) -> None:
    recorded(tmp_path, doctor).close()
    with pytest.raises(WrongKey):
        Recording(tmp_path, Key.generate(), CONTEXT)
    with pytest.raises(Damaged):
        Recording(tmp_path, KEY, bind("tenant", "oak", "recording", "1"))


def test_nothing_readable_lies_on_the_disk(tmp_path: Path, doctor: list[Feed]) -> None:
    with recorded(tmp_path, doctor) as recording:
        recording.finish()
    frames = [packet[12:][-40:] for _, packet in doctor[0].packets[::10] + doctor[1].packets[::10]]
    for path in tmp_path.iterdir():
        raw = path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
        assert b"doctor" not in raw
        assert b"matroska" not in raw
        assert not [frame for frame in frames if frame in raw]


def test_what_cannot_be_recorded_is_said_and_junk_changes_nothing(tmp_path: Path, doctor: list[Feed]) -> None:
    recorder = new_recorder(tmp_path)
    odd = Track("odd", "guest", "video", "video/AV1", 90000, 99)
    recorder.track_added(odd)
    for junk in (b"", b"\x80", b"\xff" * 30, rtp(odd, 1, 1, 1, b"", marker=True)):
        recorder.packet(odd, junk, recorder._zero_ns)
        recorder.packet(doctor[0].track, junk, recorder._zero_ns)
    play_into(recorder, doctor)
    for junk in (b"", b"\x80" * 11, b"\x90\x60" + bytes(10), b"\xbf\x60" + b"\xff" * 30, b"\xa0\x60" + b"\xff" * 20):
        recorder.packet(doctor[0].track, junk, recorder._zero_ns)
    recorder.close()
    recorder.close()
    assert recorder.refused == {"odd": "video/AV1"}
    assert recorder.status()["state"] == "closed"
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert len(decoded(recording.view("doctor"))[0]) == 120
        assert [seat.participant for seat in recording.seats()] == ["doctor"]


def test_key_frames_are_asked_for_after_a_loss(tmp_path: Path) -> None:
    feed = video_feed("doctor", 3, key_every=1000)
    del feed.packets[len(feed.packets) // 2]
    recorder = new_recorder(tmp_path)
    play_into(recorder, [feed])
    deadline = time.monotonic() + 60
    wanted: set[str] = set()
    while not wanted and time.monotonic() < deadline:
        wanted = recorder.keyframes_wanted()
        recorder.packet(feed.track, feed.packets[-1][1], time.monotonic_ns())
        time.sleep(0.05)
    assert wanted == {feed.track.id}
    recorder.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "short"},
        {"key": ""},
        {"context": "*"},
        {"directory": "/nowhere/at/all"},
        {"key": 5},
        {"directory": None},
    ],
)
def test_wrong_options_are_refused_by_name(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(OptionsError, match=next(iter(wrong))):
        Recorder(options(tmp_path, KEY, CONTEXT) | wrong)
    assert not list(tmp_path.iterdir())
    json.dumps(options(tmp_path, KEY, CONTEXT))


def test_an_empty_recording_says_so(tmp_path: Path) -> None:
    with pytest.raises(Empty):
        Recording(tmp_path, KEY, CONTEXT)
    new_recorder(tmp_path).close()
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert recording.seats() == []
        assert recording.complete


def test_a_disk_that_takes_no_more_stops_the_recording_and_keeps_what_it_has(tmp_path: Path) -> None:
    feeds = [video_feed("doctor", 4, size=(320, 240)), audio_feed("doctor", 4)]
    recorder = new_recorder(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file of this process may grow past this: the kernel's own refusal, as from a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        for start in range(0, 4000, 250):
            for feed in feeds:
                part = [entry for entry in feed.packets if start <= entry[0] < start + 250]
                play_into(recorder, [Feed(feed.track, part)])
            recorder.pause()  # writes at once
            recorder.resume()
            time.sleep(0.05)
            if recorder.problem:
                break
        recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert recorder.problem == "disk-error"
    assert recorder.status()["state"] == "failed"
    recorder.packet(feeds[0].track, feeds[0].packets[0][1], time.monotonic_ns())
    assert (tmp_path / "0001.part").stat().st_size <= 60_000
    with Recording(tmp_path, KEY, CONTEXT) as recording:
        assert not recording.complete
        assert decoded(recording.view("doctor"))[0]


def test_a_shared_screen_is_told_from_the_camera_whichever_came_first(
    tmp_path: Path, doctor: list[Feed], patient: list[Feed]
) -> None:
    screen = replace(
        patient[0], track=Named(*astuple(patient[0].track)[:1], "doctor", *astuple(patient[0].track)[2:], "screen")
    )
    camera = [replace(feed, track=Named(*astuple(feed.track), feed.track.kind)) for feed in doctor]
    with recorded(tmp_path, [screen, *[feed.shifted(700) for feed in camera]]) as recording:
        seats = recording.seats()
        assert [(seat.number, seat.source, seat.has_audio, seat.width) for seat in seats] == [
            (0, "video", True, 176),
            (1, "screen", False, 320),
        ]
        recording.finish()
    with Recording(tmp_path, KEY, CONTEXT) as again:
        assert [seat.source for seat in again.seats()] == ["video", "screen"]
        assert len(decoded(again.view("doctor", 1))[0]) == 120


@dataclass(frozen=True)
class Named(Track):
    """A track whose publisher said what it is of."""

    source: str = ""
