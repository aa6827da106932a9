"""A release is proven before it is believed, put beside what runs, and told about afterwards: on an image of a disk.

Whatever is wrong with a bundle, it is refused before a byte is written; wherever the power fails, what runs still starts.
"""

import base64
import hashlib
import importlib
import io
import json
import os
import shutil
import subprocess
import tarfile

import pytest
from packaging.version import Version

from qanun.crypto import SigningKey
from qanun_appliance.places import Places
from qanun_appliance.update import Disk, Refused, pack, reboot, roll_back, stage, status, tidy, trusted_keys
from qanun_appliance.update import slots as slots_module
from qanun_appliance.update.slots import this_disk

KEY, NEXT, STRANGER = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
KEYS = [KEY.public, NEXT.public]
RUNNING = Version("1.0.0")
MIB = 1024 * 1024
stage_module = importlib.import_module("qanun_appliance.update.stage")
pytestmark = pytest.mark.skipif(shutil.which("sfdisk") is None, reason="sfdisk is not installed here")


@pytest.fixture
def disk(tmp_path):
    """A disk as images/ lays it out: boot partition, slot A runs 1.0.0, slot B is empty."""
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate(40 * MIB)
    table = "label: gpt\n"
    for name, start, size in (("qanun-esp", 1, 8), ("qanun-root-1.0.0", 9, 12), ("_empty", 21, 12)):
        table += f'start={start * 2048}, size={size * 2048}, name="{name}"\n'
    subprocess.run(["sfdisk", "--quiet", str(image)], input=table, text=True, check=True)
    with image.open("r+b") as file:
        file.seek(9 * MIB)
        file.write(b"one" * 1000)
    esp = tmp_path / "esp"
    (esp / "EFI/Linux").mkdir(parents=True)
    (esp / "EFI/Linux/qanun_1.0.0.efi").write_bytes(b"boot one")
    return Disk(device=image, esp=esp, running="qanun-root-1.0.0")


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "machine")
    found.reports.mkdir(parents=True)
    return found


def build(folder, version="1.1.0", *, product="qanun", key=KEY, slot=None, **more):
    """A signed build's folder as images/build leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        "slot.img": slot or os.urandom(3 * MIB + 17), f"qanun_{version}.efi": b"boot " + version.encode() * 100,
        "sbom.cdx.json": b"{}", "NOTES.en.md": b"Calls are clearer.", "NOTES.ar.md": "المكالمات أوضح.".encode(),
    }  # fmt: skip
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
    }
    files["disk.raw"] = {"size": 5, "sha256": "0" * 64}
    manifest = json.dumps({"product": product, "version": version, "files": files, **more}).encode()
    (folder / "manifest.json").write_bytes(manifest)
    (folder / "manifest.json.sig").write_text(base64.b64encode(key.sign(manifest)).decode() + "\n")
    return folder


def bundle(folder, name="release.tar", **more):
    build(folder, **more)
    pack(folder, folder / name)
    return folder / name


def put(file, places, disk, **more):
    given = {"running": RUNNING, "keys": KEYS, "revisions": {}, "prove": lambda: None, "say": lambda _: None, **more}
    return stage(file, places, disk, **given)


def labels(disk):
    return [slot.label for slot in disk.slots()]


def names(disk):
    return sorted(path.name for path in (disk.esp / "EFI/Linux").iterdir())


def everything(disk):
    return disk.device.read_bytes(), {path.name: path.read_bytes() for path in (disk.esp / "EFI/Linux").iterdir()}


def test_a_release_lies_in_the_spare_slot_byte_for_byte_and_starts_only_when_told(tmp_path, disk, places):
    order, started = [], []
    report = put(bundle(tmp_path / "b"), places, disk, prove=lambda: order.append("proved"), say=order.append)
    assert labels(disk) == ["qanun-root-1.0.0", "qanun-root-1.1.0"]
    assert names(disk) == ["qanun_1.0.0.efi", "qanun_1.1.0+3.efi"] and started == []
    content = (tmp_path / "b/slot.img").read_bytes()
    assert disk.device.read_bytes()[21 * MIB : 21 * MIB + len(content)] == content
    assert disk.device.read_bytes()[9 * MIB :][:3000] == b"one" * 1000
    assert report["notes"]["ar"] == "المكالمات أوضح."
    assert order.index("hashes") < order.index("room") < order.index("proved") < order.index("writing slot 3")
    assert order[-2:] == ["reading it back", "boot entry"]
    found = status(places, disk, "1.0.0")
    assert (found["last"]["state"], found["other"]) == ("staged", "1.1.0")
    assert reboot(places, disk, "1.0.0", lambda: started.append(1)) == "1.1.0" and started == [1]


def test_both_trusted_keys_sign_and_no_other(tmp_path, disk, places):
    before = everything(disk)
    with pytest.raises(Refused, match="nobody that this machine trusts"):
        put(bundle(tmp_path / "a", key=STRANGER), places, disk)
    assert everything(disk) == before
    put(bundle(tmp_path / "b", key=NEXT), places, disk)
    assert labels(disk)[1] == "qanun-root-1.1.0"


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ({"version": "0.9.0"}, "older than 1.0.0"),
        ({"version": "1.0.0"}, "running already"),
        ({"product": "another"}, "not of qanun"),
        ({"version": "3.0.0", "min_from": "2.0.0"}, "Take the one between first"),
        ({"schema": {"core": ["0001", "0002"]}}, "does not know"),
        ({"schema": {"core": ["0003"], "postgresql": ["18"]}}, "the data is of PostgreSQL 17, and 1.1.0 has 18 alone"),
        ({"slot": b"x" * (13 * MIB)}, "the slot has"),
    ],
)
def test_a_release_that_does_not_follow_is_refused_and_nothing_is_written(tmp_path, disk, places, made, sentence):
    before, proved = everything(disk), []
    with pytest.raises(Refused, match=sentence):
        known = {"core": "0003", "postgresql": "17"}
        put(bundle(tmp_path / "b", **made), places, disk, revisions=known, prove=lambda: proved.append(1))
    assert everything(disk) == before and proved == []


def test_a_release_that_brings_the_clinic_s_postgresql_beside_a_newer_one_is_taken(tmp_path, disk, places):
    put(bundle(tmp_path / "b", schema={"postgresql": ["17", "18"]}), places, disk, revisions={"postgresql": "17"})
    assert labels(disk)[1] == "qanun-root-1.1.0"


def rewritten(source, target, change):
    """The bundle with its members given to `change`, which yields (TarInfo, content)."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        members = [(member, old.extractfile(member).read()) for member in old]
        for member, content in change(members):
            member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return target


def member(name, **more):
    found = tarfile.TarInfo(name)
    for key, value in more.items():
        setattr(found, key, value)
    return found


def swapped(members, name, content):
    return [(one, content if one.name == name else old) for one, old in members]


ATTACKS = {
    "a changed slot": lambda m: swapped(m, "slot.img", b"evil" + {o.name: c for o, c in m}["slot.img"][4:]),
    "a longer slot": lambda m: swapped(m, "slot.img", {o.name: c for o, c in m}["slot.img"] + b"x"),
    "a changed boot file": lambda m: swapped(m, "qanun_1.1.0.efi", b"evil" * 175),
    "a changed manifest": lambda m: swapped(m, "manifest.json", m[0][1].replace(b"1.1.0", b"1.2.0")),
    "an empty signature": lambda m: swapped(m, "manifest.json.sig", b""),
    "a manifest that comes later": lambda m: [m[1], m[0], *m[2:]],
    "no signature": lambda m: [m[0], *m[2:]],
    "no slot": lambda m: [one for one in m if one[0].name != "slot.img"],
    "no boot file": lambda m: [one for one in m if not one[0].name.endswith(".efi")],
    "a file nobody signed": lambda m: [*m, (member("extra.sh"), b"rm")],
    "a signed name that does not belong": lambda m: [*m, (member("disk.raw"), b"12345")],
    "a path that climbs out": lambda m: [*m, (member("../../etc/passwd"), b"root")],
    "an absolute path": lambda m: [*m, (member("/etc/passwd"), b"root")],
    "a symbolic link": lambda m: [
        *m[:2],
        (member("slot.img", type=tarfile.SYMTYPE, linkname="/etc/shadow"), b""),
        *m[2:],
    ],
    "a hard link": lambda m: [
        *m[:2],
        (member("slot.img", type=tarfile.LNKTYPE, linkname="manifest.json"), b""),
        *m[2:],
    ],
    "a device": lambda m: [*m[:2], (member("slot.img", type=tarfile.BLKTYPE), b""), *m[2:]],
    "a folder": lambda m: [*m[:2], (member("slot.img", type=tarfile.DIRTYPE), b""), *m[2:]],
    "the slot twice": lambda m: [*m, m[-1]],
    "a manifest of two megabytes": lambda m: swapped(m, "manifest.json", m[0][1] + b" " * 2 * MIB),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_bundle_with_anything_else_in_it_is_refused_and_nothing_is_written(tmp_path, disk, places, attack):
    good = bundle(tmp_path / "b")
    bad = rewritten(good, tmp_path / "bad.tar", ATTACKS[attack])
    before = everything(disk)
    with pytest.raises(Refused):
        put(bad, places, disk)
    assert everything(disk) == before and not (places.data / "updates" / "state.json").exists()


def test_a_bundle_cut_short_anywhere_and_a_hundred_changed_bytes_are_refused(tmp_path, disk, places):
    import random

    good = bundle(tmp_path / "b", slot=os.urandom(40_000)).read_bytes()
    last = good.rindex(b"\0" * 512)  # what follows the last member is padding
    before, chooser = everything(disk), random.Random(3)
    bad = tmp_path / "bad.tar"
    payload_end = len(good.rstrip(b"\0"))
    for cut in [0, 1, 511, 512, 700, *(chooser.randrange(payload_end - 600) for _ in range(20))]:
        bad.write_bytes(good[:cut])
        with pytest.raises(Refused):
            put(bad, places, disk)
    with tarfile.open(tmp_path / "b/release.tar") as archive:
        spans = [(one.offset_data, one.size) for one in archive]
    assert last
    for _ in range(100):
        start, size = chooser.choices(spans, weights=[size for _, size in spans])[0]
        at = start + chooser.randrange(size)
        bad.write_bytes(good[:at] + bytes([good[at] ^ (1 << chooser.randrange(8))]) + good[at + 1 :])
        if good[at : at + 1] == b"\n" and start == spans[1][0]:
            continue  # the line's end after the signature belongs to nothing
        with pytest.raises(Refused):
            put(bad, places, disk)
    assert everything(disk) == before


def test_no_backup_no_release_unless_somebody_says_why(tmp_path, disk, places):
    before = everything(disk)

    def broken():
        raise RuntimeError("the backup disk is not there")

    file = bundle(tmp_path / "b")
    with pytest.raises(RuntimeError, match="not there"):
        put(file, places, disk, prove=broken)
    with pytest.raises(Exception, match="only with a reason"):
        put(file, places, disk, prove=None)
    assert everything(disk) == before
    put(file, places, disk, prove=None, reason="the disk comes tomorrow")
    assert status(places, disk, "1.0.0")["history"][-1]["without_backup"] == "the disk comes tomorrow"


def test_a_full_data_disk_is_refused_before_writing(tmp_path, disk, places, monkeypatch):
    file, before = bundle(tmp_path / "b"), everything(disk)
    usage = type("Usage", (), {"total": 100 * MIB, "free": 3 * MIB, "used": 97 * MIB})
    monkeypatch.setattr(stage_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(Refused, match="nearly full"):
        put(file, places, disk)
    assert everything(disk) == before


class PowerCut(BaseException):
    """Nothing catches it, nothing cleans up: as when the plug is pulled."""


@pytest.mark.parametrize("after", range(1, 9))
def test_wherever_the_power_fails_what_runs_still_starts_and_staging_again_works(
    tmp_path, disk, places, monkeypatch, after
):
    put(
        bundle(tmp_path / "old", version="0.9.5"), places, disk, running=Version("0.9.0")
    )  # something in the spare slot
    file = bundle(tmp_path / "b")
    steps = {"left": after}

    def cut():
        steps["left"] -= 1
        if steps["left"] == 0:
            raise PowerCut

    def around(name):
        real = getattr(Disk, name)

        def acting(self, *words, **more):
            cut()
            found = real(self, *words, **more)
            cut()
            return found

        monkeypatch.setattr(Disk, name, acting)

    for name in ("remove_boot_files", "relabel", "add_boot_file"):
        around(name)
    with pytest.raises(PowerCut):
        put(file, places, disk)
    monkeypatch.undo()
    assert "qanun-root-1.0.0" in labels(disk) and "qanun_1.0.0.efi" in names(disk)
    assert disk.device.read_bytes()[9 * MIB :][:3000] == b"one" * 1000
    for entry in disk.boot_files():  # whatever can be started has its whole slot
        if entry.version != "1.0.0":
            assert f"qanun-root-{entry.version}" in labels(disk)
            content = (tmp_path / {"0.9.5": "old", "1.1.0": "b"}[entry.version] / "slot.img").read_bytes()
            assert disk.device.read_bytes()[21 * MIB : 21 * MIB + len(content)] == content
    half = "_updating" in labels(disk)
    assert status(places, disk, "1.0.0")["interrupted"] == half
    assert tidy(places, disk) == half and "_updating" not in labels(disk)
    put(file, places, disk)
    assert labels(disk)[1] == "qanun-root-1.1.0" and "qanun_1.1.0+3.efi" in names(disk)


def test_a_disk_that_does_not_give_back_what_was_written_never_gets_a_boot_entry(tmp_path, disk, places, monkeypatch):
    file = bundle(tmp_path / "b")
    monkeypatch.setattr(stage_module, "_digest_of", lambda *_: "0" * 64)
    with pytest.raises(Exception, match="does not give back"):
        put(file, places, disk)
    assert labels(disk)[1] == "_updating" and names(disk) == ["qanun_1.0.0.efi"]


@pytest.mark.parametrize(
    ("boots", "left", "state", "why"),
    [
        ([{"version": "1.1.0", "well": False, "faults": {"web": "the page answers 502"}}], "+0-3", "left", "web: the page answers 502"),
        ([], "+1-2", "left", "did not start far enough"),
        ([], "+3", "staged", ""),
    ],
)  # fmt: skip
def test_the_status_says_why_a_release_was_left(tmp_path, disk, places, boots, left, state, why):
    put(bundle(tmp_path / "b"), places, disk)
    entry = disk.entries / "qanun_1.1.0+3.efi"
    entry.rename(disk.entries / f"qanun_1.1.0{left}.efi")
    (places.reports / "boot.json").write_text(json.dumps({"boots": boots}))
    last = status(places, disk, "1.0.0")["last"]
    assert last["state"] == state and why in last["why"]
    assert json.loads((places.reports / "update.json").read_text())["last"]["state"] == state
    if state == "left":
        with pytest.raises(Exception, match="no release is staged"):
            reboot(places, disk, "1.0.0", lambda: None)


def test_looking_while_a_release_is_still_being_judged_does_not_lose_why_it_is_left(tmp_path, disk, places):
    put(bundle(tmp_path / "b"), places, disk)
    trying = disk.entries / "qanun_1.1.0+2-1.efi"
    (disk.entries / "qanun_1.1.0+3.efi").rename(trying)
    now = Disk(device=disk.device, esp=disk.esp, running="qanun-root-1.1.0")
    assert status(places, now, "1.1.0")["last"]["state"] == "staged"
    trying.rename(disk.entries / "qanun_1.1.0+0-3.efi")
    boots = [{"version": "1.1.0", "well": False, "faults": {"web": "no answer in time"}}]
    (places.reports / "boot.json").write_text(json.dumps({"boots": boots}))
    last = status(places, disk, "1.0.0")["last"]
    assert (last["state"], last["why"]) == ("left", "web: no answer in time")


def test_the_next_release_goes_into_the_other_slot_and_one_can_go_back_by_hand(tmp_path, disk, places):
    put(bundle(tmp_path / "b"), places, disk)
    (disk.entries / "qanun_1.1.0+3.efi").rename(disk.entries / "qanun_1.1.0.efi")  # it was started and found well
    now = Disk(device=disk.device, esp=disk.esp, running="qanun-root-1.1.0")
    assert status(places, now, "1.1.0")["last"]["state"] == "running"
    acts = []
    assert roll_back(places, now, "1.1.0", lambda: acts.append("restart")) == "1.0.0" and acts == ["restart"]
    assert names(now) == ["qanun_1.0.0.efi", "qanun_1.1.0+0.efi"]
    put(bundle(tmp_path / "c", version="1.2.0"), places, now, running=Version("1.1.0"))
    assert labels(now) == ["qanun-root-1.2.0", "qanun-root-1.1.0"]
    assert names(now) == ["qanun_1.1.0+0.efi", "qanun_1.2.0+3.efi"]


def test_with_nothing_in_the_other_slot_there_is_no_way_back(disk, places):
    with pytest.raises(Exception, match="no release that could start"):
        roll_back(places, disk, "1.0.0", lambda: None)
    assert names(disk) == ["qanun_1.0.0.efi"]


def test_a_disk_that_is_not_laid_out_by_us_is_left_alone(tmp_path, disk, places):
    stranger = Disk(device=disk.device, esp=disk.esp, running="qanun-root-9.9.9")
    before = everything(disk)
    with pytest.raises(Exception, match="has not two slots"):
        put(bundle(tmp_path / "b"), places, stranger)
    assert everything(disk) == before


def test_the_list_of_trusted_keys_is_read_and_an_empty_one_trusts_nobody(tmp_path):
    path = tmp_path / "trusted-keys"
    path.write_text(
        f"# present\n{base64.b64encode(KEY.public).decode()} # 2026\n{base64.b64encode(NEXT.public).decode()}\n"
    )
    assert trusted_keys(path) == KEYS
    for text in ("", "# nobody\n", "short\n", "AAAA\n"):
        path.write_text(text)
        with pytest.raises(Refused, match="trusted keys"):
            trusted_keys(path)


def test_a_stock_server_is_told_that_ansible_upgrades_it(tmp_path):
    places = Places(tmp_path)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cmdline").write_text("root=/dev/vda1 ro")
    with pytest.raises(Exception, match="upgraded by Ansible"):
        this_disk(places)
    assert slots_module.EMPTY == "_empty"
