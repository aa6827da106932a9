"""A machine without a site file is set up from a browser: by whoever reads the code on its screen, from its own network, with
nothing typed lost, and with the same file and the same acts in the end as without a screen."""

import json
import plistlib
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import pytest

from qanun.api import ConfigurationError
from qanun_appliance import trust
from qanun_appliance.places import Places
from qanun_appliance.render.setup import UNITS, setup_files
from qanun_appliance.site import load_site, parse_site
from qanun_appliance.site_text import site_text
from qanun_appliance.wizard import steps, work
from qanun_appliance.wizard.app import Pages, application
from qanun_appliance.wizard.desk import Desk
from qanun_appliance.wizard.disks import BackupDisk, uuid_of
from qanun_appliance.wizard.network import is_mounted, is_near

NETWORK = {
    "interface": "enp1s0", "mac": "02:00:00:00:00:01", "address": "192.168.7.23/24", "gateway": "192.168.7.1",
    "dns": ["192.168.7.1"], "interfaces": [{"name": "enp1s0", "mac": "02:00:00:00:00:01", "cable": True}],
}  # fmt: skip
PHRASE = "seven quiet camels <drink>"
DISK_KEY = "cbdefghi-jklnrtuv-cbdefghi-jklnrtuv"


def sheets(key):
    return {
        "language": {"language": "ar", "country": "MA"},
        "clinic": {
            "name": "Al-Razi \"Family\" Clinic", "name_alt": "عيادة الرازي", "slug": "", "timezone": "Africa/Casablanca", "currency": "mad", "phone": "+212 5",
        },
        "network": {"mode": "static", "address": "192.168.7.10/24", "gateway": "192.168.7.1", "dns": "192.168.7.1", "hostname": "qanun", "host": "clinic.lan"},
        "administrator": {"admin_name": "Salma Idrissi", "admin_email": "salma@al-razi.example", "password": PHRASE, "again": PHRASE},
        "backup": {"kind": "folder", "target": "/mnt/backup", "at": "02:00"},
        "key": {"typed": key.rsplit("-", 1)[-1].lower(), "typed_disk": "jklnrtuv"},
        "time": {"servers": "192.168.7.1"},
        "certificate": {"kind": "own"},
    }  # fmt: skip


class Machine:
    """A box in a folder with its pages, and what the network would say."""

    def __init__(self, root):
        self.places = Places(root, Path(sys.executable).parent)
        self.places.secrets.mkdir(parents=True)
        (self.places.secrets / "recovery-key").write_text(DISK_KEY + "\n")
        self.desk = Desk(root / "run/qanun-setup")
        work.prepare(self.places, self.desk, ["192.168.7.23"])
        self.answers: dict = {}
        self.clock, self.mounted, self.disks = 0.0, True, []
        self.pages = self.new_pages()

    def new_pages(self):
        return Pages(
            desk=self.desk, root=(self.desk.folder / "qanun-ca.crt").read_bytes(), keys=self.desk.read("keys"),
            current=lambda: NETWORK, trial=lambda *_: self.answers, clock_of=lambda _: self.clock, is_mounted=lambda _: self.mounted,
            disks=lambda: self.disks,
        )  # fmt: skip

    @property
    def code(self):
        return (self.desk.folder / "issue").read_text().split("code:")[1].split()[0]

    @property
    def key(self):
        return (self.places.secrets / "backup-key").read_text()

    def browser(self, address="192.168.7.50"):
        transport = httpx.ASGITransport(application(self.pages), client=(address, 4000))
        return httpx.AsyncClient(
            transport=transport, base_url="https://192.168.7.23", headers={"origin": "https://192.168.7.23"}
        )

    async def inside(self):
        client = self.browser()
        assert (await client.post("/setup", data={"code": self.code})).status_code == 303
        return client

    async def typed(self, client, **changes):
        for name, values in sheets(self.key).items():
            answer = await client.post(f"/setup/{name}", data={**values, **changes.get(name, {}), "go": "next"})
            assert answer.status_code == 303, (name, answer.text)


class Acts:
    def __init__(self, places, fails=""):
        self.places, self.done, self.fails = places, [], fails

    def _act(self, name):
        if name == self.fails:
            raise ConfigurationError(f"{name} is broken")
        self.done.append(name)

    def disk(self, choice):
        if choice != "folder":
            self._act(choice)

    def apply(self, site):
        self._act("apply")

    def database(self):
        self._act("database")

    def clinic(self):
        assert (self.places.secrets / "administrator").read_text() == PHRASE
        self._act("clinic")

    def start(self):
        self._act("start")

    def over(self, site):
        self._act("over")


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


# --- who gets in -----------------------------------------------------------------------------------------------------


async def test_nothing_is_shown_and_nothing_is_taken_without_the_code(machine):
    client = machine.browser()
    for path in (*(f"/setup/{name}" for name in steps.NAMES), "/setup/paper", "/"):
        answer = await client.get(path)
        assert answer.status_code == 303 and answer.headers["location"] == "/setup", path
    assert machine.key not in (await client.get("/setup")).text
    for name, values in sheets(machine.key).items():
        assert (await client.post(f"/setup/{name}", data=values)).headers["location"] == "/setup"
    assert (await client.post("/setup/summary", data={"go": "next"})).headers["location"] == "/setup"
    assert machine.desk.answers() == {} and not machine.desk.begun
    assert (await client.get("/setup/progress")).status_code == 404
    assert (await client.get("/health")).status_code == 503


async def test_a_code_is_tried_five_times_and_is_another_one_then(machine):
    client, code = machine.browser(), machine.code
    for _ in range(4):
        assert (await client.post("/setup", data={"code": "AAAA-AAAA"})).status_code == 422
    answer = await client.post("/setup", data={"code": "AAAA-AAAA"})
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    assert machine.code != code
    for tried in (code, machine.code):  # even the right one has to wait
        assert (await client.post("/setup", data={"code": tried})).status_code == 429
    machine.pages.door._rests = 0
    assert (await client.post("/setup", data={"code": code})).status_code == 422
    assert (await client.post("/setup", data={"code": machine.code.lower().replace("-", " ")})).status_code == 303


async def test_a_code_works_once_and_the_next_one_moves_the_pages_to_another_browser(machine):
    code = machine.code
    first = await machine.inside()
    assert machine.code != code and "open in a browser" in (machine.desk.folder / "issue").read_text()
    second = machine.browser()
    assert (await second.post("/setup", data={"code": code})).status_code == 422
    assert (await first.get("/setup/language")).status_code == 200
    assert (await second.post("/setup", data={"code": machine.code})).status_code == 303
    assert (await second.get("/setup/language")).status_code == 200
    assert (await first.get("/setup/language")).headers["location"] == "/setup"


async def test_pages_that_are_started_again_know_their_browser_and_what_was_typed(machine):
    client = await machine.inside()
    await client.post("/setup/clinic", data={**sheets("")["clinic"], "go": "next"})
    machine.pages = machine.new_pages()
    later = machine.browser()
    later.cookies = client.cookies
    assert "عيادة الرازي" in (await later.get("/setup/clinic")).text


async def test_only_the_machine_s_own_network_sees_the_pages(machine):
    for address in ("203.0.113.9", "2001:db8::1", "8.8.8.8", "::ffff:8.8.8.8"):
        client = machine.browser(address)
        assert (await client.get("/setup")).status_code == 404 or not _is_ours(address)
        assert (await client.get("/qanun-ca.crt")).status_code == 404 or not _is_ours(address)
    assert (await machine.browser("10.1.2.3").get("/setup")).status_code == 200
    assert not is_near("8.8.8.8", []) and not is_near("not an address", []) and is_near("fe80::1", [])


def _is_ours(address):
    from qanun_appliance.wizard.network import own_networks

    return not is_near(address, own_networks())


async def test_a_form_of_another_site_is_refused(machine):
    client = await machine.inside()
    answer = await client.post("/setup/clinic", data={"name": "x"}, headers={"origin": "https://evil.example"})
    assert answer.status_code == 403 and machine.desk.answers() == {}


# --- what is typed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong", "field"),
    [
        ("language", {"country": ""}, "country"), ("clinic", {"slug": "Al Razi!"}, "slug"), ("clinic", {"name": ""}, "name"),
        ("clinic", {"timezone": "Mars/Base"}, "timezone"), ("network", {"address": "192.168.7.300/24"}, "address"),
        ("network", {"gateway": "gate"}, "gateway"), ("network", {"host": "my clinic!.lan"}, "host"),
        ("administrator", {"admin_email": "salma"}, "admin_email"), ("administrator", {"password": "short", "again": "short"}, "password"),
        ("administrator", {"again": "another phrase"}, "again"), ("backup", {"target": ""}, "target"), ("backup", {"at": "25:00"}, "at"),
        ("key", {"typed": "AAAAA"}, "typed"), ("key", {"typed_disk": ""}, "typed_disk"), ("time", {"servers": "bad_name!"}, "servers"),
        ("certificate", {"kind": "acme", "directory": "http://x"}, "directory"),
    ],
)  # fmt: skip
async def test_a_wrong_value_is_named_beside_its_field_and_nothing_typed_is_lost(machine, name, wrong, field):
    client = await machine.inside()
    values = {**sheets(machine.key)[name], **wrong}
    answer = await client.post(f"/setup/{name}", data={**values, "go": "next"})
    assert answer.status_code == 422 and f'id="{field}-error"' in answer.text
    kept = machine.desk.answers()[name]
    assert kept == {key: value.strip() for key, value in values.items()}
    back = await client.post(f"/setup/{name}", data={**values, "go": "back"})
    assert back.status_code == 303
    again = (await client.get(f"/setup/{name}")).text
    import html

    for key, value in values.items():
        if key not in {"password", "again", "kind", "language", "country", "timezone", "mode"} and value:
            assert html.escape(value, quote=False) in html.unescape(again) or value in html.unescape(again), key


async def test_the_pass_phrase_is_never_shown_again_and_kept_when_the_page_is_sent_without_it(machine):
    client = await machine.inside()
    await machine.typed(client)
    for name in steps.NAMES:
        text = (await client.get(f"/setup/{name}")).text
        assert PHRASE not in text and "seven quiet camels" not in text
    people = {"admin_name": "S. I.", "admin_email": "salma@al-razi.example", "password": "", "again": "", "go": "next"}
    assert (await client.post("/setup/administrator", data=people)).status_code == 303
    assert machine.desk.answers()["administrator"]["password"] == PHRASE
    assert (machine.desk.folder / "answers.json").stat().st_mode & 0o777 == 0o600


async def test_an_address_is_tried_and_a_taken_one_is_never_kept(machine):
    client, values = await machine.inside(), {**sheets("")["network"], "go": "next"}
    await client.post("/setup/language", data=sheets("")["language"])
    machine.answers = {"gateway": "Nobody answers at the gateway’s address."}
    answer = await client.post("/setup/network", data=values)
    assert answer.status_code == 422 and "all_the_same" in answer.text and "gateway-error" in answer.text
    assert (await client.post("/setup/network", data={**values, "all_the_same": "on"})).status_code == 303
    machine.answers = {"address": "Another machine has this address already."}
    answer = await client.post("/setup/network", data={**values, "all_the_same": "on"})
    assert answer.status_code == 422 and "all_the_same" not in answer.text
    machine.mounted, machine.clock = False, None
    for name in ("backup", "time"):
        sheet = {**sheets("")[name], "go": "next"}
        assert "all_the_same" in (await client.post(f"/setup/{name}", data=sheet)).text
        assert (await client.post(f"/setup/{name}", data={**sheet, "all_the_same": "on"})).status_code == 303


def test_only_a_folder_with_a_disk_of_its_own_counts_as_one(tmp_path):
    assert is_mounted("/proc")
    assert not is_mounted(str(tmp_path)) and not is_mounted(str(tmp_path / "nowhere"))


async def test_a_public_certificate_wants_a_public_name(machine):
    client = await machine.inside()
    await machine.typed(client, network={"host": ""})
    answer = await client.post("/setup/certificate", data={"kind": "acme", "email": "", "directory": "", "go": "next"})
    assert answer.status_code == 422 and "needs a public name" in answer.text
    await client.post("/setup/network", data={**sheets("")["network"], "host": "clinic.example", "go": "next"})
    assert (await client.post("/setup/certificate", data={"kind": "acme", "go": "next"})).status_code == 303


async def test_what_is_not_complete_is_not_begun(machine):
    client = await machine.inside()
    answer = await client.post("/setup/summary", data={"go": "next"})
    assert answer.status_code == 422 and "not complete" in answer.text and not machine.desk.begun
    await machine.typed(client)
    await client.post("/setup/key", data={"typed": "", "typed_disk": "", "go": "back"})
    assert (await client.post("/setup/summary", data={"go": "next"})).status_code == 422


@pytest.mark.parametrize("language", ["en", "ar"])
async def test_every_page_is_whole_in_both_languages(machine, language):
    client = await machine.inside()
    await client.post("/language", data={"language": language, "back": "/setup"})
    await machine.typed(client)
    for path in (*(f"/setup/{name}" for name in steps.NAMES), "/setup/paper"):
        text = (await client.get(path)).text
        assert f'<html lang="{language}"' in text and "style=" not in text.split("</svg>")[-1], path
        assert ("إعداد هذا الجهاز" in text) is (language == "ar"), path
    assert (await client.get("/setup/nowhere")).status_code == 404


# --- and then --------------------------------------------------------------------------------------------------------


async def begun(machine, **changes):
    client = await machine.inside()
    await machine.typed(client, **changes)
    answer = await client.post("/setup/summary", data={"go": "next"})
    assert answer.status_code == 303 and answer.headers["location"] == "/"
    return client


async def test_it_writes_the_same_file_as_a_person_would_and_does_the_same(machine):
    client = await begun(machine)
    waits = (await client.get("/")).text
    assert "sets itself up" in waits and "https://clinic.lan" in waits
    acts = Acts(machine.places)
    assert work.run(machine.places, machine.desk, acts)
    assert acts.done == ["apply", "database", "clinic", "start", "over"]
    site = load_site(machine.places.site)
    assert site.clinic.name == 'Al-Razi "Family" Clinic' and site.clinic.slug == "al-razi-family-clinic"
    assert (site.clinic.currency, site.clinic.country, site.language) == ("MAD", "MA", "ar")
    assert site.hosts == ("clinic.lan", "192.168.7.10") and site.network.address == "192.168.7.10/24"
    assert site.network.interface == "enp1s0" and site.backup.target == "/mnt/backup" and site.ssh == "off"
    assert machine.places.site.stat().st_mode & 0o777 == 0o640
    assert PHRASE not in machine.places.site.read_text() and not (machine.places.secrets / "administrator").exists()
    # Somebody has the keys on paper: the disk's own leaves the machine.
    assert json.loads((machine.places.reports / "recovery-key.json").read_text())["verified"]
    assert not (machine.places.secrets / "recovery-key").exists() and (machine.places.secrets / "backup-key").exists()
    state = (await client.get("/setup/progress")).json()
    assert state["state"] == "done" and state["over"]
    machine.desk.clear()
    assert not machine.desk.begun and list(machine.desk.folder.iterdir()) == []


async def test_a_failure_says_why_and_leads_back_to_what_was_typed(machine):
    client = await begun(machine)
    assert not work.run(machine.places, machine.desk, Acts(machine.places, "database"))
    state = (await client.get("/setup/progress")).json()
    assert state["state"] == "failed" and "database is broken" in state["html"]
    assert not machine.places.site.exists() and not (machine.desk.folder / "go").exists()
    assert (await client.post("/setup/again")).headers["location"] == "/setup/summary"
    assert "salma@al-razi.example" in (await client.get("/setup/summary")).text
    await client.post("/setup/summary", data={"go": "next"})
    assert work.run(machine.places, machine.desk, Acts(machine.places))
    assert (await client.post("/setup/again")).headers["location"] == "/setup"  # only after a failure
    assert machine.desk.begun


@pytest.mark.parametrize(
    ("sheet", "field", "value"),
    [("clinic", "name", "two\nlines"), ("backup", "target", "/mnt/$(reboot)"), ("key", "typed", "XXXXX"), ("network", "hostname", "a b"),
     ("administrator", "password", "short")],
)  # fmt: skip
async def test_root_believes_nothing_that_the_pages_hand_over(machine, sheet, field, value):
    await begun(machine)
    chosen = machine.desk.read("chosen")
    chosen[sheet][field] = value
    machine.desk.write("chosen", chosen)
    acts = Acts(machine.places)
    assert not work.run(machine.places, machine.desk, acts)
    assert acts.done == [] and not machine.places.site.exists() and machine.desk.progress()["state"] == "failed"
    machine.desk.write("chosen", {"clinic": "?"})
    assert not work.run(machine.places, machine.desk, acts) and acts.done == []


def test_a_file_that_is_written_is_read_as_it_was_meant(site_table):
    site_table["clinic"]["name"] = 'a "b" \\ c \t ü ع'.replace("\t", "")
    import tomllib

    assert tomllib.loads(site_text(site_table)) == site_table
    assert parse_site(tomllib.loads(site_text(site_table))) == parse_site(site_table)


def test_the_pages_are_gone_once_there_is_a_site_file_and_give_their_port_to_the_proxy(machine):
    texts = {Path(file.path).name: file.content for file in setup_files(machine.places)}
    assert set(texts) == set(UNITS)
    pages = texts["qanun-setup.service"]
    assert "ConditionPathExists=!/var/lib/qanun/site.toml" in pages and "User=qanun" in pages
    assert "Conflicts=caddy.service" in pages and "Before=caddy.service" in pages
    assert "InaccessiblePaths=-/var/lib/qanun/secrets" in pages
    # Without it `ip` ends for whoever is not root, and the pages would say that there is no network.
    assert pages.index("SystemCallFilter=capset") > pages.index("SystemCallFilter=~@privileged")


def test_phones_get_the_root_as_a_profile_and_as_a_square(machine):
    root = (machine.desk.folder / "qanun-ca.crt").read_bytes()
    found = plistlib.loads(trust.profile(root))
    assert found["PayloadContent"][0]["PayloadType"] == "com.apple.security.root" and trust.profile(
        root
    ) == trust.profile(root)
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    der = x509.load_pem_x509_certificate(root).public_bytes(Encoding.DER)
    assert found["PayloadContent"][0]["PayloadContent"] == der
    assert b"<svg" in trust.square("http://192.168.7.10/qanun-ca.crt") and b"PRIVATE" not in trust.profile(root)


async def test_plain_http_gives_out_the_root_alone_and_leads_to_https(machine):
    from qanun.testing.plugin import free_port
    from qanun_appliance.wizard.plain import plain_listener

    port = free_port()
    files = {"/qanun-ca.crt": ("application/x-x509-ca-cert", b"root")}
    base = f"http://127.0.0.1:{port}"
    async with plain_listener("127.0.0.1", port, files), httpx.AsyncClient(base_url=base) as client:
        assert (await client.get("/qanun-ca.crt")).content == b"root"
        led = await client.get("/setup", headers={"host": f"192.168.7.23:{port}"})
        assert (led.status_code, led.headers["location"]) == (308, "https://192.168.7.23/")
        assert (await client.post("/setup", data={"code": "x"})).status_code == 405
        assert (await client.get("/x", headers={"host": 'a"b'})).status_code == 400


def test_an_address_is_asked_for_in_a_real_network(tmp_path):
    """Two machines on a wire of their own: one asks whether an address is free, the other one has some."""
    script = textwrap.dedent("""
        import ipaddress, subprocess, sys
        from qanun_appliance.wizard.network import trial
        def sh(words): subprocess.run(words.split(), check=True)
        other = subprocess.Popen(["unshare", "--net", "sleep", "60"])
        import time
        for _ in range(1500):
            try:
                if __import__("os").readlink(f"/proc/{other.pid}/ns/net") != __import__("os").readlink("/proc/self/ns/net"): break
            except OSError: pass
            time.sleep(0.02)
        try:
            sh("ip link add vone type veth peer name vtwo")
            sh(f"ip link set vtwo netns {other.pid}")
            sh("ip link set vone up")
            for words in ("link set vtwo up", "address add 10.9.0.1/24 dev vtwo", "address add 10.9.0.7/24 dev vtwo"):
                sh(f"nsenter --net=/proc/{other.pid}/ns/net ip {words}")
            mac = __import__("json").loads(subprocess.check_output(["ip", "-json", "link", "show", "vone"]))[0]["address"]
            free = trial("vone", "10.9.0.20/24", "10.9.0.1", mac)
            taken = trial("vone", "10.9.0.7/24", "10.9.0.1", mac)
            alone = trial("vone", "10.9.0.20/24", "10.9.0.250", mac)
            outside = trial("vone", "10.9.0.20/24", "10.8.0.1", mac)
            gone = trial("nosuch", "10.9.0.20/24", "", mac)
            print([list(one) for one in (free, taken, alone, outside, gone)])
        finally:
            other.kill()
    """)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    if "Operation not permitted" in done.stderr or "unshare failed" in done.stderr:
        pytest.skip("no network of one's own can be made here")
    assert done.stdout.strip() == "[[], ['address'], ['gateway'], ['gateway'], ['interface']]", done.stderr


SHELF = [
    BackupDisk(choice="disk:1A2B-3C4D", name="Portable SSD", size=500_000_000_000, label="KEEP", kind="exfat", path="/dev/sdb1"),
    BackupDisk(choice="blank:S3R1AL", name="New Disk", size=2_000_000_000_000, label="", kind="", path="/dev/sdc"),
    BackupDisk(choice="", name="Old Disk", size=250_000_000_000, label="", kind="ntfs", path="/dev/sdd1"),
]  # fmt: skip


async def test_disks_that_are_plugged_in_are_offered_with_what_happens_to_what_is_on_them(machine):
    client = await machine.inside()
    page = (await client.get("/setup/backup")).text
    assert "No other disk is plugged in" in page
    machine.disks = SHELF
    page = (await client.get("/setup/backup")).text
    assert 'value="disk:1A2B-3C4D"' in page and "Portable SSD" in page and "Nothing on it is erased" in page
    assert 'value="blank:S3R1AL"' in page and "It is empty: a file system is made on it." in page
    assert "Old Disk" in page and "what is on it cannot be used here (ntfs)" in page
    assert 'name="kind" value=""' not in page


@pytest.mark.parametrize(
    ("choice", "uuid"), [("disk:1A2B-3C4D", "1A2B-3C4D"), ("blank:S3R1AL", uuid_of("blank:S3R1AL"))]
)
async def test_the_chosen_disk_is_named_in_the_site_by_its_file_system_and_made_ready_before_anything_else(
    machine, choice, uuid
):
    machine.disks = SHELF
    client = await machine.inside()
    await machine.typed(client, backup={"kind": choice, "target": ""})
    machine.disks = []
    gone = await client.post("/setup/backup", data={"kind": choice, "go": "next"})
    assert gone.status_code == 422 and "not plugged in any more" in gone.text
    machine.disks = SHELF
    assert (await client.post("/setup/backup", data={"kind": choice, "go": "next"})).status_code == 303
    summary = (await client.get("/setup/summary")).text
    assert ("a file system is made on it" in summary) == choice.startswith("blank:")
    assert (await client.post("/setup/summary", data={"go": "next"})).status_code == 303
    acts = Acts(machine.places)
    assert work.run(machine.places, machine.desk, acts)
    assert acts.done == [choice, "apply", "database", "clinic", "start", "over"]
    site = load_site(machine.places.site)
    assert (site.backup.disk, site.backup.target) == (uuid, "/mnt/backup/qanun")
