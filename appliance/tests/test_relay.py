"""The relay's certificate: the first one opens TLS, a renewed one is shown without ending what goes through it, wherever it comes from.

A true coturn on ports of its own, with the configuration that a box has.
"""

import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.apply import apply
from qanun_appliance.local_ca import server_certificate
from qanun_appliance.places import Places
from qanun_appliance.relay import CERTIFICATE, KEY, kept_by_the_proxy, relay_certificate
from qanun_appliance.render import Machine
from qanun_appliance.secrets import ensure_secrets
from qanun_appliance.site import parse_site
from qanun_telemedicine.turn import TurnSettings, configuration

SERVICES = gather()[0].all(SystemService)
PROXY = "var/lib/caddy/.local/share/caddy/certificates/acme-v02.api.letsencrypt.org-directory/clinic.example.org/"


@pytest.fixture
def places(tmp_path):
    found = Places(tmp_path / "root")
    found.data.mkdir(parents=True)
    return found


@pytest.fixture
def public(site_table):
    """A site whose certificate a public authority gives."""
    table = site_table | {"hosts": {"names": ["clinic.example.org"]}, "certificate": {"kind": "acme"}}
    return parse_site(table)


def from_an_authority(places, site, **names):
    """What the proxy puts there; every time another certificate."""
    folder = places.root / "authority"
    shutil.rmtree(folder, ignore_errors=True)
    chain, key, root = server_certificate(folder, [site.hosts[0]], own_names=False)
    kept = places.real(kept_by_the_proxy(site)[0])
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(key, kept.with_suffix(".key"))
    shutil.copy(chain, kept)
    return chain.read_bytes(), key.read_bytes(), root.read_text()


def test_the_proxys_store_is_found_by_the_authoritys_address(site_table):
    hosts = {"hosts": {"names": ["clinic.example.org"]}}
    usual = parse_site(site_table | hosts | {"certificate": {"kind": "acme"}})
    assert f"/{PROXY}clinic.example.org.crt" in kept_by_the_proxy(usual)
    own = parse_site(
        site_table | hosts | {"certificate": {"kind": "acme", "directory": "https://CA.lan:9443/acme/local/directory"}}
    )
    [path] = kept_by_the_proxy(own)
    assert "/ca.lan-9443-acme-local-directory/clinic.example.org/" in path


def test_a_pair_comes_whole_or_not_at_all(places, public):
    assert relay_certificate(public, places) == "", "nobody has given one yet"
    chain, key, _ = from_an_authority(places, public)
    kept = places.real(kept_by_the_proxy(public)[0])
    old_key = kept.with_suffix(".key").read_bytes()
    assert relay_certificate(public, places) == "first"
    assert (places.real(CERTIFICATE).read_bytes(), places.real(KEY).read_bytes()) == (chain, key)
    assert places.real(KEY).stat().st_mode & 0o777 == 0o600
    assert relay_certificate(public, places) == ""
    _, new_key, _ = from_an_authority(places, public)
    kept.with_suffix(".key").write_bytes(old_key)  # the proxy has written one of the two
    assert relay_certificate(public, places) == "" and places.real(CERTIFICATE).read_bytes() == chain
    kept.with_suffix(".key").write_bytes(new_key)
    assert relay_certificate(public, places) == "renewed" and places.real(KEY).read_bytes() == new_key


def test_apply_opens_the_relays_port_with_the_first_certificate_and_only_tells_it_of_the_next(site_table, places):
    on = Machine(memory_mb=4096, cores=2, postgres_bin="/usr/lib/postgresql/17/bin")
    site = parse_site(site_table)
    first = apply(site, places, SERVICES, on, ["192.168.7.10"])
    assert "qanun-turn.service:restart" in first.actions
    moved = apply(site, places, SERVICES, on, ["192.168.7.10", "192.168.7.11"])
    assert "qanun-turn.service:reload" in moved.actions and "qanun-turn.service:restart" not in moved.actions
    assert places.real(CERTIFICATE).read_bytes() == (places.tls / "server.crt").read_bytes()
    unit = places.real("/etc/systemd/system/qanun-turn.service").read_text()
    assert "ExecReload=/bin/kill -USR2" in unit and f"QANUN_TURN_CERTIFICATE={CERTIFICATE}" in unit
    assert not places.real("/etc/systemd/system/qanun-relay-certificate.path").exists()


def test_where_the_proxy_renews_the_relay_waits_for_the_file(public, places):
    on = Machine(memory_mb=4096, cores=2, postgres_bin="/usr/lib/postgresql/17/bin")
    apply(public, places, SERVICES, on, ["192.168.7.10"])
    watch = places.real("/etc/systemd/system/qanun-relay-certificate.path").read_text()
    assert f"PathChanged=/{PROXY}clinic.example.org.crt" in watch
    assert "qanun-relay-certificate.path" in places.real("/etc/systemd/system/qanun.target").read_text()
    assert "tcp dport 5349 accept" in places.real("/etc/nftables.conf").read_text()


@pytest.fixture
def relay(places, site_table):
    """A relay as the box starts one, on free ports; (process, tls port, site)."""
    program = shutil.which("turnserver")
    if program is None:
        pytest.skip("coturn is not installed here")
    site = parse_site(site_table)
    ensure_secrets(site, places, ["127.0.0.1"])
    assert relay_certificate(site, places) == "first"
    ports = []
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    settings = TurnSettings(
        realm="qanun", addresses=["127.0.0.1"], peers=["127.0.0.1"], port=ports[0], tls_port=ports[1],
        certificate=places.real(CERTIFICATE), private_key=places.real(KEY),
    )  # fmt: skip
    file = places.real("/var/lib/qanun/turn/turnserver.conf")
    file.write_text(configuration(settings, "secret", file.parent))
    with (places.root / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", file], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert process.poll() is None, (places.root / "log").read_text()
            try:
                socket.create_connection(("127.0.0.1", ports[1]), timeout=2).close()
                break
            except OSError:
                time.sleep(0.05)
        yield process, ports[1], site
    finally:
        process.terminate()
        process.wait(20)


def line_to(places, port):
    """A TLS line to the relay as a browser has it, which trusts the clinic's root."""
    trust = ssl.create_default_context(cafile=str(places.tls / "qanun-ca.crt"))
    plain = socket.create_connection(("127.0.0.1", port), timeout=20)
    return trust.wrap_socket(plain, server_hostname="clinic.lan")


BINDING = bytes.fromhex("000100002112a442") + bytes(12)


def answers(line):
    """Whether the relay speaks: it says that it wants to know who asks."""
    line.sendall(BINDING)
    return line.recv(200)[:2] == b"\x01\x11"


def test_a_renewed_certificate_is_shown_to_who_comes_and_who_is_there_stays(relay, places):
    process, port, site = relay
    there = line_to(places, port)
    old = there.getpeercert()["serialNumber"]
    (places.secrets / "ca/server.crt").unlink()  # its time has come
    assert ensure_secrets(site, places, ["127.0.0.1"]) == ["a certificate"]
    assert relay_certificate(site, places) == "renewed"
    process.send_signal(signal.SIGUSR2)
    until, shown = time.monotonic() + 60, old
    while shown == old and time.monotonic() < until:
        with line_to(places, port) as new:
            shown = new.getpeercert()["serialNumber"]
            assert answers(new)
        time.sleep(0.1)
    assert shown != old
    assert answers(there), "who was there before talks on"
    there.close()
    assert process.poll() is None
