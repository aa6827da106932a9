"""Offers as Chromium and Firefox make them, offers as attackers make them, and what is answered."""

import contextlib
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanun_telemedicine.sfu import answer, rtp, sdp
from qanun_telemedicine.sfu.answer import Local

OFFERS = Path(__file__).parent / "offers"
CHROMIUM = (OFFERS / "chromium.sdp").read_bytes().decode()
FIREFOX = (OFFERS / "firefox.sdp").read_bytes().decode()
LOCAL = Local("ufrag", "p" * 24, "AA:BB", [("192.0.2.9", 40000), ("127.0.0.1", 40000)], 1, 1)


def agreed(text: str) -> tuple[sdp.Offer, list[answer.Agreed], str]:
    offer = sdp.parse(text)
    sections = answer.agree(offer, itertools.count(1000), {})
    return offer, sections, answer.write(offer, sections, LOCAL)


def section_of(text: str, mid: str) -> str:
    return next(part for part in text.split("\r\nm=") if f"a=mid:{mid}\r\n" in part + "\r\n")


@pytest.mark.parametrize(
    ("text", "video", "rtx", "opus", "level", "mid", "rid"),
    [(CHROMIUM, 96, 97, 111, 1, 4, 10), (FIREFOX, 120, 124, 109, 1, 3, 9)],
    ids=["chromium", "firefox"],
)
def test_a_browsers_offer_is_understood(
    text: str, video: int, rtx: int, opus: int, level: int, mid: int, rid: int
) -> None:
    offer, sections, _ = agreed(text)
    microphone, camera, ear, eye, data = sections
    assert [one.role for one in sections] == ["receive", "receive", "send", "send", "rejected"]
    assert microphone.codec is not None and microphone.codec.payload_type == opus
    assert camera.codec is not None and camera.rtx is not None
    assert (camera.codec.payload_type, camera.rtx.payload_type) == (video, rtx)
    assert camera.section.layers() == ("q", "h", "f")
    assert microphone.extensions[rtp.AUDIO_LEVEL] == level
    assert (camera.extensions[rtp.MID], camera.extensions[rtp.RID]) == (mid, rid)
    assert ear.slot == eye.slot == 0
    assert data.section.kind == "application"
    assert offer.setup == "actpass" and offer.fingerprints[0][0] == "sha-256"


@pytest.mark.parametrize("text", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
def test_the_answer_takes_simulcast_gives_its_ssrcs_and_rejects_what_it_does_not_want(text: str) -> None:
    _, sections, made = agreed(text)
    assert "a=group:BUNDLE 0 1 2 3\r\n" in made
    camera = section_of(made, "1")
    assert "a=simulcast:recv q;h;f" in camera and camera.count(" recv\r\n") >= 3
    assert "a=recvonly" in camera and "a=setup:passive" in camera
    assert "transport-cc" in camera and "nack pli" in camera
    eye = section_of(made, "3")
    assert f"a=ssrc-group:FID {sections[3].ssrc} {sections[3].rtx_ssrc}" in eye
    assert "a=sendonly" in eye and "a=msid:slot0 " in eye and "simulcast" not in eye
    assert made.count("m=application 0 ") == 1
    assert made.count("192.0.2.9 40000 typ host") == 1
    assert not re.search("H264|VP9|AV1|PCMU|red/|ulpfec|telephone", made)


def test_sound_and_picture_of_one_index_share_a_stream_so_that_lips_fit() -> None:
    text = CHROMIUM.replace("a=mid:4", "a=mid:9").replace("BUNDLE 0 1 2 3 4", "BUNDLE 0 1 2 3 9")
    _, sections, made = agreed(text)
    assert "msid:slot0 audio0" in made and "msid:slot0 video0" in made
    assert sections[2].sender("x").cname == sections[3].sender("x").cname


def test_a_second_offer_keeps_the_ssrcs_of_sections_that_stay() -> None:
    offer = sdp.parse(FIREFOX)
    first = answer.agree(offer, itertools.count(1000), {})
    second = answer.agree(offer, itertools.count(2000), {one.mid: one for one in first})
    assert [(one.ssrc, one.rtx_ssrc) for one in first] == [(one.ssrc, one.rtx_ssrc) for one in second]
    assert len({one.ssrc for one in first if one.ssrc} | {one.rtx_ssrc for one in first if one.rtx_ssrc}) == 3


def test_firefoxs_bundle_only_section_with_port_zero_is_not_a_rejection() -> None:
    offer = sdp.parse(FIREFOX)
    assert offer.sections[2].port == 0 and not offer.sections[2].rejected


def test_a_direction_of_a_header_extension_is_heeded() -> None:
    _, sections, _ = agreed(FIREFOX)
    # Firefox takes playout-delay but does not send it.
    assert rtp.PLAYOUT_DELAY in sections[3].extensions
    assert rtp.PLAYOUT_DELAY not in sections[1].extensions


def test_upper_case_codec_names_are_known() -> None:
    _, sections, _ = agreed(CHROMIUM.replace("opus/48000/2", "OPUS/48000/2").replace("VP8/90000", "vp8/90000"))
    assert [one.role for one in sections[:2]] == ["receive", "receive"]


def test_a_stopped_section_is_answered_rejected_and_leaves_the_bundle() -> None:
    text = CHROMIUM.replace("m=video 9", "m=video 0", 1).replace("BUNDLE 0 1 2 3 4", "BUNDLE 0 2 3 4")
    _, sections, made = agreed(text)
    assert sections[1].role == "rejected"
    assert "a=group:BUNDLE 0 2 3\r\n" in made


def test_a_browser_without_our_codecs_gets_a_rejected_section_not_an_error() -> None:
    _, sections, _ = agreed(CHROMIUM.replace("VP8/90000", "XYZ/90000"))
    assert [one.role for one in sections] == ["receive", "rejected", "send", "rejected", "rejected"]


WRONG = [
    ("malformed", lambda text: "hello"),
    ("malformed", lambda text: ""),
    ("malformed", lambda text: text.replace("t=0 0", "t")),
    ("malformed", lambda text: text.replace("m=audio 9", "m=audio nine")),
    ("malformed", lambda text: text.replace("m=audio 9", "m=audio 99999")),
    ("malformed", lambda text: text.replace("a=extmap:1 ", "a=extmap:0 ")),
    ("malformed", lambda text: text.replace("a=extmap:1 ", "a=extmap:-1 ")),
    ("malformed", lambda text: text.replace("a=rid:q send", "a=rid:../q send")),
    ("malformed", lambda text: text.replace("a=rid:q send", "a=rid")),
    ("malformed", lambda text: text.replace("a=mid:0", "a=mid:a b")),
    ("mid", lambda text: text.replace("a=mid:1", "a=mid:0")),
    ("mid", lambda text: text.replace("a=mid:1\r\n", "")),
    ("bundle", lambda text: re.sub("a=group.*\r\n", "", text)),
    ("bundle", lambda text: text.replace("BUNDLE 0 1 2 3 4", "BUNDLE 0 1")),
    ("bundle", lambda text: text.replace("BUNDLE 0 1 2 3 4", "BUNDLE")),
    ("rtcp-mux", lambda text: text.replace("a=rtcp-mux\r\n", "")),
    ("ice", lambda text: re.sub("a=ice-ufrag:.*\r\n", "", text)),
    ("ice", lambda text: re.sub("a=ice-pwd:.*\r\n", "a=ice-pwd:short\r\n", text)),
    ("ice", lambda text: re.sub("a=ice-ufrag:.*\r\n", "a=ice-ufrag:a:b:c:d\r\n", text)),
    ("fingerprint", lambda text: re.sub("a=fingerprint:.*\r\n", "", text)),
    ("fingerprint", lambda text: text.replace("a=fingerprint:sha-256", "a=fingerprint:md5")),
    ("fingerprint", lambda text: re.sub("sha-256 ..:", "sha-256 XX:", text)),
    ("setup", lambda text: text.replace("a=setup:actpass", "a=setup:passive")),
    ("no-media", lambda text: text.split("m=audio")[0]),
    ("too-many-sections", lambda text: text + "m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n" * 80),
    ("too-large", lambda text: text + "a=x\r\n" * 50_000),
    ("too-large", lambda text: text + "a=" + "x" * 3_000 + "\r\n"),
    ("too-large", lambda text: text.replace("a=mid:1", "a=mid:1" + "".join(f"\r\na=ssrc:{n} c:x" for n in range(99)))),
    ("too-large", lambda text: text.replace("a=mid:1", "a=mid:1" + "".join(f"\r\na=rid:r{n} send" for n in range(9)))),
]


@pytest.mark.parametrize(("code", "spoil"), WRONG, ids=range(len(WRONG)))
def test_a_spoiled_offer_is_refused_with_a_code(code: str, spoil) -> None:
    with pytest.raises(sdp.SdpError) as refused:
        sdp.parse(spoil(CHROMIUM))
    assert refused.value.code == code


LINES = CHROMIUM.split("\r\n")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LINES) - 1), st.sampled_from(["drop", "twice", "cut", "noise"]), st.text(max_size=30)
        ),
        max_size=12,
    )
)
def test_whatever_is_done_to_an_offer_it_is_answered_or_refused(changes: list[tuple[int, str, str]]) -> None:
    lines = list(LINES)
    for at, what, noise in changes:
        line = lines[at]
        lines[at] = {"drop": "", "twice": f"{line}\r\n{line}", "cut": line[: len(line) // 2], "noise": line + noise}[
            what
        ]
    try:
        _, _, made = agreed("\r\n".join(lines))
    except sdp.SdpError:
        return
    assert made.startswith("v=0\r\n") and "\n\n" not in made.replace("\r", "")


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_is_refused_with_our_own_error(text: str) -> None:
    with pytest.raises(sdp.SdpError):
        sdp.parse(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(sdp._ATTRIBUTES)), st.text(max_size=60))
def test_any_value_of_any_attribute_is_read_or_refused(name: str, value: str) -> None:
    with contextlib.suppress(sdp.SdpError):
        agreed(CHROMIUM.replace("a=mid:1\r\n", f"a=mid:1\r\na={name}:{value}\r\n"))


def test_nothing_of_an_offer_reaches_another_line_of_the_answer() -> None:
    spoiled = CHROMIUM.replace("UDP/TLS/RTP/SAVPF 111", "UDP/TLS/RTP/SAVPF\x0b 111")
    try:
        _, _, made = agreed(spoiled)
    except sdp.SdpError:
        return
    assert "\x0b" not in made


def test_a_layer_that_is_offered_as_paused_is_answered_as_paused_and_can_be_asked_for() -> None:
    _, sections, made = agreed(CHROMIUM.replace("a=simulcast:send q;h;f", "a=simulcast:send ~q;~h;f"))
    assert "a=simulcast:recv ~q;~h;f" in section_of(made, "1")
    assert sections[1].section.layers() == ("q", "h", "f")
