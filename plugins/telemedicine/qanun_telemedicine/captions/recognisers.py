"""Recognisers of speech that run on the clinic's own machines. An address outside is refused: what is said in a call is not
sent anywhere.
"""

from __future__ import annotations

import importlib
import io
import ipaddress
import json
import secrets
import socket
import urllib.request
import wave
from typing import Any, Protocol
from urllib.parse import urlsplit

from qanun.api import ConfigurationError
from qanun_telemedicine.captions.hearing import RATE

_TIMEOUT_S = 30
_MOST_LETTERS = 2000


class Recogniser(Protocol):
    """Called in a thread, one utterance at a time."""

    def words(self, pcm: bytes) -> str:
        """What was said (16 kHz, 16 bit, mono); empty when nothing was understood."""
        ...


class Sphinx:
    """PocketSphinx with the model of its own package (American English): small, and on every processor."""

    def __init__(self) -> None:
        try:
            made: Any = importlib.import_module("pocketsphinx")
        except ImportError:
            raise ConfigurationError("the package `pocketsphinx` is not installed") from None
        self._decoder = made.Decoder(samprate=RATE, loglevel="FATAL")

    def words(self, pcm: bytes) -> str:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return str(found.hypstr).strip() if found is not None else ""


class SpeechServer:
    """A server on this machine or in the clinic's network that speaks OpenAI's audio API, as whisper.cpp and others do."""

    def __init__(self, base_url: str, model: str) -> None:
        self._url = base_url.rstrip("/") + "/audio/transcriptions"
        self._model = model
        _nearby(base_url)

    def words(self, pcm: bytes) -> str:
        # A name may lead elsewhere tomorrow.
        _nearby(self._url)
        sound = io.BytesIO()
        with wave.open(sound, "wb") as target:
            target.setnchannels(1)
            target.setsampwidth(2)
            target.setframerate(RATE)
            target.writeframes(pcm)
        border = secrets.token_hex(16)
        fields = {"model": self._model, "response_format": "json", "temperature": "0"}
        body = b"".join(
            f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        body += f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="said.wav"\r\n'.encode()
        body += b"Content-Type: audio/wav\r\n\r\n" + sound.getvalue() + f"\r\n--{border}--\r\n".encode()
        request = urllib.request.Request(  # noqa: S310 - only http(s), see `_nearby`
            self._url, body, {"Content-Type": f"multipart/form-data; boundary={border}"}
        )
        # Neither a proxy nor a redirection may take it elsewhere.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay())
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            told = json.loads(answer.read(1 << 20))
        return str(told.get("text", "")).strip()[:_MOST_LETTERS]


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _nearby(url: str) -> None:
    """Raises ConfigurationError for an address that is not on this machine or in a private network."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError("QANUN_CAPTIONS is neither `pocketsphinx` nor an address of a speech server")
    try:
        found = {
            str(one[4][0]) for one in socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
        }
    except OSError:
        raise ConfigurationError("the speech server's name leads nowhere") from None
    if not found or not all(_private(one) for one in found):
        raise ConfigurationError("the speech server is not in the clinic's own network")


def _private(address: str) -> bool:
    known = ipaddress.ip_address(address.partition("%")[0])
    known = getattr(known, "ipv4_mapped", None) or known
    # Link-local addresses answer for more than one's own machines (a cloud's, for one).
    return known.is_loopback or (known.is_private and not known.is_link_local and not known.is_unspecified)


def recogniser(name: str, model: str) -> Recogniser:
    """The one that the configuration names. Raises ConfigurationError."""
    return Sphinx() if name == "pocketsphinx" else SpeechServer(name, model)
