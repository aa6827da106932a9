"""Answers an offer: what is agreed in every section, and the text of the answer.

The client always offers and this side always answers, so nothing can collide. Sections in which the client sends are
received; sections in which it only receives are a pool: each gets its SSRCs at once, and tracks of others are switched
into free ones without any further negotiation. One codec per kind (VP8, Opus), which every browser has.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qanun_telemedicine.sfu import rtp
from qanun_telemedicine.sfu.engine import Address, SenderSpec, TrackSpec
from qanun_telemedicine.sfu.sdp import Codec, Offer, Section

CODECS = {"audio": ("opus", 48000), "video": ("VP8", 90000)}
_OPUS = "minptime=10;useinbandfec=1"

_RECEIVED = {
    "audio": (rtp.AUDIO_LEVEL, rtp.MID, rtp.TRANSPORT_CC),
    "video": (
        rtp.MID,
        rtp.RID,
        rtp.REPAIRED_RID,
        rtp.TRANSPORT_CC,
        rtp.VIDEO_ORIENTATION,
        rtp.PLAYOUT_DELAY,
        rtp.CONTENT_TYPE,
        rtp.COLOR_SPACE,
    ),
}
_SENT = {
    "audio": (rtp.AUDIO_LEVEL, rtp.TRANSPORT_CC),
    "video": (
        rtp.TRANSPORT_CC,
        rtp.VIDEO_ORIENTATION,
        rtp.PLAYOUT_DELAY,
        rtp.CONTENT_TYPE,
        rtp.COLOR_SPACE,
    ),
}
_FEEDBACK = {
    ("audio", "receive"): ("transport-cc",),
    ("audio", "send"): ("transport-cc",),
    ("video", "receive"): ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"),
    ("video", "send"): ("nack", "nack pli", "ccm fir", "transport-cc"),
}
#: Without two-byte headers, which we do not agree to, 14 is the last usable id.
_LAST_EXTENSION = 14


@dataclass
class Agreed:
    """What one section of the offer came to: "receive", "send", "inactive" or "rejected", from our point of view."""

    section: Section
    role: str
    codec: Codec | None = None
    rtx: Codec | None = None
    extensions: dict[str, int] = field(default_factory=dict)
    ssrc: int = 0
    rtx_ssrc: int = 0
    #: The how-many-th receiving section of its kind: sound and picture of one index are played together.
    slot: int = 0

    @property
    def mid(self) -> str:
        return self.section.mid

    def track(self, name: str, participant: str, source: str) -> TrackSpec:
        """The track that the client publishes here."""
        assert self.codec is not None
        section = self.section
        layers = section.layers()
        ssrcs: dict[int, tuple[str, bool]] = {}
        if not layers:
            for ssrc in section.ssrcs:
                ssrcs[ssrc] = ("", ssrc in section.repairs)
        return TrackSpec(
            id=name,
            participant=participant,
            kind=section.kind,
            codec=self.codec.name.lower(),
            clock_rate=self.codec.clock_rate,
            payload_type=self.codec.payload_type,
            rtx_payload_type=self.rtx.payload_type if self.rtx else None,
            mid=self.mid,
            source=source,
            extensions=self.extensions,
            rids=layers,
            ssrcs=ssrcs,
        )

    def sender(self, name: str) -> SenderSpec:
        """The section that we can send a track in."""
        assert self.codec is not None
        return SenderSpec(
            id=name,
            kind=self.section.kind,
            codec=self.codec.name.lower(),
            clock_rate=self.codec.clock_rate,
            payload_type=self.codec.payload_type,
            ssrc=self.ssrc,
            rtx_payload_type=self.rtx.payload_type if self.rtx else None,
            rtx_ssrc=self.rtx_ssrc,
            extensions=self.extensions,
            cname=_cname(self.slot),
        )


@dataclass(frozen=True)
class Local:
    """Our side of the transport, for the answer."""

    username: str
    password: str
    fingerprint: str
    hosts: Sequence[Address]
    session: int
    version: int


def agree(offer: Offer, ssrcs: Iterator[int], known: Mapping[str, "Agreed"]) -> list[Agreed]:
    """What every section comes to. `known` are the sections of the last answer by mid: they keep their SSRCs.

    `ssrcs` must never give a number twice under the same keys: two streams of one SSRC would share their nonces.
    """
    agreed: list[Agreed] = []
    slots = {"audio": 0, "video": 0}
    for section in offer.sections:
        one = _agree(section)
        if one.role == "send":
            one.slot = slots[section.kind]
            slots[section.kind] += 1
            before = known.get(section.mid)
            if before is not None and before.ssrc:
                one.ssrc, one.rtx_ssrc = before.ssrc, before.rtx_ssrc if one.rtx else 0
            else:
                one.ssrc = next(ssrcs)
                one.rtx_ssrc = next(ssrcs) if one.rtx else 0
        agreed.append(one)
    return agreed


def _agree(section: Section) -> Agreed:
    wanted = CODECS.get(section.kind)
    codec = section.codec(*wanted) if wanted is not None else None
    if section.rejected or codec is None or "RTP/SAVPF" not in section.protocol:
        return Agreed(section, "rejected")
    role = "receive" if section.sends else "send" if section.receives else "inactive"
    useful = _SENT if role == "send" else _RECEIVED
    directions = ("sendrecv", "recvonly") if role == "send" else ("sendrecv", "sendonly")
    extensions = {
        one.uri: one.id
        for one in section.extensions
        if one.uri in useful[section.kind] and one.direction in directions and one.id <= _LAST_EXTENSION
    }
    rtx = section.rtx(codec.payload_type) if section.kind == "video" else None
    return Agreed(section, role, codec, rtx, extensions)


def write(offer: Offer, agreed: Sequence[Agreed], local: Local) -> str:
    """The answer."""
    accepted = [one.mid for one in agreed if one.role != "rejected"]
    lines = [
        "v=0",
        f"o=- {local.session} {local.version} IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=msid-semantic: WMS *",
    ]
    if accepted:
        lines.append("a=group:BUNDLE " + " ".join([mid for mid in offer.bundle if mid in accepted]))
    first = True
    for one in agreed:
        if one.role == "rejected":
            lines += _rejected(one.section)
        else:
            lines += _accepted(one, local, with_candidates=first)
            first = False
    return "\r\n".join(lines) + "\r\n"


def _rejected(section: Section) -> list[str]:
    lines = [f"m={section.kind} 0 {section.protocol} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0", "a=inactive"]
    if section.mid:
        lines.append(f"a=mid:{section.mid}")
    return lines


def _accepted(one: Agreed, local: Local, *, with_candidates: bool) -> list[str]:
    section, codec = one.section, one.codec
    assert codec is not None
    codecs = [codec, one.rtx] if one.rtx else [codec]
    formats = " ".join(str(each.payload_type) for each in codecs)
    lines = [
        f"m={section.kind} 9 {section.protocol} {formats}",
        "c=IN IP4 0.0.0.0",
        "a=rtcp:9 IN IP4 0.0.0.0",
    ]
    if with_candidates:
        for index, (host, port) in enumerate(local.hosts):
            priority = (126 << 24) + (65535 - index << 8) + 255
            lines.append(f"a=candidate:{index + 1} 1 udp {priority} {host} {port} typ host")
        lines.append("a=end-of-candidates")
    lines += [
        f"a=ice-ufrag:{local.username}",
        f"a=ice-pwd:{local.password}",
        f"a=fingerprint:sha-256 {local.fingerprint}",
        "a=setup:passive",
        f"a=mid:{section.mid}",
    ]
    lines += [f"a=extmap:{number} {uri}" for uri, number in sorted(one.extensions.items(), key=lambda item: item[1])]
    lines.append({"receive": "a=recvonly", "send": "a=sendonly", "inactive": "a=inactive"}[one.role])
    if one.role == "send":
        lines.append(f"a=msid:slot{one.slot} {section.kind}{one.slot}")
    lines.append("a=rtcp-mux")
    if section.rtcp_rsize:
        lines.append("a=rtcp-rsize")
    lines += _codec(codec, _FEEDBACK.get((section.kind, one.role), ()))
    if one.rtx:
        lines += [
            f"a=rtpmap:{one.rtx.payload_type} rtx/{one.rtx.clock_rate}",
            f"a=fmtp:{one.rtx.payload_type} apt={codec.payload_type}",
        ]
    layers = section.layers()
    if one.role == "receive" and layers:
        lines += [f"a=rid:{rid} recv" for rid in layers]
        # A paused layer that is not answered as paused would begin to flow by itself.
        lines.append("a=simulcast:recv " + ";".join("~" * (rid in section.paused) + rid for rid in layers))
    if one.role == "send":
        if one.rtx_ssrc:
            lines.append(f"a=ssrc-group:FID {one.ssrc} {one.rtx_ssrc}")
        for ssrc in filter(None, (one.ssrc, one.rtx_ssrc)):
            lines.append(f"a=ssrc:{ssrc} cname:{_cname(one.slot)}")
    return lines


def _codec(codec: Codec, feedback: Sequence[str]) -> list[str]:
    channels = f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{codec.payload_type} {codec.name}/{codec.clock_rate}{channels}"]
    if codec.name.lower() == "opus":
        lines.append(f"a=fmtp:{codec.payload_type} {_OPUS}")
    lines += [f"a=rtcp-fb:{codec.payload_type} {each}" for each in feedback if each in codec.feedback]
    return lines


def _cname(slot: int) -> str:
    return f"slot{slot}"


def sources(given: Mapping[str, str]) -> dict[str, str]:
    """What the client calls its tracks, by mid: short plain words only."""
    return {mid: name for mid, name in given.items() if re.fullmatch(r"[a-z-]{1,20}", name)}
