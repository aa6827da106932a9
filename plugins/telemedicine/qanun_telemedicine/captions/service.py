"""The process that writes captions: packets come in on one socket, words go out on another. `qanun telemedicine captions`.

It works on one utterance at a time; what it cannot keep up with is left out, oldest first. It writes down nothing, and its
log has no word of what was said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import msgspec

from qanun_telemedicine.captions.ear import unpacked
from qanun_telemedicine.captions.hearing import RATE, Voice
from qanun_telemedicine.captions.line import Caption, inbox
from qanun_telemedicine.captions.recognisers import Recogniser

log = logging.getLogger(__name__)

#: Utterances that wait; a machine that is this far behind is too slow, and old captions are of no use.
_MOST_WAITING = 12
_FORGET_S = 60.0
_LOOK_S = 0.2
_DATAGRAM = 4096
_MOST_VOICES = 200


class Captions:
    """`serve` runs it, with its sockets at `path` and beside it."""

    def __init__(self, recogniser: Recogniser, path: Path) -> None:
        self._recogniser = recogniser
        self._path = path
        self._voices: dict[tuple[str, str], Voice] = {}
        self._waiting: deque[tuple[str, str, float, bytes]] = deque(maxlen=_MOST_WAITING)
        self._work = asyncio.Event()
        self._listeners: set[asyncio.StreamWriter] = set()
        self.ready = asyncio.Event()

    async def serve(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        with self._inbox() as sound:
            loop.add_reader(sound.fileno(), self._read, sound)
            mask = os.umask(0o177)
            try:
                self._path.unlink(missing_ok=True)
                server = await asyncio.start_unix_server(self._listener, self._path)
            finally:
                os.umask(mask)
            self.ready.set()
            try:
                await asyncio.gather(self._look(), self._recognise())
            finally:
                loop.remove_reader(sound.fileno())
                server.close()
                for writer in list(self._listeners):
                    writer.close()
                self._path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _inbox(self) -> Iterator[socket.socket]:
        where = inbox(self._path)
        where.unlink(missing_ok=True)
        sound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            sound.bind(str(where))
        finally:
            os.umask(mask)
        try:
            yield sound
        finally:
            sound.close()
            where.unlink(missing_ok=True)

    def _read(self, sound: socket.socket) -> None:
        for _ in range(64):
            try:
                data = sound.recv(_DATAGRAM)
            except OSError:
                return
            if found := unpacked(data):
                self._hear(*found)

    def _hear(self, room: str, participant: str, packet: bytes) -> None:
        voice = self._voices.get((room, participant))
        if voice is None:
            if len(self._voices) >= _MOST_VOICES:
                return
            voice = self._voices[room, participant] = Voice()
        for said in voice.take(packet, asyncio.get_running_loop().time()):
            self._said(room, participant, said)

    def _said(self, room: str, participant: str, pcm: bytes) -> None:
        if len(self._waiting) == _MOST_WAITING:
            log.warning("captions fall behind: an utterance is left out")
        self._waiting.append((room, participant, time.time() - len(pcm) / 2 / RATE, pcm))
        self._work.set()

    async def _look(self) -> None:
        """Sentences end also when no more packets come; voices that are gone are forgotten."""
        while True:
            await asyncio.sleep(_LOOK_S)
            now = asyncio.get_running_loop().time()
            for (room, participant), voice in list(self._voices.items()):
                if said := voice.pause(now):
                    self._said(room, participant, said)
                if now - voice.heard_at > _FORGET_S:
                    del self._voices[room, participant]

    async def _recognise(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                room, participant, began, pcm = self._waiting.popleft()
                try:
                    text = await asyncio.to_thread(self._recogniser.words, pcm)
                except Exception as error:  # noqa: BLE001 - whatever failed, the next sentence is tried
                    log.warning("an utterance was not recognised: %s", type(error).__name__)
                    continue
                if text:
                    self._tell(Caption(room, participant, text, uuid.uuid4().hex, began))

    def _tell(self, caption: Caption) -> None:
        line = msgspec.json.encode(caption) + b"\n"
        for writer in list(self._listeners):
            if writer.transport.get_write_buffer_size() < 1 << 20:
                writer.write(line)
            else:
                writer.transport.abort()

    async def _listener(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listeners.add(writer)
        try:
            while await reader.read(1024):
                pass
        except ConnectionError:
            pass
        finally:
            self._listeners.discard(writer)
            writer.close()


async def run(recogniser: Recogniser, path: Path) -> None:
    """Until the process is told to end."""
    work = asyncio.ensure_future(Captions(recogniser, path).serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work
