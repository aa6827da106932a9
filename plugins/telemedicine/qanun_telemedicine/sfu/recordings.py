"""Recordings that run: which taps listen to which rooms. Who may be recorded is decided elsewhere, before the request."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qanun_telemedicine.sfu.engine import Engine, TrackSpec
from qanun_telemedicine.sfu.protocol import Refused
from qanun_telemedicine.sfu.room import Room, Rooms
from qanun_telemedicine.sfu.tap import Tap, TapRefused, load

log = logging.getLogger(__name__)

_ASK_S = 0.3


@dataclass
class _Recording:
    room: str
    tap: Tap
    participants: frozenset[str] | None
    failed: bool = False

    def wants(self, track: TrackSpec) -> bool:
        return self.participants is None or track.participant in self.participants


class Recordings:
    """The taps of a worker."""

    def __init__(
        self, engine: Engine, rooms: Rooms, allowed: Sequence[str], failed: Callable[[str, str, str], None]
    ) -> None:
        self._engine = engine
        self._rooms = rooms
        self._allowed = allowed
        self._failed = failed
        self._running: dict[str, _Recording] = {}
        rooms.on_track = self._track
        rooms.recordable = self._codecs

    async def start(
        self, room: str, name: str, path: str, options: Mapping[str, Any], participants: Sequence[str] | None
    ) -> dict[str, Any]:
        opened = self._rooms.get(room)
        if name in self._running:
            raise Refused("exists", f"recording {name!r} runs already")
        try:
            tap = await asyncio.to_thread(load, path, options, self._allowed)
        except (TapRefused, ValueError, OSError) as error:
            raise Refused("tap", str(error)) from error
        recording = _Recording(room, tap, frozenset(participants) if participants is not None else None)
        self._running[name] = recording
        for track in opened.tracks():
            self._track_of(recording, track, True)
        # Who sends in a codec that cannot be kept is asked for another one.
        self._rooms.assign(opened)
        return tap.status()

    async def stop(self, name: str) -> dict[str, Any]:
        recording = self._running.pop(name, None)
        if recording is None:
            raise Refused("no-recording", f"recording {name!r} does not run")
        for room in self._rooms:
            if room.id == recording.room:
                for track in room.tracks():
                    self._engine.remove_tap(track.id, recording.tap)
        await asyncio.to_thread(recording.tap.close)
        return recording.tap.status()

    async def stop_room(self, room: str) -> None:
        for name in [name for name, one in self._running.items() if one.room == room]:
            await self.stop(name)

    async def stop_all(self) -> None:
        for name in list(self._running):
            await self.stop(name)

    def pause(self, name: str, paused: bool) -> dict[str, Any]:
        recording = self._get(name)
        if paused:
            recording.tap.pause()
        else:
            recording.tap.resume()
        return recording.tap.status()

    def status(self, name: str) -> dict[str, Any]:
        return self._get(name).tap.status()

    def _get(self, name: str) -> _Recording:
        recording = self._running.get(name)
        if recording is None:
            raise Refused("no-recording", f"recording {name!r} does not run")
        return recording

    def _codecs(self, room: Room) -> frozenset[str] | None:
        kept = [recording.tap.codecs for recording in self._running.values() if recording.room == room.id]
        return frozenset.intersection(*kept) if kept else None

    def _track(self, room: Room, track: TrackSpec, added: bool) -> None:
        for recording in self._running.values():
            if recording.room == room.id:
                self._track_of(recording, track, added)

    def _track_of(self, recording: _Recording, track: TrackSpec, added: bool) -> None:
        try:
            if not added:
                self._engine.remove_tap(track.id, recording.tap)
            elif recording.wants(track):
                self._engine.add_tap(track.id, recording.tap)
        except Exception:
            log.exception("tap of room %s failed", recording.room)

    async def run(self, ask: Callable[[str, str], None]) -> None:
        """Pass the taps' wishes for key frames on, and notice when one stops by itself."""
        while True:
            await asyncio.sleep(_ASK_S)
            for name, recording in list(self._running.items()):
                try:
                    for track in recording.tap.keyframes_wanted():
                        ask(track, "")
                    problem = recording.tap.status().get("problem")
                    if problem and not recording.failed:
                        recording.failed = True
                        self._failed(recording.room, name, str(problem))
                except Exception:
                    log.exception("tap of recording %s failed", name)
