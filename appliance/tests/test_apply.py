"""What `apply` writes is right by the word of the programs that read it, and a second run writes nothing."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qanun.api import ConfigurationError
from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.apply import apply, of_running, postgres_programs
from qanun_appliance.commands import setting_up
from qanun_appliance.places import Places
from qanun_appliance.render import Machine, open_ports
from qanun_appliance.site import parse_site
from qanun_appliance.site_table import SiteFault

SERVICES = gather()[0].all(SystemService)
CODE = Path(sys.executable).parent


def tool(name):
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def run(*words, **more):
    return subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, **more)


@pytest.fixture
def machine():
    try:
        programs = postgres_programs(Places())
    except Exception:
        programs = "/usr/lib/postgresql/17/bin"
    return Machine(memory_mb=8192, cores=4, postgres_bin=programs)


@pytest.fixture
def places(tmp_path):
    return Places(tmp_path / "root", CODE)


@pytest.fixture
def tree(site_table, places, machine):
    apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    return places.root


def everything(root):
    return {
        str(path.relative_to(root)): (
            os.readlink(path) if path.is_symlink() else path.read_bytes(),
            path.lstat().st_mode,
        )
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_second_run_changes_nothing(site_table, tree, places, machine):
    before = everything(tree)
    outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert (outcome.changed, outcome.lines, outcome.actions) == ([], [], [])
    assert everything(tree) == before


def test_a_check_writes_nothing_and_tells_the_difference_line_by_line(site_table, tree, places, machine):
    before = everything(tree)
    site_table["media"] = {"port": 8200}
    outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"], check=True)
    assert everything(tree) == before
    units = {
        f"/etc/qanun/units/qanun-media@{number}.env" for number in (2, 3)
    }  # of four processors one is left to the pages
    assert set(outcome.changed) == {"/etc/qanun/qanun.env", "/etc/nftables.conf", "/etc/qanun/listeners", *units}
    assert "+QANUN_MEDIA_LISTEN=[::]:8200" in outcome.lines and "-\t\tudp dport 8100 accept" in outcome.lines
    assert "nftables.service:reload" in outcome.actions and "qanun-media@1.service:restart" in outcome.actions
    assert not any("caddy" in action or "postgresql" in action for action in outcome.actions)


def test_secrets_are_made_once_differ_between_machines_and_belong_to_one_account(
    site_table, tree, places, machine, tmp_path
):
    other = Places(tmp_path / "other", CODE)
    apply(parse_site(site_table), other, SERVICES, machine)
    for name in ("secrets/turn-secret", "secrets/backup-key", "secrets/administrator", "keys/master.key"):
        assert (places.data / name).read_bytes() != (other.data / name).read_bytes()
        assert (places.data / name).stat().st_mode & 0o777 == 0o600
    assert places.secrets.stat().st_mode & 0o777 == 0o700
    shown = "".join(apply(parse_site(site_table), other, SERVICES, machine, check=True).lines)
    secrets = [(places.data / name).read_text() for name in ("secrets/turn-secret", "secrets/backup-key")]
    for path, (content, _) in everything(tree / "etc").items():
        assert not any(secret.encode() in (content if isinstance(content, bytes) else b"") for secret in secrets), path
    assert not any(secret in shown for secret in secrets)


def test_the_first_password_that_was_deleted_does_not_come_back(site_table, tree, places, machine):
    password = places.secrets / "administrator"
    assert len(password.read_text()) > 20
    (places.keys / "founded").touch()
    password.unlink()
    outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert outcome.changed == [] and not password.exists()


def test_a_lost_master_key_is_never_replaced_once_there_is_data(site_table, tree, places, machine):
    (places.keys / "master.key").unlink()
    places.marker.write_text("{}")
    with pytest.raises(Exception, match="restore it from the backup"):
        apply(parse_site(site_table), places, SERVICES, machine)
    assert not (places.keys / "master.key").exists()


def test_a_daemon_that_the_site_no_longer_wants_goes_with_its_port(site_table, tree, places, machine):
    unit = tree / "etc/systemd/system/qanun-turn.service"
    assert unit.exists() and ("udp", 3478) in open_ports(parse_site(site_table), SERVICES)
    site_table["turn"] = {"enabled": False}
    outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert not unit.exists() and "gone: /etc/systemd/system/qanun-turn.service" in outcome.lines
    assert "3478" not in (tree / "etc/nftables.conf").read_text()
    assert "TURN" not in (tree / "etc/qanun/qanun.env").read_text()


def test_without_a_backup_the_log_is_not_kept_until_the_disk_is_full(site_table, tree, places, machine):
    settings = tree / "etc/qanun/postgresql/postgresql.conf"
    assert "/var/lib/qanun/wal/%f" in settings.read_text()
    site_table["backup"] = {}
    apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert "archive_command = '/bin/true'" in settings.read_text() and "archive_timeout = 0" in settings.read_text()
    assert not list((tree / "etc/systemd/system").glob("qanun-*wal.timer"))


def test_each_media_worker_has_its_socket_its_port_and_its_hole_in_the_firewall(site_table, tree, places, machine):
    def workers(**media):
        site_table["media"] = media
        outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
        text = (tree / "etc/nftables.conf").read_text()
        opened = [int(line.split()[2]) for line in text.splitlines() if "udp dport 8" in line]
        files = sorted((tree / "etc/qanun/units").glob("*.env"))
        wants = (tree / "etc/systemd/system/qanun.target").read_text()
        return opened, {file.stem: file.read_text() for file in files}, wants.count("qanun-media@"), outcome

    opened, files, wanted, _ = workers()
    assert (opened, list(files), wanted) == ([8100, 8101, 8102], ["qanun-media@2", "qanun-media@3"], 3)
    # The names by which the web server finds them (the pool), and nobody's port twice.
    assert "QANUN_MEDIA_SOCKET=/run/qanun/media-2.sock\n" in files["qanun-media@2"]
    assert "QANUN_MEDIA_LISTEN=[::]:8102\n" in files["qanun-media@3"]
    opened, files, wanted, outcome = workers(workers=1, port=8200)
    assert (opened, files, wanted) == ([8200], {}, 1) and "/etc/qanun/units/qanun-media@3.env" in outcome.changed
    assert workers(workers=8)[0] == list(range(8100, 8108))
    unit = (tree / "etc/systemd/system/qanun-media@.service").read_text()
    assert "LimitNICE=-10\n" in unit, "its thread that forwards packets may go ahead of its others"
    assert unit.index("qanun.env") < unit.index("EnvironmentFile=-/etc/qanun/units/%p@%i.env")
    for wrong in ({"workers": 0}, {"workers": 9}, {"workers": 4, "port": 3477}, {"workers": True}):
        site_table["media"] = wrong
        with pytest.raises(Exception, match="media"):
            parse_site(site_table)


def test_only_what_is_listed_may_be_reached_from_outside(site_table):
    wanted = [("tcp", 80), ("tcp", 443), ("tcp", 3478), ("tcp", 5349), ("udp", 3478), ("udp", 8100)]
    assert open_ports(parse_site(site_table), SERVICES, 2) == sorted(wanted)
    site_table["ssh"] = {"mode": "keys", "keys": ["ssh-ed25519 " + "A" * 68]}
    assert open_ports(parse_site(site_table), SERVICES, 2) == sorted([*wanted, ("tcp", 22)])


def test_the_way_in_by_keys_starts_with_the_image_and_is_the_servers_own_affair_elsewhere(
    site_table, tree, places, machine
):
    target = tree / "etc/systemd/system/qanun.target"
    site_table["ssh"] = {"mode": "keys", "keys": ["ssh-ed25519 " + "A" * 68]}
    apply(parse_site(site_table), places, SERVICES, dataclasses.replace(machine, slot=False), ["192.168.7.10"])
    assert "ssh.service" not in target.read_text()
    apply(parse_site(site_table), places, SERVICES, dataclasses.replace(machine, slot=True), ["192.168.7.10"])
    assert "ssh.service" in target.read_text()
    site_table["ssh"] = {"mode": "off"}
    apply(parse_site(site_table), places, SERVICES, dataclasses.replace(machine, slot=True), ["192.168.7.10"])
    assert "ssh.service" not in target.read_text()


def test_a_file_changed_by_hand_is_put_right_and_its_mode_too(site_table, tree, places, machine):
    target = tree / "etc/qanun/postgresql/pg_hba.conf"
    right = target.read_text()
    target.write_text("local all all trust\n")
    (tree / "etc/qanun/qanun.env").chmod(0o666)
    outcome = apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert target.read_text() == right and (tree / "etc/qanun/qanun.env").stat().st_mode & 0o777 == 0o640
    assert set(outcome.changed) == {"/etc/qanun/postgresql/pg_hba.conf", "/etc/qanun/qanun.env"}


# --- by the word of those who read it --------------------------------------------------------------------------------


def units(tree):
    return sorted(path for path in (tree / "etc/systemd/system").iterdir() if path.is_file())


def test_systemd_finds_no_fault_in_any_unit(tree):
    analyse = tool("systemd-analyze")
    files = [path for path in units(tree) if "@" not in path.name]
    environment = {**os.environ, "SYSTEMD_UNIT_PATH": f"{tree}/etc/systemd/system:"}
    said = run(analyse, "verify", "--man=no", *files, env=environment)
    ours = [line for line in said.stderr.splitlines() if "qanun" in line or str(tree) in line]
    # Units of programs that this machine lacks are not ours to judge.
    ours = [line for line in ours if not re.search(r"(turnserver|systemd-bless-boot) is not executable", line)]
    assert ours == []


def test_every_service_of_ours_gives_up_what_it_does_not_need(tree):
    analyse = tool("systemd-analyze")
    services = [path for path in units(tree) if path.name.startswith("qanun-") and path.suffix == ".service"]
    too_open = {}
    for path in services:
        if path.name.startswith(("qanun-apply.", "qanun-renew.", "qanun-setup-work.", "qanun-wish-", "qanun-give-up.")):
            continue  # they write /etc, start services and rename a boot file: root's own work, for a second
        target = path.with_name(path.name.replace("@", ""))
        if target != path:
            target.write_text(path.read_text())
        answer = run(analyse, "security", "--offline=true", target)
        found = re.search(r"exposure level for \S+: ([\d.]+)", answer.stdout)
        assert found, answer.stdout + answer.stderr
        if float(found.group(1)) > 3.0:
            too_open[path.name] = found.group(1)
    assert len(services) > 10 and too_open == {}


def test_nftables_takes_the_rules_and_refuses_a_broken_file(tree):
    check = tool("nft")
    said = run(check, "-c", "-f", tree / "etc/nftables.conf")
    if "Operation not permitted" in said.stderr:
        pytest.skip("nft needs root here")
    assert said.returncode == 0, said.stderr
    broken = tree / "broken.conf"
    broken.write_text((tree / "etc/nftables.conf").read_text().replace("accept", "acept"))
    assert run(check, "-c", "-f", broken).returncode != 0


@pytest.mark.parametrize("kind", ["own", "acme", "given"])
def test_caddy_takes_the_proxy_s_file(site_table, places, machine, kind):
    caddy = tool("caddy")
    site_table["certificate"] = {"kind": kind}
    if kind == "acme":
        site_table["hosts"]["names"] = ["clinic.example"]
    if kind == "given":
        own = Places(places.root.parent / "first", CODE)
        apply(parse_site({**site_table, "certificate": {"kind": "own"}}), own, SERVICES, machine)
        site_table["certificate"] |= {"certificate": "/etc/own.crt", "key": "/etc/own.key"}
        places.real("/etc").mkdir(parents=True)
        shutil.copy(own.tls / "server.crt", places.real("/etc/own.crt"))
        shutil.copy(own.tls / "server.key", places.real("/etc/own.key"))
    apply(parse_site(site_table), places, SERVICES, machine)
    file = places.real("/etc/caddy/Caddyfile")
    text = file.read_text()
    file.write_text(text.replace("/var/lib/qanun", str(places.data)))  # the tree is not the root
    said = run(caddy, "validate", "--config", file, "--adapter", "caddyfile")
    assert said.returncode == 0, said.stderr[-2000:]
    adapted = run(caddy, "adapt", "--config", file, "--adapter", "caddyfile").stdout
    assert '"h3"' not in adapted and '"protocols":["h1","h2"]' in adapted
    assert '"listen":"unix//run/caddy/admin.sock"' in adapted


def test_the_relay_s_preparation_writes_a_file_that_reaches_the_media_server_alone(tree, places, tmp_path):
    unit = (tree / "etc/systemd/system/qanun-turn.service").read_text()
    prepare = re.search(r"^ExecStartPre=(.*)$", unit, re.MULTILINE).group(1).split()
    lines = (tree / "etc/qanun/qanun.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    given |= {
        "QANUN_STATE_DIR": str(places.data), "QANUN_TURN_SECRET_FILE": str(places.secrets / "turn-secret"),
        "QANUN_TURN_CERTIFICATE": str(places.tls / "server.crt"), "QANUN_TURN_CERTIFICATE_KEY": str(places.tls / "server.key"),
        "QANUN_LOCALE_DIR": os.environ.get("QANUN_LOCALE_DIR", ""),
    }  # fmt: skip
    done = run(*prepare, env={**os.environ, **given})
    assert done.returncode == 0, done.stderr
    written = (places.data / "turn/turnserver.conf").read_text()
    assert "tls-listening-port=5349" in written and "listening-ip=192.168.7.10" in written
    assert [line for line in written.splitlines() if line.startswith("allowed-peer-ip")] == [
        "allowed-peer-ip=192.168.7.10"
    ]
    assert (places.secrets / "turn-secret").read_text() in written
    done = run(*prepare, env={**os.environ, **given, "QANUN_MEDIA_NODES": "192.168.7.20,192.168.7.21"})
    assert done.returncode == 0, done.stderr
    assert (places.data / "turn/turnserver.conf").read_text().count("allowed-peer-ip=192.168.7.2") == 2


def test_media_nodes_have_a_place_to_call_in_only_where_the_site_names_their_addresses(
    site_table, tree, places, machine
):
    unit = "etc/systemd/system/qanun-nodes.service"
    assert not (tree / unit).exists()
    assert "8110" not in (tree / "etc/nftables.conf").read_text()
    site_table["media"] = {"nodes": ["192.168.7.20"]}
    apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert "telemedicine nodes-gateway" in (tree / unit).read_text()
    assert "tcp dport 8110 accept" in (tree / "etc/nftables.conf").read_text()
    assert "QANUN_MEDIA_NODES=192.168.7.20" in (tree / "etc/qanun/qanun.env").read_text()
    with pytest.raises(SiteFault):
        parse_site(site_table | {"media": {"nodes": ["everywhere"]}})


def test_mail_goes_out_and_calls_have_captions_only_where_the_site_names_who_takes_them(
    site_table, tree, places, machine
):
    settings, jobs = tree / "etc/qanun/qanun.env", tree / "etc/systemd/system/qanun-jobs.service"
    assert "SMTP" not in settings.read_text() and "CAPTIONS" not in settings.read_text()
    assert "IPAddressDeny=any" in jobs.read_text() and "smtp-password" not in jobs.read_text()
    assert not (tree / "etc/systemd/system/qanun-captions.service").exists()
    site_table["mail"] = {
        "host": "mail.al-razi.example", "from": "clinic@al-razi.example", "user": "clinic", "password_file": "/var/lib/qanun/mail",
    }  # fmt: skip
    site_table["captions"] = {"recogniser": "http://192.168.7.30:8000"}
    with pytest.raises(ConfigurationError, match="password_file"):
        apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    assert "SMTP" not in settings.read_text()
    (tree / "var/lib/qanun/mail").write_text("geheim")
    apply(parse_site(site_table), places, SERVICES, machine, ["192.168.7.10"])
    for line in ("QANUN_SMTP_HOST=mail.al-razi.example", "QANUN_SMTP_SECURITY=starttls", "QANUN_MAIL_FROM=clinic@al-razi.example",
                 "QANUN_CAPTIONS=http://192.168.7.30:8000", "QANUN_CAPTIONS_SOCKET=/run/qanun/captions.sock"):  # fmt: skip
        assert line in settings.read_text().splitlines()
    assert "LoadCredential=smtp-password:/var/lib/qanun/mail" in jobs.read_text()
    assert "IPAddressDeny" not in jobs.read_text(), "the mail server's addresses are not known beforehand"
    assert "IPAddressDeny=any" in (tree / "etc/systemd/system/qanun-web.service").read_text()
    assert "telemedicine captions" in (tree / "etc/systemd/system/qanun-captions.service").read_text()


def test_the_order_of_codecs_is_the_workers_own_unless_the_site_says_it(site_table, tree, places, machine):
    settings = tree / "etc/qanun/qanun.env"
    assert "CODECS" not in settings.read_text()
    apply(parse_site(site_table | {"media": {"codecs": "vp9,vp8,red"}}), places, SERVICES, machine, ["192.168.7.10"])
    assert "QANUN_MEDIA_CODECS=vp9,vp8,red" in settings.read_text().splitlines()
    for wrong in ("vp10", "vp8;vp9", "vp8,", "VP8\nX=1"):
        with pytest.raises(SiteFault) as refused:
            parse_site(site_table | {"media": {"codecs": wrong}})
        assert [name for name, _ in refused.value.faults] == ["media.codecs"]


def test_a_mail_server_needs_a_sender_and_a_name_there_its_password(site_table):
    with pytest.raises(SiteFault) as refused:
        parse_site(
            site_table | {"mail": {"host": "mail.example", "user": "clinic"}, "captions": {"recogniser": "ftp://x"}}
        )
    assert {name for name, _ in refused.value.faults} == {"mail.from", "mail.password_file", "captions.recogniser"}


def test_addresses_that_the_network_gives_are_left_to_the_moment_of_start(site_table, places, machine):
    site_table["network"] = {"mode": "dhcp"}
    apply(parse_site(site_table), places, SERVICES, machine, ["10.1.2.3"])
    assert "ADVERTISE" not in places.real("/etc/qanun/qanun.env").read_text()
    for name in ("qanun-web.service", "qanun-turn.service", "qanun-media@.service"):
        unit = places.real(f"/etc/systemd/system/{name}").read_text()
        assert "EnvironmentFile=-/run/qanun-addresses/addresses.env" in unit and "After=qanun-addresses" in unit
    assert "DHCP=yes" in places.real("/etc/systemd/network/20-qanun.network").read_text()


def _link(name: str, *addresses: str, **more: object) -> dict[str, object]:
    near = {"fe80": "link", "127.": "host"}
    given = [{"local": one, "scope": near.get(one[:4], "global")} for one in addresses]
    return {"ifname": name, "operstate": "UP", "addr_info": given, **more}


def _shown(monkeypatch, *steps):
    """`reachable_addresses` while `ip` shows what each step says from its second on: (the answer, after how many seconds)."""
    from qanun_appliance import addresses

    clock = [0.0]
    monkeypatch.setattr(addresses.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(addresses.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))

    def run(*_, **__):
        links = next((found for at, *found in reversed(steps) if clock[0] >= at), [])
        return subprocess.CompletedProcess([], 0, json.dumps(links).encode())

    monkeypatch.setattr(addresses.subprocess, "run", run)
    return addresses.reachable_addresses(wait=30.0), clock[0]


def test_bridges_and_tunnels_of_other_programs_are_no_way_to_this_machine(monkeypatch):
    found, _ = _shown(
        monkeypatch,
        (0, _link("lo", "127.0.0.1"), _link("docker0", "172.17.0.1"), _link("enp1s0", "192.168.7.10", "192.168.7.11"),
         _link("wg0", "10.8.0.2"), _link("enp2s0", operstate="DOWN")),
    )  # fmt: skip
    assert found == ["192.168.7.10", "192.168.7.11"]


def test_passing_addresses_of_ipv6_are_told_to_nobody_and_ipv4_stands_first(monkeypatch):
    first = _link("enp1s0", "2001:db8::9f3c", "2001:db8::5", "2001:db8::6", "2001:db8:1::5", "192.168.7.10", "fe80::1")
    for at, flag in ((0, "temporary"), (2, "tentative"), (3, "deprecated")):
        first["addr_info"][at][flag] = True
    first["addr_info"].append({})
    found, _ = _shown(monkeypatch, (0, first, _link("enp2s0", "fd00::5", "10.1.2.3")))
    assert found == ["192.168.7.10", "10.1.2.3", "2001:db8::5", "fd00::5"]


def test_one_family_is_waited_for_a_little_longer_and_none_for_ever(monkeypatch):
    def given(*steps: tuple[float, list[str]]) -> tuple[list[str], float]:
        return _shown(monkeypatch, *((at, _link("enp1s0", *found)) for at, found in steps))

    both = ["192.0.2.5", "2001:db8::5"]
    assert given((0, both)) == (both, 0)
    assert given((0, ["192.0.2.5"]), (1, both)) == (both, 1)
    assert given((0, []), (7, ["192.0.2.5"]), (8, both)) == (both, 8), "from the first address on, however late it came"
    assert given((0, ["2001:db8::5"]), (9, both)) == (both, 9)
    assert given((1, ["192.0.2.5"]), (20, both)) == (["192.0.2.5"], 3), "a network without IPv6 is not waited for"
    assert given((1, ["2001:db8::5"])) == (["2001:db8::5"], 13)
    assert given((0, ["fe80::1"])) == ([], 30)
    assert given() == ([], 30)


def test_a_second_network_that_answers_later_is_waited_for_and_a_cable_to_nowhere_is_not_for_ever(monkeypatch):
    one, two, both = "192.0.2.5", "198.51.100.7", ["192.0.2.5", "198.51.100.7"]
    late = _shown(
        monkeypatch, (0, _link("enp1s0", one), _link("enp2s0")), (6, _link("enp1s0", one), _link("enp2s0", two))
    )
    assert late == (both, 6)
    assert _shown(monkeypatch, (0, _link("enp1s0", one), _link("enp2s0", "fe80::1"))) == ([one], 12)
    for never in (_link("enp2s0", master="br0"), _link("enp2s0", operstate="DOWN"), _link("wg0")):
        assert _shown(monkeypatch, (0, _link("enp1s0", one), never)) == ([one], 2)


def test_an_address_that_the_network_replaced_is_followed_and_one_that_came_or_went_is_not(monkeypatch):
    from qanun_appliance import addresses

    four, six = ["192.0.2.5"], ["2001:db8:1::5"]

    def followed(told: list[str], *shown: list[str]) -> list[str]:
        """What counts from now on, while `ip` shows these addresses one time after another."""
        steps = [json.dumps([_link("enp1s0", *found)]).encode() for found in shown]
        monkeypatch.setattr(addresses.time, "sleep", lambda _: None)
        monkeypatch.setattr(
            addresses.subprocess,
            "run",
            lambda *_, **__: subprocess.CompletedProcess([], 0, steps.pop(0) if len(steps) > 1 else steps[0]),
        )
        return addresses.others(told)

    assert followed(four + six, ["192.0.2.5", "2001:db8:2::5"]) == ["192.0.2.5", "2001:db8:2::5"], "another prefix"
    assert followed(four, ["198.51.100.7"]) == ["198.51.100.7"], "another router"
    assert followed([], four) == four, "a cable that was put in after the start"
    for harmless in (four + six, four, [*four, "2001:db8:2::5", *six], [], ["192.0.2.9", *four, *six]):
        assert followed(four + six, harmless) == []
    assert followed(four, ["198.51.100.7"], four) == [], "a router that starts gives and takes for a while"


def test_only_where_the_network_gives_addresses_they_are_looked_at_again(site_table, tree, places, machine):
    timer = "etc/systemd/system/qanun-addresses-follow.timer"
    assert not (tree / timer).exists()
    apply(parse_site(site_table | {"network": {"mode": "dhcp"}}), places, SERVICES, machine, ["10.1.2.3"])
    assert (tree / timer).exists()
    assert "qanun-addresses-follow.timer" in (tree / "etc/systemd/system/qanun.target").read_text()


def test_whoever_follows_writes_down_what_counts_now_and_otherwise_touches_nothing(
    site_table, places, monkeypatch, capsys
):
    from qanun_appliance import addresses
    from qanun_appliance.commands import setting_up

    site_table["network"] = {"mode": "dhcp"}
    monkeypatch.setattr(setting_up, "load_site", lambda _: parse_site(site_table))
    places.data.mkdir(parents=True)
    file = places.real("/run/qanun-addresses/addresses.env")
    file.parent.mkdir(parents=True)
    file.write_text("QANUN_MEDIA_ADVERTISE=192.0.2.5,2001:db8:1::5\nQANUN_TURN_LISTEN=192.0.2.5\n")
    words = ["--follow", "--write", "/run/qanun-addresses/addresses.env", "--root", str(places.root)]
    asked = []
    for found in ([], ["192.0.2.5", "2001:db8:2::5"]):
        monkeypatch.setattr(addresses, "others", lambda told, found=found: asked.append(told) or found)
        before = file.read_text()
        assert setting_up.addresses_command(words) == 0
        assert (file.read_text() == before) is not bool(found)
    assert asked == [["192.0.2.5", "2001:db8:1::5"]] * 2
    assert "QANUN_MEDIA_ADVERTISE=192.0.2.5,2001:db8:2::5" in file.read_text().splitlines()
    assert "2001:db8:1::5" not in file.read_text()
    assert "as before" in capsys.readouterr().out


def test_a_machine_of_both_families_tells_browsers_of_both(site_table):
    from qanun_appliance.render.services import address_environment

    site = parse_site(site_table)
    told = address_environment(site, ["192.0.2.5", "192.0.2.6", "2001:db8::5"])
    assert told["QANUN_MEDIA_ADVERTISE"] == told["QANUN_TURN_LISTEN"] == "192.0.2.5,192.0.2.6,2001:db8::5"
    urls = told["QANUN_TURN_URLS"].split(",")
    assert [url for url in urls if url.startswith("turn:")] == [
        f"turn:{host}:3478?transport={way}" for host in ("192.0.2.5", "[2001:db8::5]") for way in ("udp", "tcp")
    ]
    six = address_environment(site, ["2001:db8::5"])["QANUN_TURN_URLS"].split(",")
    assert six[:2] == ["turn:[2001:db8::5]:3478?transport=udp", "turn:[2001:db8::5]:3478?transport=tcp"]
    four = address_environment(site, ["192.0.2.5"])["QANUN_TURN_URLS"]
    assert "[" not in four


def test_folders_of_configuration_can_be_passed_whatever_the_process_leaves_to_others(site_table, places, machine):
    before = os.umask(0o077)
    try:
        apply(parse_site(site_table), places, gather()[0].all(SystemService), machine)
    finally:
        os.umask(before)
    closed = [path for path in places.real("/etc").rglob("*") if path.is_dir() and path.stat().st_mode & 0o777 != 0o755]
    assert closed == [] and places.real("/etc/qanun/postgresql/postgresql.conf").exists()


# --- what an image wrote down ----------------------------------------------------------------------------------------


def test_an_image_s_own_note_of_what_plugins_ask_is_taken_for_exactly_those_plugins(tmp_path, monkeypatch, capsys):
    asked = setting_up.services()
    assert setting_up.services_command([]) == 0
    note = tmp_path / setting_up.ASKED
    note.parent.mkdir(parents=True)
    note.write_text(capsys.readouterr().out)
    monkeypatch.setattr(setting_up.sys, "prefix", str(tmp_path))
    monkeypatch.setattr(setting_up, "_ask", lambda: ["the plugins themselves"])
    written = setting_up.services()
    assert [(one.id, list(one.command), list(one.ports)) for one in written] == [
        (one.id, list(one.command), list(one.ports)) for one in asked
    ]
    assert all(isinstance(port, tuple) for one in written for port in one.ports)
    for other in (note.read_text().replace('"appliance":"', '"appliance":"9'), "{}", "", "[1"):
        note.write_text(other)
        assert setting_up.services() == ["the plugins themselves"], other


def test_what_starts_only_later_is_not_told_of_files_that_it_will_read_anyway(tmp_path, monkeypatch):
    """The first day's last act starts database and web server by itself: restarting them after that costs minutes on a slow machine."""
    told = tmp_path / "systemctl"
    told.write_text(
        "#!/bin/sh\nshift\nfor unit; do case $unit in caddy*|systemd-*) echo active ;; qanun-turn*) echo activating ;; "
        "*) echo inactive ;; esac; done\nexit 3\n"
    )
    told.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    actions = ["daemon-reload", "systemd-networkd.service:restart", "qanun-web.service:restart", "caddy.service:restart",
               "qanun-postgresql.service:restart", "qanun-turn.service:reload"]  # fmt: skip
    assert of_running(actions) == [
        "daemon-reload",
        "systemd-networkd.service:restart",
        "caddy.service:restart",
        "qanun-turn.service:reload",
    ]
    assert of_running(["daemon-reload"]) == ["daemon-reload"]
