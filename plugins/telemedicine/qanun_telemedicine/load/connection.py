"""A made-up participant's way in: an offer as browsers write one, and ICE and DTLS as the answer says. It sends nothing."""

import re
from collections.abc import Mapping, Sequence

from aiortc import (
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceTransport,
)

from qanun_telemedicine.sfu import rtp

#: Payload types, and the ids of the header extensions that say whose a packet is and which number it has.
AUDIO, VIDEO = 111, 96
MID, NUMBER = 4, 3
_SECTION = """m={kind} 9 UDP/TLS/RTP/SAVPF {formats}
c=IN IP4 0.0.0.0
a=ice-ufrag:{username}
a=ice-pwd:{password}
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=mid:{mid}
a=extmap:{mid_id} {mid_uri}
a=extmap:{number_id} {number_uri}
a={direction}
a=rtcp-mux
{codecs}
"""
_CODECS = {
    "audio": ("111", "a=rtpmap:111 opus/48000/2\na=rtcp-fb:111 transport-cc"),
    "video": (
        "96 97",
        "a=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtcp-fb:96 transport-cc\n"
        "a=rtpmap:97 rtx/90000\na=fmtp:97 apt=96",
    ),
}


def describe(
    gatherer: RTCIceGatherer, dtls: RTCDtlsTransport, kinds: Sequence[tuple[str, str]], more: Mapping[int, str] | None = None
) -> str:  # fmt: skip
    """The offer: a section for each (kind, direction); `more` are further lines of a section, by its number."""
    local = gatherer.getLocalParameters()
    text = "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE " + " ".join(map(str, range(len(kinds)))) + "\n"
    for mid, (kind, direction) in enumerate(kinds):
        formats, codecs = _CODECS[kind]
        text += _SECTION.format(
            kind=kind, formats=formats, codecs=codecs + (more or {}).get(mid, ""), direction=direction, mid=mid, mid_id=MID,
            mid_uri=rtp.MID, number_id=NUMBER, number_uri=rtp.TRANSPORT_CC, username=local.usernameFragment,
            password=local.password, fingerprint=dtls.getLocalParameters().fingerprints[0].value,
        )  # fmt: skip
    return text


async def reach(ice: RTCIceTransport, answer: str) -> None:
    """Find the way to the addresses of the answer. Raises ConnectionError when there is none."""
    for foundation, host, port in re.findall(r"a=candidate:(\S+) 1 udp \d+ (\S+) (\d+)", answer):
        await ice.addRemoteCandidate(RTCIceCandidate(1, foundation, host, int(port), 1, "udp", "host"))
    await ice.addRemoteCandidate(None)
    await ice.start(RTCIceParameters(_said(answer, "ice-ufrag:"), _said(answer, "ice-pwd:")))


async def secure(dtls: RTCDtlsTransport, answer: str) -> None:
    """Agree on keys over that way. Raises RuntimeError when that does not come about."""
    fingerprint = RTCDtlsFingerprint("sha-256", _said(answer, "fingerprint:sha-256 "))
    await dtls.start(RTCDtlsParameters([fingerprint], "server"))
    if dtls.state != "connected":
        raise RuntimeError(f"no encrypted connection: {dtls.state}")


def _said(answer: str, name: str) -> str:
    found = re.search(rf"a={name}(\S+)", answer)
    if found is None:
        raise ValueError(f"the answer has no {name.split(':', maxsplit=1)[0]}")
    return found[1]
