"""Reads session descriptions (RFC 8866, 8829, 8843, 8853) that browsers offer. Untrusted text: limits first, one error type.

aiortc's parser loses simulcast, the direction of header extensions and bundle-only sections, so this one is ours.
"""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

MAX_SIZE = 200_000
MAX_SECTIONS = 64
_MAX_LINES = 6_000
_MAX_LINE = 2_000
_MAX_CODECS = 128
_MAX_EXTENSIONS = 64
_MAX_RIDS = 6
_MAX_SSRCS = 64

_TOKEN = re.compile(r"[!#-'*+\-.0-9A-Z^-~]{1,64}")
_RID = re.compile(r"[A-Za-z0-9_-]{1,16}")
_ICE = re.compile(r"[A-Za-z0-9+/]{4,256}")
_FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){19,63}")
_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
_HASHES = ("sha-256", "sha-384", "sha-512")


class SdpError(ValueError):
    """An offer that cannot be used; `code` is for programs, the message for people who debug."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class Codec:
    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    parameters: str = ""
    feedback: list[str] = field(default_factory=list)

    @property
    def apt(self) -> int | None:
        """For RTX: the payload type that it repairs."""
        found = re.search(r"(?:^|;)\s*apt=(\d{1,3})", self.parameters)
        return int(found[1]) if found else None


@dataclass(frozen=True)
class Extension:
    id: int
    uri: str
    direction: str = "sendrecv"


@dataclass
class Section:
    """One m= section."""

    kind: str
    port: int
    protocol: str
    formats: list[str]
    mid: str = ""
    direction: str = "sendrecv"
    codecs: dict[int, Codec] = field(default_factory=dict)
    extensions: list[Extension] = field(default_factory=list)
    #: Layers that the client sends, in its order.
    rids: list[str] = field(default_factory=list)
    simulcast: list[str] = field(default_factory=list)
    #: Those of them that are not sent for now.
    paused: frozenset[str] = frozenset()
    ssrcs: list[int] = field(default_factory=list)
    #: Which SSRC repairs which, from ssrc-group:FID.
    repairs: dict[int, int] = field(default_factory=dict)
    bundle_only: bool = False
    rtcp_mux: bool = False
    rtcp_rsize: bool = False
    #: Header extensions may be in the one-byte form here and in the two-byte form there.
    mixed: bool = False
    username: str = ""
    password: str = ""
    fingerprints: list[tuple[str, str]] = field(default_factory=list)
    setup: str = ""

    @property
    def rejected(self) -> bool:
        """Port 0 means rejected, unless the section lives in the bundle only."""
        return self.port == 0 and not self.bundle_only

    @property
    def sends(self) -> bool:
        return self.direction in ("sendrecv", "sendonly")

    @property
    def receives(self) -> bool:
        return self.direction == "recvonly"

    def layers(self) -> tuple[str, ...]:
        """The simulcast layers offered, without those that have no a=rid line; empty without simulcast."""
        return tuple(rid for rid in self.simulcast if rid in self.rids)

    def extension(self, uri: str) -> int | None:
        return next((one.id for one in self.extensions if one.uri == uri), None)

    def codec(self, name: str, clock_rate: int) -> Codec | None:
        wanted = name.lower()
        return next(
            (one for one in self.codecs.values() if one.name.lower() == wanted and one.clock_rate == clock_rate), None
        )

    def rtx(self, payload_type: int) -> Codec | None:
        return next(
            (one for one in self.codecs.values() if one.name.lower() == "rtx" and one.apt == payload_type), None
        )


@dataclass
class Offer:
    sections: list[Section]
    bundle: list[str]
    username: str
    password: str
    fingerprints: list[tuple[str, str]]
    setup: str
    mixed: bool = False


@dataclass
class _Session(Section):
    bundle: list[str] | None = None


def parse(text: str) -> Offer:
    """The offer in `text`. Raises SdpError for anything that no answer can be given to."""
    if len(text) > MAX_SIZE:
        raise SdpError("too-large", f"description longer than {MAX_SIZE} characters")
    lines = text.replace("\r\n", "\n").split("\n")
    if len(lines) > _MAX_LINES:
        raise SdpError("too-large", f"description of more than {_MAX_LINES} lines")
    if not lines[0].startswith("v=0"):
        raise SdpError("malformed", "description does not begin with v=0")
    session = _Session("", 9, "", [])
    sections: list[Section] = []
    where: Section = session
    late: list[tuple[int, Section, str, str]] = []
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        if len(line) > _MAX_LINE:
            raise SdpError("too-large", f"line {number} is too long")
        if len(line) < 2 or line[1] != "=":
            raise SdpError("malformed", f"line {number} is not of the form x=…")
        with _at(number):
            if line[0] == "m":
                if len(sections) == MAX_SECTIONS:
                    raise SdpError("too-many-sections", f"more than {MAX_SECTIONS} sections")
                where = _media(line[2:])
                where.direction = session.direction
                sections.append(where)
            elif line[0] == "a":
                name, _, value = line[2:].partition(":")
                reader = _ATTRIBUTES.get(name)
                if name in _LATE:
                    # Firefox says what belongs to a codec before it names the codec.
                    late.append((number, where, name, value))
                elif reader is not None:
                    reader(where, value)
                elif name in _DIRECTIONS:
                    where.direction = name
    for number, where, name, value in late:
        with _at(number):
            _ATTRIBUTES[name](where, value)
    return _checked(session, sections)


@contextlib.contextmanager
def _at(number: int) -> Iterator[None]:
    """Whatever goes wrong inside becomes an SdpError that names the line."""
    try:
        yield
    except SdpError as error:
        raise SdpError(error.code, f"line {number}: {error}") from None
    except (ValueError, IndexError, OverflowError):
        raise SdpError("malformed", f"line {number} is malformed") from None


def _checked(session: _Session, sections: list[Section]) -> Offer:
    if not sections:
        raise SdpError("no-media", "description without sections")
    mids = [section.mid for section in sections]
    alive = [section for section in sections if not section.rejected]
    if any(not section.mid for section in alive) or len(set(mids)) != len(mids):
        raise SdpError("mid", "every section needs a mid of its own")
    if not alive:
        raise SdpError("no-media", "every section is rejected")
    bundle = session.bundle
    if bundle is None or any(section.mid not in bundle for section in alive):
        raise SdpError("bundle", "every section must be in one BUNDLE group")
    media = [section for section in alive if section.kind in ("audio", "video")]
    if any(not section.rtcp_mux for section in media):
        raise SdpError("rtcp-mux", "rtcp-mux is required")
    first = next((section for section in alive if section.mid == bundle[0]), alive[0])
    username = first.username or session.username
    password = first.password or session.password
    fingerprints = [
        (name.lower(), value) for name, value in (first.fingerprints or session.fingerprints) if name.lower() in _HASHES
    ]
    setup = first.setup or session.setup
    if not username or len(password) < 22:
        raise SdpError("ice", "ICE user name or password is missing")
    if not fingerprints:
        raise SdpError("fingerprint", "a fingerprint by SHA-256 or better is required")
    if setup not in ("actpass", "active"):
        raise SdpError("setup", "the client must be able to be the DTLS client")
    mixed = session.mixed or all(section.mixed for section in media)
    return Offer(sections, bundle, username, password, fingerprints, setup, mixed)


def _media(value: str) -> Section:
    bits = value.split()
    port = int(bits[1].partition("/")[0])
    if not 0 <= port < 65536 or len(bits) < 4:
        raise ValueError(value)
    return Section(bits[0], port, bits[2], bits[3 : 3 + _MAX_CODECS])


def _number(text: str, most: int) -> int:
    number = int(text)
    if not 0 <= number <= most or not text.isascii():
        raise ValueError(text)
    return number


def _group(where: Section, value: str) -> None:
    bits = value.split()
    if isinstance(where, _Session) and bits and bits[0] == "BUNDLE":
        if where.bundle is not None:
            raise SdpError("bundle", "more than one BUNDLE group")
        where.bundle = bits[1:]
        if not where.bundle:
            raise SdpError("bundle", "empty BUNDLE group")


def _mid(where: Section, value: str) -> None:
    if not _TOKEN.fullmatch(value):
        raise ValueError(value)
    where.mid = value


def _rtpmap(where: Section, value: str) -> None:
    kind, _, encoding = value.partition(" ")
    bits = encoding.strip().split("/")
    if len(where.codecs) >= _MAX_CODECS:
        raise SdpError("too-large", "too many codecs")
    payload_type = _number(kind, 127)
    if str(payload_type) not in where.formats:
        return
    where.codecs[payload_type] = Codec(
        payload_type, bits[0], _number(bits[1], 10_000_000), _number(bits[2], 255) if len(bits) > 2 else 1
    )


def _fmtp(where: Section, value: str) -> None:
    kind, _, parameters = value.partition(" ")
    codec = where.codecs.get(_number(kind, 127))
    if codec is not None:
        codec.parameters = parameters.strip()


def _rtcp_fb(where: Section, value: str) -> None:
    kind, _, feedback = value.partition(" ")
    concerned = list(where.codecs.values()) if kind == "*" else [where.codecs.get(_number(kind, 127))]
    for codec in concerned:
        if codec is not None and len(codec.feedback) < 32:
            codec.feedback.append(feedback.strip())


def _extmap(where: Section, value: str) -> None:
    head, _, rest = value.partition(" ")
    number, _, direction = head.partition("/")
    identifier = _number(number, 255)
    # 4096 and above mean "choose one", which an offer of ours never leaves open.
    if identifier == 0 or not rest:
        raise ValueError(value)
    if len(where.extensions) >= _MAX_EXTENSIONS:
        raise SdpError("too-large", "too many header extensions")
    if direction and direction not in _DIRECTIONS:
        raise ValueError(value)
    where.extensions.append(Extension(identifier, rest.split()[0], direction or "sendrecv"))


def _rid(where: Section, value: str) -> None:
    bits = value.split()
    if not _RID.fullmatch(bits[0]) or bits[1] not in ("send", "recv"):
        raise ValueError(value)
    if bits[1] == "send" and bits[0] not in where.rids:
        if len(where.rids) >= _MAX_RIDS:
            raise SdpError("too-large", "too many simulcast layers")
        where.rids.append(bits[0])


def _simulcast(where: Section, value: str) -> None:
    bits = value.split()
    for direction, layers in zip(bits[::2], bits[1::2], strict=False):
        if direction == "send":
            # Alternatives are separated by commas, a paused layer is marked with ~.
            names = [layer.split(",")[0].lstrip("~") for layer in layers.split(";")]
            where.simulcast = [name for name in names if _RID.fullmatch(name)][:_MAX_RIDS]
            where.paused = frozenset(
                name for name, text in zip(names, layers.split(";"), strict=True) if text.startswith("~")
            )


def _ssrc(where: Section, value: str) -> None:
    ssrc = _number(value.split(maxsplit=1)[0], 0xFFFFFFFF)
    if ssrc not in where.ssrcs:
        if len(where.ssrcs) >= _MAX_SSRCS:
            raise SdpError("too-large", "too many SSRCs")
        where.ssrcs.append(ssrc)


def _ssrc_group(where: Section, value: str) -> None:
    bits = value.split()
    if bits[0] == "FID" and len(bits) == 3 and len(where.repairs) < _MAX_SSRCS:
        where.repairs[_number(bits[2], 0xFFFFFFFF)] = _number(bits[1], 0xFFFFFFFF)


def _username(where: Section, value: str) -> None:
    if not _ICE.fullmatch(value):
        raise SdpError("ice", "malformed ICE user name")
    where.username = value


def _password(where: Section, value: str) -> None:
    if not _ICE.fullmatch(value) or len(value) < 22:
        raise SdpError("ice", "malformed ICE password")
    where.password = value


def _fingerprint(where: Section, value: str) -> None:
    name, _, digest = value.partition(" ")
    if not _FINGERPRINT.fullmatch(digest) or len(where.fingerprints) >= 8:
        raise SdpError("fingerprint", "malformed fingerprint")
    where.fingerprints.append((name, digest.upper()))


def _setup(where: Section, value: str) -> None:
    where.setup = value


def _bundle_only(where: Section, value: str) -> None:
    where.bundle_only = True


def _rtcp_mux(where: Section, value: str) -> None:
    where.rtcp_mux = True


def _rtcp_rsize(where: Section, value: str) -> None:
    where.rtcp_rsize = True


def _mixed(where: Section, value: str) -> None:
    where.mixed = True


_LATE = ("fmtp", "rtcp-fb")
_ATTRIBUTES: dict[str, Callable[[Section, str], None]] = {
    "group": _group,
    "mid": _mid,
    "rtpmap": _rtpmap,
    "fmtp": _fmtp,
    "rtcp-fb": _rtcp_fb,
    "extmap": _extmap,
    "rid": _rid,
    "simulcast": _simulcast,
    "ssrc": _ssrc,
    "ssrc-group": _ssrc_group,
    "ice-ufrag": _username,
    "ice-pwd": _password,
    "fingerprint": _fingerprint,
    "setup": _setup,
    "bundle-only": _bundle_only,
    "rtcp-mux": _rtcp_mux,
    "rtcp-rsize": _rtcp_rsize,
    "extmap-allow-mixed": _mixed,
}
