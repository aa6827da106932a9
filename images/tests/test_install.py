"""The installer's judgement: which disk may be taken, and what its files may say. What it writes is seen in `test_vm_install.py`."""

import json
import sys

import pytest
from qanun_images.places import HERE

sys.path.insert(0, str(HERE / "overlay/usr/lib/qanun"))

import install
import install_words

GIB = 1024**3


def listed(*entries):
    usual = {"type": "disk", "ro": False, "size": 64 * GIB, "model": "Disk", "serial": None, "fstype": None, "label": None,
             "partlabel": None, "mountpoints": [None]}  # fmt: skip
    found = []
    for entry in entries:
        one = {**usual, "path": f"/dev/{entry['name']}", **entry}
        one["children"] = [{**usual, "type": "part", "path": "", **part} for part in entry.get("children", [])]
        found.append(one)
    return json.dumps({"blockdevices": found})


QANUN = {"name": "sda", "serial": "S1", "children": [{"name": "sda1", "partlabel": "qanun-esp"}, {"name": "sda4", "partlabel": "qanun-var"}]}  # fmt: skip
BLANK = {"name": "sdb", "serial": "S2"}
STICK = {"name": "sdc", "children": [{"name": "sdc2", "partlabel": "qanun-installer-1.0"}]}
OTHER = {"name": "sdd", "children": [{"name": "sdd1", "fstype": "ntfs"}]}
SMALL = {"name": "sde", "size": 4 * GIB}
USED = {"name": "sdf", "children": [{"name": "sdf1", "mountpoints": ["/srv"]}]}


def found(*entries):
    return install.disks("sdc", listed(*entries))


def test_the_one_free_disk_is_meant_by_only_and_nothing_is_guessed_among_two():
    assert install.chosen(found(BLANK, STICK, SMALL, USED), "only", "").name == "sdb"
    with pytest.raises(install.Stop, match="exactly one disk"):
        install.chosen(found(BLANK, STICK, QANUN), "only", "")
    with pytest.raises(install.Stop, match="there are 0"):
        install.chosen(found(STICK), "only", "")


@pytest.mark.parametrize(
    ("disk", "name", "why"),
    [
        (STICK, "sdc", "the stick that you started from"),
        (USED, "sdf", "in use"),
        (SMALL, "sde", "less than 8 GiB"),
        ({"name": "sdg", "ro": True}, "sdg", "cannot be written"),
        (BLANK, "sdz", "no disk called sdz"),
        (BLANK, "", "no disk called"),
    ],
)
def test_a_disk_that_must_not_be_taken_is_refused_even_when_it_is_named_twice(disk, name, why):
    with pytest.raises(install.Stop, match=why):
        install.chosen(found(disk), name, name)


@pytest.mark.parametrize(("disk", "why"), [(QANUN, "holds a Qanun"), (OTHER, "is not empty")])
def test_a_disk_that_holds_something_is_taken_only_when_it_is_named_once_more(disk, why):
    name = disk["name"]
    for replace in ("", "only", "sdb"):
        with pytest.raises(install.Stop, match=why):
            install.chosen(found(disk), name, replace)
    assert install.chosen(found(disk), name, name).name == name
    with pytest.raises(install.Stop, match=why):
        install.chosen(found(disk), "only", "only")


def test_a_disk_is_known_by_its_serial_number_and_never_by_a_missing_one():
    assert install.chosen(found(BLANK, STICK), "S2", "").name == "sdb"
    with pytest.raises(install.Stop, match="no disk called"):
        install.chosen(found({"name": "sdh", "serial": ""}), "", "")


def test_what_is_no_disk_is_not_offered():
    entries = [{"name": name} for name in ("loop0", "sr0", "zram0", "nbd1")]
    assert install.disks("", listed(*entries, {"name": "sdx", "size": 0}, {"name": "x", "type": "rom"})) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('version = 1\nonto = "sda"\nreplce = "sda"', "replce is not known"),
        ("version = 1", "onto names the disk"),
        ('onto = "sda"', "version must be 1"),
        ('version = 1\nonto = "sda"\nthen = "dance"', "then must be"),
        ("version = 1\nonto = 3", "onto must be a text"),
        ("version = ", "install.toml"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path, text, why):
    (tmp_path / "install.toml").write_text(text)
    with pytest.raises(install.Stop, match=why):
        install.wishes(tmp_path / "install.toml")


def test_a_disk_is_judged_before_a_release_is_there_and_nothing_is_written(monkeypatch, capsys):
    there = found(BLANK, QANUN, USED)
    monkeypatch.setattr(install, "disks", lambda: there)
    monkeypatch.setattr(install, "put", lambda *_: pytest.fail("written"))
    assert install.main(["--judge", "--onto=sdb"]) == 0
    assert install.main(["--judge", "--onto=sdf"]) == 1 and "in use" in capsys.readouterr().out
    assert install.main(["--judge", "--onto=sda", "--replace=sdb"]) == 1 and "holds a Qanun" in capsys.readouterr().out
    assert install.main(["--judge", "--onto=sda", "--replace=sda"]) == 0


def test_a_release_whose_manifest_is_not_there_or_not_whole_is_refused(tmp_path):
    with pytest.raises(install.Stop, match=str(tmp_path)):
        install.source_of(tmp_path, None)
    (tmp_path / "manifest.json").write_text('{"version": "1.0", "files": {}}')
    with pytest.raises(install.Stop, match="KeyError"):
        install.source_of(tmp_path, None)


def test_every_sentence_is_there_in_arabic_with_the_same_fields_but_the_one_about_arabic():
    import string

    def fields(text):
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    for name in install_words.names():
        english, arabic = install_words.word("en", name), install_words.word("ar", name)
        assert fields(english) == fields(arabic), name
        if name not in {"no-arabic-here", "language"}:
            assert arabic != english, name
