"""A clinic comes back on a machine that has none, from its pages: the disk that was chosen, the key on paper, and nothing in place
before all of it was proven. The restore itself is tried in `test_backup.py`, on a virtual machine in images/."""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from appliance.tests.test_wizard import DISK_KEY, NETWORK, Machine
from qanun.api import ConfigurationError, Unavailable
from qanun_appliance.backup import Damaged, WrongBackupKey
from qanun_appliance.secrets import readable_key, tidy_key
from qanun_appliance.site import load_site, parse_site
from qanun_appliance.site_text import site_text
from qanun_appliance.wizard import homecoming, work
from qanun_appliance.wizard.disks import BackupDisk

KEY = "ABCDE-FGHJK-LMNPQ-RSTUV-WXYZ2-34567-89ABC-DEFGH"
DISK = "0f2b8c1e-1111-4222-8333-444455556666"
SHEET = {"disk": f"disk:{DISK}", "key": KEY.lower(), "typed_disk": "jklnrtuv", "network": "before"}


def plugged_in(choice=f"disk:{DISK}", kind="ext4", label="QANUN-BACKUP"):
    return BackupDisk(choice=choice, name="Portable", size=2_000_000_000_000, label=label, kind=kind, path="/dev/sdb1")


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path)
    found.disks = [plugged_in(), plugged_in("blank:S9", "", "")]
    return found


@pytest.fixture
def site_of_the_clinic(site_table):
    site_table["network"] = {
        "mode": "static",
        "interface": "eno1",
        "address": "192.168.7.10/24",
        "gateway": "192.168.7.1",
    }
    site_table["hosts"] = {"names": ["clinic.lan", "192.168.7.10"]}
    return site_table


class Acts:
    """Systemd and a disk, without either: what is brought back is a site file."""

    def __init__(self, machine, table, fails="", failure=None):
        self.machine, self.table, self.fails, self.failure, self.done = machine, table, fails, failure, []

    def _act(self, name):
        if name == self.fails:
            raise Unavailable(f"{name} is broken")
        self.done.append(name)

    def open_backup(self, uuid):
        assert uuid == DISK
        self._act("open")

    def bring_back(self):
        self.machine.desk.write("progress", {"at": "rows", "state": "working"})
        if self.failure:
            self.machine.desk.write("failure", self.failure)
        self._act("back")
        self.machine.places.site.write_text(homecoming.adapt(site_text(self.table), self.machine.desk))
        self.machine.desk.write("placed", {"set": "x"})

    def close_backup(self):
        self.done.append("close")

    def apply(self, site):
        self._act("apply")

    def database(self):
        self._act("database")

    def start(self):
        self._act("start")

    def over(self, site):
        self._act("over")


async def begun(machine, **changes):
    client = await machine.inside()
    answer = await client.post("/setup/return", data={**SHEET, **changes})
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    return client


# --- the sheet -------------------------------------------------------------------------------------------------------


async def test_without_the_code_nothing_is_shown_and_nothing_is_begun(machine):
    client = machine.browser()
    assert (await client.get("/setup/return")).headers["location"] == "/setup"
    assert (await client.post("/setup/return", data=SHEET)).headers["location"] == "/setup"
    assert not machine.desk.begun and not machine.desk.read("return")


async def test_the_first_sheet_leads_there_and_the_one_disk_with_files_is_proposed(machine):
    client = await machine.inside()
    assert "/setup/return" in (await client.get("/setup/language")).text
    page = (await client.get("/setup/return")).text
    assert f'value="disk:{DISK}" checked' in page and "blank:S9" not in page and DISK_KEY in page
    assert machine.key not in page
    paper = (await client.get("/setup/paper?disk")).text
    assert DISK_KEY in paper and machine.key not in paper
    machine.disks = []
    page = (await client.get("/setup/return")).text
    assert "Plug the backup disk in" in page and "Look again" in page
    # Whoever typed the key first and looks again for the disk has not typed it for nothing.
    machine.disks = [plugged_in()]
    looked = await client.post("/setup/return", data={"key": KEY, "go": "look"})
    assert looked.status_code == 200 and KEY in looked.text and f'value="disk:{DISK}" checked' in looked.text
    assert not machine.desk.begun and "What you typed is kept" not in looked.text


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("disk", "", "Choose the disk with the backup."),
        ("disk", "disk:another", "This disk is not plugged in any more."),
        ("disk", "blank:S9", "This disk is not plugged in any more."),
        ("key", " ", "This is needed."),
        ("typed_disk", "xxxxx", "That is not the last group of this key."),
        ("network", "elsewhere", "Choose one of the two."),
    ],
)
async def test_what_is_wrong_is_named_and_what_was_typed_stays(machine, field, value, said):
    client = await machine.inside()
    answer = await client.post("/setup/return", data={**SHEET, field: value})
    assert answer.status_code == 422 and said in answer.text
    assert (SHEET["key"] in answer.text) == (field != "key")
    assert not machine.desk.begun and not machine.desk.read("return")


def test_a_key_is_read_as_people_copy_it():
    key = readable_key()
    for typed in (key.lower(), key.replace("-", " "), f"  {key.replace('-', '')}\n", key):
        assert tidy_key(typed) == key
    assert tidy_key(" another kind ") == "ANOTHER KIND"


# --- root's part -----------------------------------------------------------------------------------------------------


async def test_a_clinic_is_back_with_its_own_site_and_the_page_learns_where_it_will_be(machine, site_of_the_clinic):
    client = await begun(machine)
    # A second click, or Back and once more: the work is begun, and goes on with what was typed first.
    twice = await client.post("/setup/return", data={**SHEET, "key": "another"})
    assert twice.headers["location"] == "/setup" and machine.desk.read("return")["key"] == KEY
    assert (await client.get("/setup/return")).headers["location"] == "/setup"
    page = await client.get("/")
    assert "The clinic comes back" in page.text and "clinic.lan" not in page.headers["content-security-policy"]
    acts = Acts(machine, site_of_the_clinic)
    assert homecoming.run(machine.places, machine.desk, acts)
    assert acts.done == ["open", "back", "close", "apply", "database", "start", "over"]
    state = (await client.get("/setup/progress")).json()
    assert (state["state"], state["hosts"]) == ("done", ["clinic.lan", "192.168.7.10"])
    assert "https://clinic.lan" in (await client.get("/")).headers["content-security-policy"]
    # The card has another name in this machine; the rest is as the clinic had it.
    site = load_site(machine.places.site)
    assert (site.network.interface, site.network.address) == ("enp1s0", "192.168.7.10/24")


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        ({"code": "wrong-key", "why": "restic: 12"}, "This key does not open the backup."),
        ({"code": "no-backup", "why": "nothing"}, "There is no whole backup of a clinic on this disk."),
        ({"why": "the backup is damaged: pack 12"}, "the backup is damaged: pack 12"),
    ],
)
async def test_a_failure_says_why_closes_the_disk_and_leads_back_with_everything_typed(
    machine, site_of_the_clinic, failure, said
):
    client = await begun(machine)
    acts = Acts(machine, site_of_the_clinic, "back", failure)
    assert not homecoming.run(machine.places, machine.desk, acts)
    assert acts.done == ["open", "close"] and not machine.places.site.exists()
    state = (await client.get("/setup/progress")).json()
    assert state["state"] == "failed" and said in state["html"] and "restic: 12" not in state["html"]
    # It stopped where the one who reads the backup had come to.
    assert state["html"].count("q-dot ok") == 3 and "Back to what was typed" in state["html"]
    assert (await client.post("/setup/again")).headers["location"] == "/setup/return"
    assert SHEET["key"] in (await client.get("/setup/return")).text
    await client.post("/setup/return", data=SHEET)
    assert homecoming.run(machine.places, machine.desk, Acts(machine, site_of_the_clinic))


@pytest.mark.parametrize(("days", "asks"), [(0, False), (30, True)])
async def test_whoever_waits_sees_how_old_the_backup_is_and_is_asked_for_another_disk_when_it_is_old(
    machine, days, asks
):
    client = await begun(machine)
    assert "This backup ends" not in (await client.get("/")).text
    until = datetime.now(UTC) - timedelta(days=days, hours=3)
    machine.desk.write("backup", {"until": until.isoformat()})
    page = (await client.get("/setup/progress")).json()["html"]
    assert "This backup ends on" in page and f"{until:%H:%M}" in page
    assert ("another disk" in page) == asks
    machine.desk.again()
    assert not machine.desk.read("backup")


async def test_once_everything_is_in_place_another_try_goes_on_behind_it_and_no_new_clinic_is_made_over_it(
    machine, site_of_the_clinic
):
    client = await begun(machine)
    assert not homecoming.run(machine.places, machine.desk, Acts(machine, site_of_the_clinic, "start"))
    assert machine.places.site.exists()
    await client.post("/setup/again")
    await machine.typed(client)
    await client.post("/setup/summary", data={"go": "next"})
    before = machine.places.site.read_bytes()
    assert not work.run(machine.places, machine.desk, Acts(machine, site_of_the_clinic))
    assert machine.places.site.read_bytes() == before and "came back" in machine.desk.progress()["why"]
    await client.post("/setup/again")
    await client.post("/setup/return", data=SHEET)
    acts = Acts(machine, site_of_the_clinic)
    assert homecoming.run(machine.places, machine.desk, acts)
    assert acts.done == ["apply", "database", "start", "over"]


async def test_root_believes_no_disk_that_the_pages_hand_over(machine, site_of_the_clinic):
    await begun(machine)
    for disk in ("disk:../../dev/sda1", "disk:", "blank:S9", 7):
        machine.desk.write("return", {**SHEET, "disk": disk})
        acts = Acts(machine, site_of_the_clinic)
        assert not homecoming.run(machine.places, machine.desk, acts)
        assert acts.done == ["close"] and "no disk" in machine.desk.progress()["why"]


# --- what is read ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code"), [(WrongBackupKey("x"), "wrong-key"), (Damaged("pack 12 is gone"), ""), (OSError("no disk"), "")]
)
def test_who_reads_the_backup_says_why_it_could_not_and_leaves_nothing(machine, tmp_path, monkeypatch, raised, code):
    disk = repository(tmp_path / "disk")
    machine.desk.write("return", {**SHEET, "key": KEY})

    def refuses(*_, **__):
        raise raised

    monkeypatch.setattr(homecoming, "restore", refuses)
    (machine.places.data / "restore-20261128T101010Z").mkdir()
    assert homecoming.bring_back(machine.places, machine.desk, disk) is None
    failure = machine.desk.read("failure")
    assert failure.get("code", "") == code and failure["why"]
    assert not (machine.places.data / "restore-20261128T101010Z").exists() and not machine.desk.read("placed")


def test_what_came_back_is_all_that_stays_and_both_keys_count_as_kept(machine, tmp_path, monkeypatch):
    disk = repository(tmp_path / "disk")
    machine.desk.write("return", {**SHEET, "key": KEY})
    aside = machine.places.data / "secrets.before-restore-x"

    def restores(store, places, wish, *, at, services, site):
        assert (store.key, store.target, wish.latest) == (KEY, str(disk), True)
        for step in ("examine", "files", "rows", "place"):
            at(step, None if step == "examine" else datetime(2026, 11, 28, 2, 10, tzinfo=UTC))
        aside.mkdir()
        return {"set": "20261128", "kept": [str(aside)]}

    monkeypatch.setattr(homecoming, "restore", restores)
    assert homecoming.bring_back(machine.places, machine.desk, disk)
    assert machine.desk.read("backup") == {"until": "2026-11-28T02:10:00+00:00"}
    assert machine.desk.progress()["at"] == "place" and machine.desk.read("placed") == {"set": "20261128"}
    assert not aside.exists() and not (machine.places.secrets / "recovery-key").exists()
    assert (machine.places.reports / "recovery-key.json").exists()


def repository(place):
    for name in ("keys", "snapshots", "data"):
        (place / name).mkdir(parents=True)
    (place / "config").write_text("")
    return place


def test_a_backup_is_found_where_the_pages_or_a_person_put_it(tmp_path):
    with pytest.raises(homecoming.NoBackup):
        homecoming.repository_in(tmp_path)
    elsewhere = repository(tmp_path / "our backups")
    assert homecoming.repository_in(tmp_path) == elsewhere
    repository(tmp_path)
    assert homecoming.repository_in(tmp_path) == tmp_path
    assert homecoming.repository_in(repository(tmp_path / "qanun").parent) == tmp_path / "qanun"
    shutil.rmtree(tmp_path / "qanun" / "keys")
    assert homecoming.repository_in(tmp_path) == tmp_path


# --- the network of another machine ----------------------------------------------------------------------------------


def test_the_present_address_is_kept_when_somebody_says_so_and_the_clinics_names_stay(site_of_the_clinic):
    found = homecoming.adapted(site_of_the_clinic, NETWORK, now=True)
    assert found["network"] == {"mode": "dhcp", "interface": "enp1s0"}
    assert found["hosts"]["names"] == ["clinic.lan", "192.168.7.10", "192.168.7.23"]
    parse_site(found)
    public = {**site_of_the_clinic, "certificate": {"kind": "acme"}}
    assert homecoming.adapted(public, NETWORK, now=True)["hosts"] == site_of_the_clinic["hosts"]


@pytest.mark.parametrize("pattern", ["en*", "enp1s0", ""])
def test_a_card_that_is_here_keeps_its_line_and_nothing_is_written_anew(site_of_the_clinic, pattern):
    site_of_the_clinic["network"]["interface"] = pattern
    assert homecoming.adapted(site_of_the_clinic, NETWORK, now=False) == site_of_the_clinic
    unmanaged = {**site_of_the_clinic, "network": {"mode": "unmanaged"}}
    assert homecoming.adapted(unmanaged, NETWORK, now=True) == unmanaged


def test_the_place_of_the_disk_is_the_one_that_the_unit_may_write_to(machine):
    from qanun_appliance.render.setup import setup_files

    [unit] = [file.content for file in setup_files(machine.places) if file.path.endswith("qanun-setup-return.service")]
    assert f"ReadWritePaths={homecoming.MOUNT}" in unit and "PrivateNetwork=yes" in unit
    assert Path(homecoming.MOUNT).is_absolute()
    assert issubclass(homecoming.NoBackup, Unavailable) and not issubclass(homecoming.NoBackup, ConfigurationError)
