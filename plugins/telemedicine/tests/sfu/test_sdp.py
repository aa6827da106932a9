"""Offers as Chromium and Firefox make them, offers as attackers make them, and what is answered."""

import contextlib
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanun_telemedicine.sfu import answer, codecs, rtp, sdp
from qanun_telemedicine.sfu.answer import Local
from qanun_telemedicine.sfu.codecs import Preferences

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
    assert not re.search("PCMU|G722|ulpfec|flexfec|red/90000|telephone", made)
    assert not re.search("H264|VP9|AV1|red/", section_of(made, "0") + camera), "in one codec they send"


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
    _, sections, _ = agreed(re.sub("(VP8|VP9|H264|AV1)/90000", "XYZ/90000", CHROMIUM))
    assert [one.role for one in sections] == ["receive", "rejected", "send", "rejected", "rejected"]


def answered(text: str, order: str, shown: str = "", known: list[answer.Agreed] | None = None) -> list[answer.Agreed]:
    before = {one.mid: one for one in known or []}
    preferences = Preferences.of(order)
    return answer.agree(sdp.parse(text), itertools.count(1000), before, preferences, shown.split() or None)


def sent_in(sections: list[answer.Agreed]) -> str:
    return sections[1].track("t", "p", "camera").codec


@pytest.mark.parametrize("text", [CHROMIUM, FIREFOX], ids=["chromium", "firefox"])
def test_the_first_codec_of_the_order_that_both_know_is_sent_in(text: str) -> None:
    assert sent_in(answered(text, "")) == "vp8"
    for name in ("h264", "vp9", "av1"):
        if name in sections_of(text):
            assert sent_in(answered(text, f"{name},vp8")) == name
    assert sent_in(answered(re.sub("(VP9|AV1)/90000", "XYZ/90000", text), "av1,vp9,vp8")) == "vp8"
    with pytest.raises(ValueError, match="theora"):
        Preferences.of("vp8,theora")


def sections_of(text: str) -> frozenset[str]:
    return answered(text, "")[3].shows()


def test_in_what_we_send_every_codec_that_both_know_is_agreed_to() -> None:
    eye = answered(CHROMIUM, "h264")[3]
    assert {"vp8", "h264", "vp9", "av1"} <= eye.shows()
    spec = eye.sender("3")
    assert spec.codec == "h264" and spec.payloads("h264") == (spec.payload_type, spec.rtx_payload_type)
    assert spec.payloads("vp8") == (96, 97) and spec.payloads("theora") is None
    made = answer.write(sdp.parse(CHROMIUM), answered(CHROMIUM, "h264"), LOCAL)
    part = section_of(made, "3")
    assert re.search(r"a=fmtp:\d+ level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r", part)
    assert "packetization-mode=0" not in part
    for kind in re.findall(r"a=rtpmap:(\d+) rtx/90000", part):
        assert re.search(rf"a=fmtp:{kind} apt=\d+\r", part), "every retransmission says of what"


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f", "h264"),
        ("profile-level-id=42E034; packetization-mode=1", "h264"),
        ("packetization-mode=1;profile-level-id=640c1f", "h264-high"),
        ("packetization-mode=1;profile-level-id=42001f", None),
        ("packetization-mode=1;profile-level-id=4d001f", None),
        ("packetization-mode=0;profile-level-id=42e01f", None),
        ("profile-level-id=42e01f", None),
        ("packetization-mode=1", None),
        ("packetization-mode=1;profile-level-id=42e01f42", None),
        ("", None),
    ],
)
def test_h264_is_taken_in_the_forms_that_every_decoder_reads(parameters: str, name: str | None) -> None:
    assert codecs.name_of(sdp.Codec(102, "H264", 90000, 1, parameters)) == name


def test_what_somebody_in_the_room_cannot_show_is_not_asked_for() -> None:
    first = answered(CHROMIUM, "vp9,vp8")
    assert sent_in(first) == "vp9"
    assert sent_in(answered(CHROMIUM, "vp9,vp8", "vp8 h264", first)) == "vp8", "also when it was"
    assert sent_in(answered(CHROMIUM, "vp8,vp9", "", first)) == "vp9", "what is in use stays while it may"
    assert sent_in(answered(CHROMIUM, "vp9", "theora")) == "vp9", "where nothing fits all, something is sent"


def test_the_dependency_descriptor_is_there_for_av1_only_and_where_it_fits() -> None:
    for order, there in (("vp8", False), ("av1", True)):
        sections = answered(CHROMIUM, order)
        assert (rtp.DEPENDENCY in sections[1].extensions) == there
        assert rtp.DEPENDENCY in sections[3].extensions, "others may send it"
        assert "a=extmap-allow-mixed\r\n" in answer.write(sdp.parse(CHROMIUM), sections, LOCAL)
    short = CHROMIUM.replace("a=extmap-allow-mixed\r\n", "")
    assert not any(rtp.DEPENDENCY in one.extensions for one in answered(short, "av1"))


def test_sound_with_older_sound_is_asked_for_where_it_is_wanted_and_sent_to_who_takes_it() -> None:
    plain, doubled = answered(CHROMIUM, "vp8"), answered(CHROMIUM, "vp8,red")
    assert plain[0].red is None and plain[2].sender("2").red_payload_type == 63
    assert doubled[0].track("t", "p", "microphone").red_payload_type == 63
    made = answer.write(sdp.parse(CHROMIUM), doubled, LOCAL)
    assert "m=audio 9 UDP/TLS/RTP/SAVPF 63 111\r\n" in made and "a=fmtp:63 111/111\r\n" in made
    assert "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n" in made
    assert answered(FIREFOX, "vp8,red")[0].red is None


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


@settings(max_examples=100, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text_is_refused_with_our_own_error(text: str) -> None:
    with pytest.raises(sdp.SdpError):
        sdp.parse(text)


@settings(max_examples=100, deadline=None)
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
