"""Records one person in real time until somebody kills it; prints how far it is, in ms since the recording began."""

import sys
import time
from pathlib import Path

from .conftest import audio_feed, new_recorder, video_feed


def main(directory: Path) -> None:
    feeds = [video_feed("doctor", 8), audio_feed("doctor", 5)]
    recorder = new_recorder(directory)
    for feed in feeds:
        recorder.track_added(feed.track)
    everything = sorted(
        ((at, feed.track, packet) for feed in feeds for at, packet in feed.packets), key=lambda entry: entry[0]
    )
    start = time.monotonic_ns()
    for at, track, packet in everything:
        time.sleep(max(0.0, at / 1000 - (time.monotonic_ns() - start) / 1e9))
        recorder.packet(track, packet, time.monotonic_ns())
        print(recorder.status()["seconds"] * 1000, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
