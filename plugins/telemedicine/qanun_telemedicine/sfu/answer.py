"""Answers an offer: what is agreed in every section, and the text of the answer.

The client always offers and this side always answers, so nothing can collide. Sections in which the client sends are
received; sections in which it only receives are a pool: each gets its SSRCs at once, and tracks of others are switched
into free ones without any further negotiation. One codec is received per section; in those that we send in every codec is
agreed to that both sides know, so that whatever a publisher sends can be switched in.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from qanun_telemedicine.sfu import codecs, rtp
from qanun_telemedicine.sfu.addresses import Address
from qanun_telemedicine.sfu.codecs import Offered, Preferences
from qanun_telemedicine.sfu.engine import SenderSpec, TrackSpec
from qanun_telemedicine.sfu.sdp import Codec, Offer, Section

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
        rtp.DEPENDENCY,
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
        rtp.DEPENDENCY,
    ),
}
_FEEDBACK = {
    ("audio", "receive"): ("transport-cc",),
    ("audio", "send"): ("transport-cc",),
    ("video", "receive"): ("nack", "nack pli", "ccm fir", "goog-remb", "transport-cc"),
    ("video", "send"): ("nack", "nack pli", "ccm fir", "transport-cc"),
}
#: In the one-byte form, which is what most packets use, 14 is the last usable id.
_LAST_EXTENSION = 14


@dataclass
class Agreed:
    """What one section of the offer came to: "receive", "send", "inactive" or "rejected", from our point of view."""

    section: Section
    role: str
    #: What is received, or what can be sent, best first.
    offered: list[Offered] = field(default_factory=list)
    red: Codec | None = None
    extensions: dict[str, int] = field(default_factory=dict)
    ssrc: int = 0
    rtx_ssrc: int = 0
    #: The how-many-th receiving section of its kind: sound and picture of one index are played together.
    slot: int = 0
    #: Sound is wanted with older sound before it.
    red_first: bool = False

    @property
    def codec(self) -> Codec | None:
        return self.offered[0].codec if self.offered else None

    @property
    def rtx(self) -> Codec | None:
        return self.offered[0].rtx if self.offered else None

    def shows(self) -> frozenset[str]:
        """The codecs that can be sent here."""
        return frozenset(one.name for one in self.offered) if self.role == "send" else frozenset()

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
            codec=self.offered[0].name,
            clock_rate=self.codec.clock_rate,
            payload_type=self.codec.payload_type,
            rtx_payload_type=self.rtx.payload_type if self.rtx else None,
            red_payload_type=self.red.payload_type if self.red else None,
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
            codec=self.offered[0].name,
            clock_rate=self.codec.clock_rate,
            payload_type=self.codec.payload_type,
            ssrc=self.ssrc,
            rtx_payload_type=self.rtx.payload_type if self.rtx else None,
            rtx_ssrc=self.rtx_ssrc,
            extensions=self.extensions,
            cname=_cname(self.slot),
            others={
                one.name: (one.codec.payload_type, one.rtx.payload_type if one.rtx else None)
                for one in self.offered[1:]
            },
            red_payload_type=self.red.payload_type if self.red else None,
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


def agree(
    offer: Offer,
    ssrcs: Iterator[int],
    known: Mapping[str, "Agreed"],
    preferences: Preferences = Preferences(),  # noqa: B008 - frozen
    shown: Collection[str] | None = None,
) -> list[Agreed]:
    """What every section comes to. `known` are the sections of the last answer by mid: they keep their SSRCs, and the codec
    that they send in while it may stay. `shown` are the video codecs that everybody else can show; None for any.

    `ssrcs` must never give a number twice under the same keys: two streams of one SSRC would share their nonces.
    """
    agreed: list[Agreed] = []
    slots = {"audio": 0, "video": 0}
    for section in offer.sections:
        before = known.get(section.mid)
        one = _agree(section, preferences, shown, before, mixed=offer.mixed)
        if one.role == "send":
            one.slot = slots[section.kind]
            slots[section.kind] += 1
            if before is not None and before.ssrc:
                one.ssrc, one.rtx_ssrc = before.ssrc, before.rtx_ssrc or next(ssrcs)
            else:
                one.ssrc, one.rtx_ssrc = next(ssrcs), next(ssrcs)
            if all(each.rtx is None for each in one.offered):
                one.rtx_ssrc = 0
        agreed.append(one)
    return agreed


def received(
    section: Section, preferences: Preferences, shown: Collection[str] | None, before: str = ""
) -> Offered | None:
    """The codec in which a client should send here; `before`: the one in use."""
    if section.kind != "video":
        return next(iter(codecs.usable(section, ("opus",))), None)
    preferred = codecs.usable(section, preferences.video)
    fitting = [one for one in preferred if shown is None or one.name in shown]
    kept = [one for one in fitting if one.name == before]
    # Better an unwanted codec than one that somebody cannot show.
    rescue = codecs.usable(section, [name for name in codecs.VIDEO if shown is not None and name in shown])
    return next(iter(kept or fitting or rescue or preferred), None)


def _agree(
    section: Section, preferences: Preferences, shown: Collection[str] | None, before: Agreed | None, *, mixed: bool
) -> Agreed:
    if section.rejected or section.kind not in _RECEIVED or "RTP/SAVPF" not in section.protocol:
        return Agreed(section, "rejected")
    role = "receive" if section.sends else "send" if section.receives else "inactive"
    if role == "send":
        # Whatever others may send; the order says nothing about that.
        every = (*preferences.video, *(name for name in codecs.VIDEO if name not in preferences.video))
        offered = codecs.usable(section, every if section.kind == "video" else ("opus",))
    else:
        in_use = before.offered[0].name if before is not None and before.offered and before.role == "receive" else ""
        one = received(section, preferences, shown, in_use)
        offered = [one] if one is not None else []
    if not offered:
        return Agreed(section, "rejected")
    useful = _SENT if role == "send" else _RECEIVED
    directions = ("sendrecv", "recvonly") if role == "send" else ("sendrecv", "sendonly")
    extensions = {
        one.uri: one.id
        for one in section.extensions
        if one.uri in useful[section.kind] and one.direction in directions and one.id <= _LAST_EXTENSION
    }
    if not mixed or all(one.name != "av1" for one in offered):
        # It is read before what the payload itself says, so it has to be there for AV1 only; and it may be long.
        extensions.pop(rtp.DEPENDENCY, None)
    takes_red = section.kind == "audio" and (role == "send" or preferences.red)
    red = codecs.red_of(section, offered[0].codec) if takes_red else None
    # Browsers send in what stands first.
    return Agreed(section, role, offered, red, extensions, red_first=role != "send")


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
    if any(rtp.DEPENDENCY in one.extensions for one in agreed):
        lines.append("a=extmap-allow-mixed")
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
    section = one.section
    described = [each for offered in one.offered for each in (offered.codec, offered.rtx) if each is not None]
    if one.red is not None:
        described.insert(0 if one.red_first else 1, one.red)
    formats = " ".join(str(each.payload_type) for each in described)
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
    for offered in one.offered:
        lines += _codec(offered.codec, _FEEDBACK.get((section.kind, one.role), ()))
        if offered.rtx is not None:
            lines += [
                f"a=rtpmap:{offered.rtx.payload_type} rtx/{offered.rtx.clock_rate}",
                f"a=fmtp:{offered.rtx.payload_type} apt={offered.codec.payload_type}",
            ]
    if one.red is not None and one.codec is not None:
        primary = one.codec.payload_type
        lines += [
            f"a=rtpmap:{one.red.payload_type} red/{one.red.clock_rate}/{one.red.channels}",
            f"a=fmtp:{one.red.payload_type} {primary}/{primary}",
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
    if parameters := codecs.answered(codec):
        lines.append(f"a=fmtp:{codec.payload_type} {parameters}")
    lines += [f"a=rtcp-fb:{codec.payload_type} {each}" for each in feedback if each in codec.feedback]
    return lines


def _cname(slot: int) -> str:
    return f"slot{slot}"


def sources(given: Mapping[str, str]) -> dict[str, str]:
    """What the client calls its tracks, by mid: short plain words only."""
    return {mid: name for mid, name in given.items() if re.fullmatch(r"[a-z-]{1,20}", name)}
