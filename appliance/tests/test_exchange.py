"""What a restore has proven is put in place, or all of it later: the power fails before every single rename."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qanun.api import Conflict
from qanun_appliance.backup import exchange
from qanun_appliance.commands.keeping import restore_command
from qanun_appliance.places import BUILDS, PROVEN, Places
from qanun_appliance.postgres import read_marker
from qanun_appliance.render import Machine
from qanun_appliance.render.lifecycle import lifecycle_files
from qanun_appliance.site import parse_site

NAME = "20261128T020000Z"
SYSTEM = "/etc/systemd/system"


class PowerCut(BaseException):
    """Nothing catches it, as nothing catches the real one."""


def files(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def proven(places, kind="al-razi"):
    """What a restore has built beside the present: (the folder, the data in it)."""
    scratch = places.data / "restore-20261129T101010Z"
    root = scratch / "files/var/lib/qanun"
    for name, text in {
        "data/PG_VERSION": "17",
        "data/base/1": kind,
        "files/var/lib/qanun/blobs/a/one": "a photo",
        "files/var/lib/qanun/keys/master.key": "theirs",
        "files/var/lib/qanun/secrets/backup-key": "theirs",
        "files/var/lib/qanun/site.toml": f'[clinic]\nslug = "{kind}"\n',
    }.items():
        (scratch / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_text(text)
    return scratch, root


def blank(folder):
    places = Places(folder)
    places.secrets.mkdir(parents=True)
    (places.secrets / "recovery-key").write_text("of this disk")
    (places.secrets / "backup-key").write_text("of an hour")
    return places


def with_a_clinic(folder):
    places = blank(folder)
    for name, text in {
        "postgresql/16/PG_VERSION": "16",
        "postgresql/16/base/1": "the present",
        "keys/master.key": "ours",
        "recordings/r": "ours",
        "wal/0001": "ours",
        "site.toml": '[clinic]\nslug = "ours"\n',
        "state.json": json.dumps({"since": "2025", "major": 16}),
    }.items():
        (places.data / name).parent.mkdir(parents=True, exist_ok=True)
        (places.data / name).write_text(text)
    return places


def put(places):
    scratch, root = proven(places)
    return exchange.exchange(places, root, scratch, 17, NAME, lambda text: text + "# as this machine needs it\n")


@pytest.mark.parametrize("kind", [blank, with_a_clinic])
def test_wherever_the_power_fails_the_next_start_has_the_whole(tmp_path, monkeypatch, kind):
    whole = kind(tmp_path / "whole")
    kept = sorted(path.name for path in put(whole))
    wanted = files(whole.data)
    assert wanted["keys/master.key"] == "theirs" and wanted["postgresql/17/base/1"] == "al-razi"
    assert wanted["secrets/recovery-key"] == "of this disk" and wanted["secrets/backup-key"] == "theirs"
    assert not list(whole.data.glob("restore-*")) and read_marker(whole)["major"] == 17
    if kind is with_a_clinic:
        assert wanted["site.toml"] == '[clinic]\nslug = "ours"\n' and (whole.data / "recordings").is_dir()
        ending = ".before-restore-20261129T101010Z"
        assert wanted[f"recordings{ending}/r"] == wanted[f"keys{ending}/master.key"] == wanted[f"wal{ending}/0001"]
        assert wanted[f"postgresql/16{ending}/base/1"] == "the present"
    else:
        assert wanted["site.toml"].endswith("# as this machine needs it\n")

    moves = 0
    for cut_at in itertools.count(1):
        places, moved = kind(tmp_path / f"cut-{cut_at}"), 0
        for name in ("rename", "mkdir", "rmdir", "unlink", "replace"):
            real = getattr(Path, name)

            def powered(self, *arguments, real=real, at=cut_at, here=places.data, **more):
                nonlocal moved
                # What a restore has built is no matter of the exchange.
                if self.is_relative_to(here) and (here / "restore-20261129T101010Z" / PROVEN).exists():
                    moved += 1
                    if moved == at:
                        raise PowerCut
                return real(self, *arguments, **more)

            monkeypatch.setattr(Path, name, powered)
        try:
            put(places)
            break
        except PowerCut:
            moves = cut_at
        finally:
            monkeypatch.undo()
        # A clinic is never there by half: with its site file all the rest is in place.
        if kind is blank and places.site.exists():
            assert (places.data / "postgresql/17/PG_VERSION").exists() and read_marker(places)
        assert exchange.unfinished(places)
        assert restore_command(["--finish", "--root", str(places.root)]) == 0
        here = files(places.data)
        here["state.json"] = here["state.json"].replace(read_marker(places)["since"], read_marker(whole)["since"])
        assert here == wanted, cut_at
        assert sorted(path.name for path in places.data.rglob("*.before-restore-*")) == kept
        assert exchange.settle(places) == "" and files(places.data)["keys/master.key"] == "theirs"
    assert moves > 12


def test_what_was_made_anew_before_the_rest_could_be_put_in_place_goes_aside_and_stops_nothing(tmp_path, monkeypatch):
    places = with_a_clinic(tmp_path)
    scratch, root = proven(places)
    real = Path.rename

    def full(self, target):
        if self == root / "secrets":
            raise OSError("no space")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="no space"):
        exchange.exchange(places, root, scratch, 17, NAME)
    monkeypatch.undo()
    places.secrets.mkdir(exist_ok=True)
    (places.secrets / "backup-key").write_text("made anew")
    assert exchange.settle(places) == NAME and not exchange.unfinished(places)
    here = files(places.data)
    assert here["secrets/backup-key"] == "theirs" and here["secrets/recovery-key"] == "of this disk"
    aside = "secrets.before-restore-20261129T101010Z"
    assert (here[f"{aside}/backup-key"], here[f"{aside}-again/backup-key"]) == ("of an hour", "made anew")


def test_a_site_file_that_this_release_does_not_understand_is_said_before_anything_moves(tmp_path):
    places = blank(tmp_path)
    scratch, root = proven(places)

    def refuses(text):
        raise ValueError("clinic.slug is missing")

    with pytest.raises(ValueError, match="slug"):
        exchange.exchange(places, root, scratch, 17, NAME, refuses)
    assert not exchange.unfinished(places) and files(places.secrets)["backup-key"] == "of an hour"
    assert not places.site.exists() and not read_marker(places)


def test_nothing_that_looks_at_the_data_starts_before_the_rest_is_in_place(tmp_path, site_table):
    on = Machine(memory_mb=4096, cores=2, postgres_bin="/usr/lib/postgresql/17/bin", slot=True)
    made = lifecycle_files(parse_site(site_table), Places(tmp_path, Path(sys.executable).parent), on, [])
    [unit] = [one.content for one in made if one.path == f"{SYSTEM}/qanun-restored.service"]
    [before] = [line for line in unit.splitlines() if line.startswith("Before=")]
    assert {"qanun-apply.service", "qanun-prepare.service", "qanun-setup.service"} <= set(before[7:].split())
    assert f"ConditionPathExistsGlob=/var/lib/qanun/{BUILDS}\n" in unit
    assert any(one.path == f"{SYSTEM}/sysinit.target.wants/qanun-restored.service" for one in made)


@pytest.mark.parametrize("kind", [blank, with_a_clinic])
def test_what_was_cut_off_before_it_was_proven_is_taken_away_at_the_next_start_and_nothing_else_is(tmp_path, kind):
    places = kind(tmp_path)
    before = files(places.data)
    scratch, _ = proven(places)
    kept = ("keys.before-restore-20251129T101010Z", "restore-of-the-old-server", "restore-2026")
    for name in kept:
        (places.data / name).mkdir()
        (places.data / name / "master.key").write_text("kept")
    assert restore_command(["--finish", "--root", str(places.root)]) == 0
    assert not scratch.exists()
    assert files(places.data) == {**before, **{f"{name}/master.key": "kept" for name in kept}}


def test_while_one_restore_is_at_work_another_is_refused_and_takes_nothing_from_it(tmp_path):
    places = blank(tmp_path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom qanun_appliance.backup.exchange import workplace\n"
        "from qanun_appliance.places import Places\n"
        "with workplace(Places(Path(sys.argv[1])), '20261129T101010Z') as scratch:\n"
        "    (scratch / 'half').write_text('of a clinic')\n    print('at work', flush=True)\n    sys.stdin.read()\n"
    )
    half = places.data / "restore-20261129T101010Z/half"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(places.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "at work\n"
        with pytest.raises(Conflict, match="another restore is at work"):
            exchange.clear(places)
        with pytest.raises(Conflict), exchange.workplace(places, "20261129T101011Z"):
            pytest.fail("two at a time")
        assert half.read_text() == "of a clinic"
        (half.parent / PROVEN).write_text("{}")
        with pytest.raises(Conflict):
            exchange.settle(places)
        (half.parent / PROVEN).unlink()
        other.kill()
    # Whoever is gone, by a power cut or by its operator's hand, holds nothing.
    exchange.clear(places)
    assert not half.exists()
