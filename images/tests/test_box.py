"""The built slot, started: from a site file alone to the true application over HTTPS, with nothing open beside it."""

import json
import re
import tomllib

import pytest
from qanun_images import box as boxes

from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.render import open_ports
from qanun_appliance.site import parse_site


def test_the_application_answers_over_https_in_the_readers_language(box):
    status, body = box.get("/health")
    assert (status, '"ok"' in body) == (200, True)
    status, page = box.get("/sign-in", language="ar")
    assert status == 200 and 'dir="rtl"' in page and "Sign in" not in page
    status, page = box.get("/sign-in", language="en")
    assert status == 200 and 'dir="ltr"' in page and "Sign in" in page
    assert box.get("/sign-in", scheme="http")[0] in {301, 308}


def test_assets_come_with_the_wheel(box):
    _, page = box.get("/sign-in")
    asset = re.search(r'href="(/static/[^"]+\.css[^"]*)"', page).group(1)
    status, body = box.get(asset)
    assert status == 200 and len(body) > 1000


def test_every_unit_is_well_and_the_gate_says_so(box):
    assert box.run("systemctl", "--failed", "--no-legend", "--plain").stdout.strip() == ""
    for unit in (
        "qanun-web",
        "qanun-jobs",
        "qanun-media@1",
        "qanun-turn",
        "qanun-postgresql",
        "caddy",
        "qanun-doctor.timer",
    ):
        assert box.run("systemctl", "is-active", unit).stdout.strip() == "active", unit
    box.run("systemctl", "start", "qanun-health.service", timeout=120)


def test_nothing_listens_but_what_is_allowed(box):
    site = parse_site(tomllib.loads((box.var / "lib/qanun/site.toml").read_text()))
    allowed = set(open_ports(site, gather()[0].all(SystemService)))
    outside = {
        (kind, port)
        for kind, address, port in boxes.listeners(box)
        if not address.startswith("127.") and address != "::1"
    }
    assert outside <= allowed, outside - allowed
    assert {("tcp", 443), ("tcp", 80), ("udp", 3478)} <= outside
    assert not {port for _, port in outside} & {22, 3479, 5355, 5432, 8000}
    inside = {port for _, address, port in boxes.listeners(box) if address.startswith("127.")}
    assert inside <= {53, 8000}, inside


def test_applying_once_more_changes_nothing(box):
    assert box.run("qanun", "appliance", "apply", "--check").stdout.splitlines()[-1] == "0 would change"
    assert box.run("qanun", "appliance", "apply").stdout.splitlines()[-1] == "changed=0"


def test_services_are_shut_in(box):
    said = box.run("systemd-analyze", "security", "--no-pager", check=False).stdout
    rated = {name: float(mark) for name, mark in re.findall(r"^(\S+)\.service\s+([0-9.]+)", said, re.MULTILINE)}
    ours = {name: mark for name, mark in rated.items() if name.startswith("qanun-") or name == "caddy"}
    assert len(ours) >= 5 and all(mark <= 3.0 for mark in ours.values()), ours


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/var/lib/qanun/secrets", "700 root root"), ("/var/lib/qanun/site.toml", "640 root qanun"),
        ("/var/lib/qanun/keys", "700 qanun qanun"), ("/var/lib/qanun/keys/master.key", "600 qanun qanun"),
        ("/var/lib/qanun/postgresql", "700 postgres postgres"), ("/etc/qanun/qanun.env", "640 root qanun"),
        ("/opt/qanun", "755 root root"),
    ],
)  # fmt: skip
def test_data_and_keys_are_for_those_who_need_them(box, path, wanted):
    assert box.run("stat", "-c", "%a %U %G", path).stdout.strip() == wanted


def test_the_root_cannot_be_written_and_nothing_below_etc_is_kept(box):
    assert box.run("touch", "/usr/lib/qanun/x", check=False).returncode != 0
    assert box.run("touch", "/opt/qanun/x", check=False).returncode != 0
    assert "overlay" in box.run("findmnt", "-no", "FSTYPE", "/etc").stdout


def test_the_web_server_cannot_read_roots_secrets(box):
    done = box.run("runuser", "-u", "qanun", "--", "ls", "/var/lib/qanun/secrets", check=False)
    assert done.returncode != 0


def test_the_database_compiles_no_queries_and_is_on_its_socket_alone(box):
    asked = "select current_setting('jit'), current_setting('listen_addresses'), current_setting('data_checksums')"
    said = box.run("psql", "-h", "/run/postgresql", "-U", "postgres", "-XtA", "-c", asked).stdout.strip()
    assert said == "off||on"


@pytest.mark.long
def test_calls_follow_a_prefix_that_the_network_replaced(box):
    """Somebody else gives this one its addresses, and takes one away."""
    given = box.run("cat", "/var/lib/qanun/site.toml").stdout
    fixed = f'mode = "static"\ninterface = "host*"\naddress = "{boxes.ADDRESS}/24"'
    assert fixed in given

    def apply(text):
        box.run("sh", "-c", "cat > /var/lib/qanun/site.toml", text=text)
        box.run("qanun", "appliance", "apply", timeout=300)
        box.run("sh", "-c", f"ip address add {boxes.ADDRESS}/24 dev host0 2>/dev/null || true")
        box.wait_healthy(90)

    def prefix(verb, number):
        box.run(
            "ip", "address", verb, f"2001:db8:{number}::5/64", "dev", "host0", *(["nodad"] if verb == "add" else [])
        )

    def follow():
        """The media worker's process afterwards, and what it was started with."""
        box.run("systemctl", "start", "qanun-addresses-follow")
        pid = box.run("systemctl", "show", "--value", "-p", "MainPID", "qanun-media@1").stdout.strip()
        return pid, box.run("cat", f"/proc/{pid}/cmdline").stdout

    apply(given.replace(fixed, 'mode = "unmanaged"'))
    try:
        assert box.run("systemctl", "is-active", "qanun-addresses-follow.timer").stdout.strip() == "active"
        prefix("add", 1)
        box.run("systemctl", "restart", "qanun-addresses", "qanun-media@1", "qanun-turn")
        before = follow()
        assert "2001:db8:1::5" in before[1]
        prefix("add", 2)
        assert follow() == before, "one more is no reason to end calls"
        prefix("del", 1)
        pid, said = follow()
        assert pid != before[0] and "2001:db8:2::5" in said and "2001:db8:1::5" not in said
        box.wait_healthy(60)
        box.run("qanun", "appliance", "health", "--wait", "60", timeout=90)
        assert follow() == (pid, said)
    finally:
        prefix("del", 2)
        apply(given)


def known(box):
    asked = "select (select count(*) from core_user), (select system_identifier from pg_control_system())"
    return box.run("psql", "-h", "/run/postgresql", "-U", "postgres", "-XtA", "-d", "qanun", "-c", asked).stdout


def test_another_start_finds_everything_again(box):
    before, marker = known(box), box.run("cat", "/var/lib/qanun/state.json").stdout
    box.run("touch", "/etc/forgotten")
    box.stop()
    box.start()
    assert (known(box), box.run("cat", "/var/lib/qanun/state.json").stdout) == (before, marker)
    assert box.run("test", "-e", "/etc/forgotten", check=False).returncode == 1


def test_a_start_amid_a_restore_puts_what_was_proven_in_place_before_anything_looks_at_the_data(box):
    """As the power leaves it: all of the clinic beside, the site file with it, and a machine that has none."""
    before, data = known(box), box.var / "lib/qanun"
    major = json.loads((data / "state.json").read_text())["major"]
    box.stop()
    scratch = data / "restore-20261129T101010Z"
    files = scratch / "files/var/lib/qanun"
    files.mkdir(parents=True)
    parts = [name for name in ("blobs", "recordings", "keys", "secrets", "ssh") if (data / name).exists()]
    for name in parts:
        (data / name).rename(files / name)
    (data / "postgresql" / str(major)).rename(scratch / "data")
    (data / "site.toml").rename(scratch / "site.toml")
    (data / "state.json").unlink()
    order = {"set": "20261129T020000Z", "major": major, "root": "files/var/lib/qanun", "parts": parts}
    (scratch / "proven.json").write_text(json.dumps(order))
    box.start(site=None)
    assert known(box) == before and not list(data.glob("*restore-*"))
    assert "20261129T020000Z: in place now" in box.run("journalctl", "-u", "qanun-restored", "-o", "cat").stdout
    assert box.run("systemctl", "--failed", "--no-legend", "--plain").stdout.strip() == ""
    assert box.get("/sign-in")[0] == 200
