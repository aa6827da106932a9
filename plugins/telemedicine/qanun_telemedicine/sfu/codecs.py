"""Which of the codecs in an offer are those that we forward, and in which order they are preferred.

A codec is named as in `payloads.CODECS`. Only forms that every decoder of that name reads are taken: VP9 and AV1 of profile 0,
H.264 in packetization mode 1 of the constrained baseline profile ("h264") or a high one ("h264-high").
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from qanun_telemedicine.sfu.payloads import CODECS
from qanun_telemedicine.sfu.sdp import Codec, Section

VIDEO = CODECS[1:]
_OPUS = "minptime=10;useinbandfec=1"
_PARAMETER = re.compile(r"([a-z-]{1,30})=([A-Za-z0-9.]{1,20})")
#: What an answer repeats of an offer's parameters, by the name in the description.
_REPEATED = {
    "VP9": ("profile-id",),
    "AV1": ("level-idx", "profile", "tier"),
    "H264": ("level-asymmetry-allowed", "packetization-mode", "profile-level-id"),
}


@dataclass(frozen=True)
class Preferences:
    """The order in which codecs are tried. VP8 first: every browser has it, and it costs phones the least trouble."""

    video: tuple[str, ...] = ("vp8", "h264", "vp9", "av1", "h264-high")
    #: Ask for older sound before each newest (RED): twice the bits, and no gap where single packets are lost.
    red: bool = False

    @classmethod
    def of(cls, text: str) -> "Preferences":
        """From "h264,vp8" or "vp8,red"; what is not named is used only where nothing else
        fits everybody. Raises ValueError for an unknown name."""
        names = [name.strip().lower() for name in text.split(",") if name.strip()]
        video = tuple(dict.fromkeys(name for name in names if name != "red"))
        unknown = [name for name in video if name not in VIDEO]
        if unknown:
            raise ValueError(f"codecs: {unknown[0]!r} is none of {', '.join((*VIDEO, 'red'))}")
        return cls(video or cls.video, "red" in names)


@dataclass(frozen=True)
class Offered:
    """One codec of a section that can be used, with its retransmissions."""

    name: str
    codec: Codec
    rtx: Codec | None = None


def parameters(codec: Codec) -> dict[str, str]:
    pairs = (_PARAMETER.fullmatch(one.strip()) for one in codec.parameters.split(";"))
    return {pair[1]: pair[2] for pair in pairs if pair is not None}


def name_of(codec: Codec) -> str | None:
    """Our name for a codec; None for one that we do not forward."""
    name, told = codec.name.upper(), parameters(codec)
    match name, codec.clock_rate:
        case "OPUS", 48000:
            return "opus"
        case "VP8", 90000:
            return "vp8"
        case "VP9", 90000:
            return "vp9" if told.get("profile-id", "0") == "0" else None
        case "AV1", 90000:
            return "av1" if told.get("profile", "0") == "0" else None
        case "H264", 90000:
            return _h264(told)
    return None


def _h264(told: dict[str, str]) -> str | None:
    profile = told.get("profile-level-id", "").lower()
    if told.get("packetization-mode") != "1" or not re.fullmatch(r"[0-9a-f]{6}", profile):
        return None
    # The second byte's 0x40: nothing outside of the constrained baseline profile is used.
    if profile[:2] == "42" and int(profile[2:4], 16) & 0x40:
        return "h264"
    return "h264-high" if profile[:2] == "64" else None


def usable(section: Section, order: Sequence[str]) -> list[Offered]:
    """What of an offered section can be used, the first form of each name, best first."""
    found: dict[str, Offered] = {}
    for codec in section.codecs.values():
        name = name_of(codec)
        if name is not None and name in order and name not in found:
            rtx = section.rtx(codec.payload_type) if section.kind == "video" else None
            found[name] = Offered(name, codec, rtx)
    return [found[name] for name in order if name in found]


def red_of(section: Section, primary: Codec) -> Codec | None:
    """The payload type for sound with older sound of this codec before it."""
    wanted = f"{primary.payload_type}/{primary.payload_type}"
    return next(
        (
            one
            for one in section.codecs.values()
            if one.name.lower() == "red"
            and (one.clock_rate, one.channels) == (primary.clock_rate, primary.channels)
            and one.parameters.startswith(wanted)
        ),
        None,
    )


def answered(codec: Codec) -> str:
    """The parameters of an answer."""
    if codec.name.upper() == "OPUS":
        return _OPUS
    told = parameters(codec)
    return ";".join(f"{key}={told[key]}" for key in _REPEATED.get(codec.name.upper(), ()) if key in told)
