"""The locks name everything by hash and no mirror; one that has grown stale says so in words, and as its own result."""

import dataclasses

import pytest
from bootstrap import Missing, Steps
from qanun_images import cli, lock, sources, store, wheels
from qanun_images.places import HERE, Stale

from qanun_appliance.places import ACCOUNTS


@pytest.mark.parametrize("path", [lock.DEBS, lock.TOOLS])
def test_a_lock_has_each_package_once_by_hash_and_without_an_address(path):
    read = lock.read(path)
    assert "://" not in path.read_text()
    assert len({deb.name for deb in read.debs}) == len(read.debs) > 100
    assert all(len(deb.sha256) == 64 and deb.suite.startswith("trixie") for deb in read.debs)


@pytest.mark.parametrize(("path", "source"), [(lock.DEBS, "packages.txt"), (lock.TOOLS, "tools.txt")])
def test_what_the_lists_ask_for_is_in_the_locks(path, source):
    assert set(lock.names(HERE / source)) <= {deb.name for deb in lock.read(path).debs}


def test_a_lock_that_is_none_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "debs.lock").write_text("epoch soon\nnginx 1\n")
    with pytest.raises(Missing, match=r"\./images/build lock"):
        lock.read(tmp_path / "debs.lock")


def test_every_wheel_is_one_that_the_runtime_lock_trusts_and_none_is_for_a_checkout():
    read = wheels.read()
    assert len({wheel.name for wheel in read}) == len(read) > 40
    assert not {wheel.name for wheel in read} & wheels.NOT_ON_THE_BOX
    assert "://" not in wheels.LOCK.read_text()


def test_a_wheel_of_another_hash_is_refused(tmp_path, monkeypatch):
    text = wheels.LOCK.read_text()
    digest = wheels.read()[0].sha256
    (tmp_path / "wheels.lock").write_text(text.replace(digest, digest[::-1]))
    monkeypatch.setattr(wheels, "LOCK", tmp_path / "wheels.lock")
    with pytest.raises(Missing, match=r"does not follow"):
        wheels.read()


def test_a_machine_that_never_fetched_a_list_knows_its_sources_and_takes_debian_s_alone(tmp_path, monkeypatch):
    """A fresh machine has often asked for no list of security updates yet; others sell packages for the same release."""
    listed = tmp_path / "sources.list"
    listed.write_text(
        "".join(
            f"deb [arch=amd64] http://{place} {suite} {component}\n"
            for place, suite, component in (
                ("aa.example/theirs", "trixie", "stable"),
                ("ab.example/more", "more-trixie", "main"),
                ("mirror.example/debian", "trixie", "main"),
                ("mirror.example/debian", "trixie-updates", "main"),
                ("security.example/debian-security", "trixie-security", "main"),
            )
        )
    )
    monkeypatch.setenv("QANUN_APT_SOURCES", str(listed))
    assert sources.base_addresses() == {
        "trixie": "http://mirror.example/debian",
        "trixie-updates": "http://mirror.example/debian",
        "trixie-security": "http://security.example/debian-security",
    }


def fetch(deb, **how):
    steps = Steps(1)
    with steps.step("fetching"):
        store.fetch([deb], steps, **how)


class TestStale:
    @pytest.fixture
    def gone(self, tmp_path, monkeypatch):
        """A package that no mirror has, and an empty store."""
        deb = dataclasses.replace(lock.read(lock.DEBS).debs[0], version="0.0-gone", sha256="0" * 64)
        monkeypatch.setattr(store, "STORE", tmp_path)
        monkeypatch.setattr(sources, "base_addresses", lambda: {deb.suite: f"file://{tmp_path}/mirror"})
        monkeypatch.setattr(sources, "update", lambda steps: None)
        return deb

    def test_it_names_the_packages_and_how_to_refresh(self, gone, monkeypatch):
        monkeypatch.setattr(sources, "available", dict)
        with pytest.raises(Stale, match=rf"{gone.name} 0\.0-gone[\s\S]*images/build lock"):
            fetch(gone)

    def test_a_mirror_that_only_does_not_deliver_is_another_matter(self, gone, monkeypatch):
        monkeypatch.setattr(sources, "available", lambda: {(gone.name, gone.version, gone.architecture): gone})
        with pytest.raises(Missing) as raised:
            fetch(gone)
        assert not isinstance(raised.value, Stale)

    def test_who_asks_beforehand_hears_of_it_without_fetching_anything(self, gone, monkeypatch):
        monkeypatch.setattr(lock, "read", lambda path: lock.Lock(1, (gone,)))
        monkeypatch.setattr(sources, "available", dict)
        assert set(lock.gone(Steps(0))) == {gone}
        monkeypatch.setattr(sources, "available", lambda: {(gone.name, gone.version, gone.architecture): gone})
        assert lock.gone(Steps(0)) == []
        monkeypatch.setattr(store, "STORE", HERE)
        monkeypatch.setattr(store, "place", lambda deb: HERE)
        monkeypatch.setattr(sources, "update", lambda steps: pytest.fail("what lies here is asked of nobody"))
        assert lock.gone(Steps(0)) == []

    def test_the_command_ends_with_its_own_code(self, gone, monkeypatch, capsys):
        monkeypatch.setattr(sources, "available", dict)
        monkeypatch.setattr(lock, "read", lambda path: lock.Lock(1, (gone,)))
        assert cli.main(["fetch"]) == cli.STALE == 3
        assert "stale lock" in capsys.readouterr().err

    def test_offline_nothing_is_asked_for(self, gone):
        with pytest.raises(Missing, match="without a network"):
            fetch(gone, offline=True)


def test_the_accounts_are_those_that_the_appliance_counts_on():
    lines = [line.split() for line in lock.names(HERE / "accounts.txt")]
    ours = {(kind, name, int(number)) for kind, name, number, *_ in lines}
    for name, number, _ in ACCOUNTS:
        assert {("user", name, number), ("group", name, number)} <= ours
