"""A bare machine from the image, set up as somebody with a browser does it: the code from its screen, nine pages, its own sign-in.

./tests/run images/tests/test_vm_wizard.py --long
"""

import contextlib
import re
import socket

import pytest
from qanun_images import vm

from images.tests import machines
from images.tests.machines import PATIENCE

pytestmark = pytest.mark.long

ADDRESS, EMAIL, PHRASE = machines.BARE, "salma@al-razi.example", "seven quiet camels"
SHEETS = {
    "language": {"language": "ar", "country": "MA"},
    "clinic": {"name": "Al-Razi Family Clinic", "name_alt": "عيادة الرازي", "slug": "", "timezone": "Africa/Casablanca", "currency": "MAD", "phone": ""},
    "network": {"mode": "dhcp", "hostname": "qanun", "host": "clinic.lan"},
    "administrator": {"admin_name": "Salma Idrissi", "admin_email": EMAIL, "password": PHRASE, "again": PHRASE},
    "backup": {"kind": "folder", "target": "/mnt/backup", "at": "02:00"},
    "key": {},  # from the page that is printed
    "time": {"servers": ""},
    "certificate": {"kind": "own"},
}  # fmt: skip


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("bare")


@pytest.fixture(scope="module")
def running(waiting, work):
    """The machine and its disk as they were built: nobody has put a file onto it."""
    with waiting.running(work) as (machine, disk):
        yield machine, disk
        machine.switch_off()


@pytest.fixture(scope="module")
def bare(running):
    return running[0]


@pytest.fixture(scope="module")
def browser(bare):
    return machines.Browser(bare, ADDRESS)


def test_without_the_code_of_the_screen_nothing_is_shown(bare, browser, waiting):
    assert '"setting-up"' in bare.get("/health", ADDRESS)[1]
    for path in ("/", "/setup/clinic", "/setup/paper", "/sign-in"):
        status, to, _ = machines.Browser(bare, ADDRESS).ask(path)
        assert (status, to) in {(303, "/setup"), (404, "")}, path
    assert browser.ask("/setup", {"code": "AAAA-AAAA"})[0] == 422
    assert not browser.cookies
    assert browser.ask("/setup", {"code": waiting.code})[:2] == (303, "/setup")
    assert browser.cookies


def test_a_mistake_is_named_and_a_backup_disk_that_is_not_there_is_not_believed(browser):
    wrong = {**SHEETS["administrator"], "admin_email": "salma at home", "go": "next"}
    status, _, page = browser.ask("/setup/administrator", wrong)
    assert status == 422 and "That is not an e-mail address." in page and "salma at home" in page
    status, _, page = browser.ask("/setup/backup", {**SHEETS["backup"], "go": "next"})
    assert status == 422 and "No disk of its own is mounted in this folder" in page
    status, _, page = browser.ask("/setup/key", {"typed": "nothing", "typed_disk": "nothing", "go": "next"})
    assert status == 422 and page.count("That is not the last group of this key.") == 2
    assert browser.ask("/setup/summary", {"go": "next"})[0] == 422


def test_nine_pages_make_a_clinic_that_its_administrator_signs_in_to(bare, browser, work):
    bare.plug_in(machines.backup_disk(work / "backup.raw", 512))
    backup = {**SHEETS["backup"], "go": "next"}
    machines.wait_for(lambda: browser.ask("/setup/backup", backup)[0] == 303, "the disk that came is found")
    # What the machine knows of its network is what it got from there.
    assert f"{ADDRESS}/24" in browser.ask("/setup/network")[2]
    paper = browser.ask("/setup/paper")[2]
    backup_key, disk_key = re.findall(r"<code>([^<]+)</code>", paper)
    sheets = {**SHEETS, "key": {
        "typed": backup_key.rsplit("-", 1)[-1].lower(), "typed_disk": disk_key.rsplit("-", 1)[-1]}}  # fmt: skip
    for name, values in sheets.items():
        status, to, page = browser.ask(f"/setup/{name}", {**values, "go": "next"})
        wrong = re.findall(r'id="(\w+)-error".*?<span>([^<]*)', page)
        assert status == 303 and to != f"/setup/{name}", (name, wrong)
    assert browser.ask("/setup/summary", {"go": "next"})[:2] == (303, "/")
    seen = set()
    machines.wait_for(lambda: machines.set_up(bare, browser, seen), "the clinic answers")
    assert "working" in seen
    assert machines.sign_in(bare, EMAIL, "another one") == (422, False)
    assert machines.sign_in(bare, EMAIL, PHRASE) == (303, True)
    assert browser.ask("/setup/clinic")[0] in {303, 404} and PHRASE not in bare.printed()
    for path in ("/setup", "/setup/paper"):
        page = browser.ask(path)[2]
        assert backup_key not in page and disk_key not in page


def test_nobody_gets_in_by_ssh_where_nobody_asked_for_it(bare):
    with socket.socket() as line:
        line.settimeout(30)
        line.connect(("127.0.0.1", bare.ssh_port))
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            assert line.recv(100) == b""


def test_another_start_needs_nobody(running, work):
    running[0].switch_off()
    with vm.started(running[1], work / "machine") as machine:
        print(f"/health after {machine.wait_healthy(PATIENCE):.0f} s, {machine.worked():.0f} s of a processor")
        assert "type this code:" not in machine.printed()
        assert machines.sign_in(machine, EMAIL, PHRASE) == (303, True)
        machine.switch_off()
