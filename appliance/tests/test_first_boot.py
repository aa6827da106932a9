"""The first day: a cluster made once and never beside a lost one, the rendered settings in a real PostgreSQL, the proxy in
front of the true application, and what each part says when it is missing."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from qanun.app import SystemService
from qanun.app.build import gather
from qanun.testing.plugin import free_port
from qanun_appliance.apply import apply
from qanun_appliance.health import Probe, Where, definite, gate, probes, where
from qanun_appliance.places import Places
from qanun_appliance.postgres import account, hand_over, prepare_cluster_files, read_marker
from qanun_appliance.render import Machine
from qanun_appliance.site import parse_site

SERVICES = gather()[0].all(SystemService)
CODE = Path(sys.executable).parent


@pytest.fixture
def places(shared_folder):
    found = Places(shared_folder, CODE)
    found.data.mkdir(parents=True)
    return found


def test_the_cluster_is_made_on_the_first_day_and_kept_on_the_second(places, programs):
    assert prepare_cluster_files(places, programs) == "made"
    since = read_marker(places)["since"]
    assert prepare_cluster_files(places, programs) == "kept"
    assert read_marker(places)["since"] == since


def test_a_cluster_that_is_gone_is_never_replaced_by_an_empty_one(places, programs):
    prepare_cluster_files(places, programs)
    shutil.rmtree(places.clusters)
    with pytest.raises(Exception, match="No new one is made"):
        prepare_cluster_files(places, programs)
    assert not list(places.data.rglob("PG_VERSION"))
    places.marker.write_text("half a wri")  # a marker that cannot be read is still a marker
    with pytest.raises(Exception, match="No new one is made"):
        prepare_cluster_files(places, programs)


def test_a_set_up_that_was_interrupted_begins_again(places, programs):
    major = programs.split("/")[-2]
    (places.clusters / f".{major}.new").mkdir(parents=True)
    (places.clusters / f".{major}.new" / "half").write_text("")
    assert prepare_cluster_files(places, programs) == "made"
    assert not (places.clusters / f".{major}.new").exists()


def test_a_cluster_of_another_version_is_carried_over_and_not_begun_anew(places, programs):
    (places.clusters / "9").mkdir(parents=True)
    (places.clusters / "9" / "PG_VERSION").write_text("9\n")
    with pytest.raises(Exception, match="carried over"):
        prepare_cluster_files(places, programs)


def test_the_rendered_database_listens_on_its_socket_only_archives_its_log_and_keeps_values_out_of_messages(
    places, programs, site_table
):
    machine = Machine(memory_mb=1024, cores=2, postgres_bin=programs)
    apply(parse_site(site_table), places, SERVICES, machine)
    prepare_cluster_files(places, programs)
    places.wal.mkdir()
    hand_over(places.wal)
    sockets = places.root / "sockets"
    sockets.mkdir()
    hand_over(sockets)
    folder = places.real("/etc/qanun/postgresql")
    for file in folder.iterdir():
        text = (
            file.read_text()
            .replace("/etc/qanun", str(places.real("/etc/qanun")))
            .replace("/run/postgresql", str(sockets))
        )
        file.write_text(text.replace("/var/lib/qanun", str(places.data)))
    hand_over(folder)
    data = next(places.clusters.iterdir())
    log = (places.root / "log").open("wb")
    words = [f"{programs}/postgres", "-D", str(data), "-c", f"config_file={folder}/postgresql.conf"]
    server = subprocess.Popen(words, stdout=log, stderr=log, user=account(), cwd="/")
    url = f"postgresql://postgres@/postgres?host={sockets}"
    try:
        for _ in range(600):
            try:
                connection = psycopg.connect(url, autocommit=True)
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        assert connection.execute("show listen_addresses").fetchone() == ("",)
        assert connection.execute("show data_checksums").fetchone() == ("on",)
        listening = subprocess.run(["ss", "-Hltnup"], capture_output=True, text=True).stdout
        assert f"pid={server.pid}," not in listening
        with pytest.raises(psycopg.Error):
            connection.execute("select 'canary-of-a-patient'::integer")
        connection.execute("create table t as select 1")
        connection.execute("select pg_switch_wal()")
        for _ in range(600):
            if any(len(path.name) == 24 for path in places.wal.iterdir()):
                break
            time.sleep(0.1)
        assert [path for path in places.wal.iterdir() if len(path.name) == 24]
        if os.geteuid() == 0:
            for role in ("postgres", "qanun_owner", "qanun_app"):
                stranger = subprocess.run(
                    ["psql", "-h", str(sockets), "-U", role, "-c", "select 1", "postgres"], capture_output=True, text=True,
                    user="nobody",
                )  # fmt: skip
                assert "Peer authentication failed" in stranger.stderr
        connection.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)
    assert "canary" not in (places.root / "log").read_text()


# --- the way in ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def proxy(places, site_table, server):
    """Caddy as rendered, on other ports, before the true application."""
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("caddy is not installed here")
    apply(
        parse_site(site_table),
        places,
        SERVICES,
        Machine(memory_mb=1024, cores=2, postgres_bin="/usr/lib/postgresql/17/bin"),
    )
    https, http = free_port(), free_port()
    file = places.real("/etc/caddy/Caddyfile")
    text = (
        file.read_text()
        .replace("/var/lib/qanun", str(places.data))
        .replace("/etc/qanun", str(places.real("/etc/qanun")))
    )
    text = (
        text.replace("unix//run/caddy/admin.sock", "off")
        .replace(":443 {", f":{https} {{")
        .replace("http:// {", f":{http} {{")
    )
    file.write_text(text.replace("127.0.0.1:8000", server.removeprefix("http://")))
    process = await asyncio.create_subprocess_exec(
        caddy, "run", "--config", str(file), "--adapter", "caddyfile", env={**os.environ, "HOME": str(places.root)},
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", https)) == 0:
                break
        await asyncio.sleep(0.05)
    yield https, http, file, server
    process.terminate()
    await process.wait()


async def test_the_true_application_answers_https_under_the_machine_s_own_authority(
    proxy, places, site_table, postgres
):
    https, http, _, _ = proxy
    at = Where(
        https=("127.0.0.1", https),
        database=postgres.superuser_url,
        media=places.root / "none",
        turn=(("127.0.0.1", 1),),
    )
    found = {probe.name: probe.said for probe in await asyncio.to_thread(probes, parse_site(site_table), places, at)}
    assert found["web"] == "" and found["database"] == ""
    assert "No such file" in found["media"] and found["turn"]

    async def curl(*words):
        process = await asyncio.create_subprocess_exec(
            "curl",
            "-sS",
            "-i",
            "--max-time",
            "10",
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await process.communicate())[0].decode()

    ca = str(places.tls / "qanun-ca.crt")
    by_address = await curl(
        "--cacert", ca, "--connect-to", f"192.168.7.10:443:127.0.0.1:{https}", "https://192.168.7.10/sign-in"
    )
    assert " 200" in by_address.splitlines()[0] and "server:" not in by_address.lower()
    assert "certificate" in await curl(f"https://127.0.0.1:{https}/")  # nobody who has not chosen to trust it does
    assert "308" in (await curl(f"http://127.0.0.1:{http}/portal")).splitlines()[0]
    root = await curl(f"http://127.0.0.1:{http}/qanun-ca.crt")
    assert "BEGIN CERTIFICATE" in root and "application/x-x509-ca-cert" in root
    for secret in ("server.key", "ca/qanun-ca.key", "../secrets/turn-secret", "%2e%2e/secrets/turn-secret"):
        assert (
            "PRIVATE" not in (said := await curl("--path-as-is", f"http://127.0.0.1:{http}/{secret}")) and "308" in said
        )
    other = Places(places.root / "elsewhere")
    shutil.copytree(places.tls, other.tls)
    apply(
        parse_site(site_table),
        Places(places.root / "second"),
        SERVICES,
        Machine(memory_mb=1, cores=1, postgres_bin="/x/17"),
    )
    shutil.copy(Places(places.root / "second").tls / "qanun-ca.crt", other.tls / "qanun-ca.crt")
    strange = await asyncio.to_thread(probes, parse_site(site_table), other, at)
    assert "certificate verify failed" in strange[0].said


async def test_while_the_application_is_away_a_page_says_so_in_both_languages(proxy, places):
    https, _, file, server = proxy
    text = file.read_text().replace(server.removeprefix("http://"), f"127.0.0.1:{free_port()}").replace("4s", "100ms")
    other = free_port()
    file.write_text(
        text.replace(f":{https} {{", f":{other} {{")
        .replace("http://", "")
        .replace(f":{proxy[1]} {{", f":{free_port()} {{")
    )
    process = await asyncio.create_subprocess_exec(
        "caddy", "run", "--config", str(file), "--adapter", "caddyfile", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", other)) == 0:
                    break
            await asyncio.sleep(0.05)
        asked = await asyncio.create_subprocess_exec(
            "curl", "-sSik", f"https://127.0.0.1:{other}/emr", stdout=asyncio.subprocess.PIPE
        )
        said = (await asked.communicate())[0].decode()
    finally:
        process.terminate()
        await process.wait()
    assert " 503" in said.splitlines()[0] and "retry-after: 10" in said.lower()
    assert "What was saved is safe" in said and "ما حُفظ" in said


async def test_a_real_relay_prepared_as_its_unit_does_and_a_media_socket_are_found_well(places, site_table, postgres):
    if shutil.which("turnserver") is None:
        pytest.skip("coturn is not installed here")
    apply(
        parse_site(site_table),
        places,
        SERVICES,
        Machine(memory_mb=1024, cores=1, postgres_bin="/usr/lib/postgresql/17/bin"),
    )
    port, own = free_port(socket.SOCK_DGRAM), loopbacks()
    environment = {
        **os.environ, "QANUN_STATE_DIR": str(places.data), "QANUN_DATABASE_URL": "postgresql://nobody@/none",
        "QANUN_TURN_SECRET_FILE": str(places.secrets / "turn-secret"), "QANUN_TURN_LISTEN": ",".join(own),
        "QANUN_MEDIA_ADVERTISE": "127.0.0.1", "QANUN_TURN_PORT": str(port), "QANUN_TURN_TLS_PORT": str(free_port()),
        "QANUN_TURN_CERTIFICATE": str(places.tls / "server.crt"), "QANUN_TURN_CERTIFICATE_KEY": str(places.tls / "server.key"),
    }  # fmt: skip
    prepared = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "qanun", "telemedicine", "turn-configuration", env=environment
    )
    assert await prepared.wait() == 0
    relay = await asyncio.create_subprocess_exec(
        "turnserver",
        "-c",
        str(places.data / "turn/turnserver.conf"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    media = await asyncio.start_unix_server(lambda _, writer: writer.close(), places.root / "media.sock")
    at = Where(
        https=("127.0.0.1", 1),
        database=postgres.superuser_url,
        media=places.root / "media.sock",
        turn=tuple((address, port) for address in own),
    )
    try:
        for _ in range(600):
            found = {one.name: one.said for one in await asyncio.to_thread(probes, parse_site(site_table), places, at)}
            if not found["turn"]:
                break
            await asyncio.sleep(0.1)
        assert (found["turn"], found["media"], found["database"]) == ("", "", "") and found["web"]
    finally:
        relay.terminate()
        await relay.wait()
        media.close()
    gone = {one.name: one.said for one in await asyncio.to_thread(probes, parse_site(site_table), places, at)}
    assert gone["turn"]


def loopbacks():
    """An address of each family that this machine has."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        probe.bind(("::1", 0))
        return ["127.0.0.1", "::1"]
    return ["127.0.0.1"]


def test_the_relay_is_asked_once_in_each_family(site_table):
    def asked(*addresses):
        site_table["media"] = {"advertise": list(addresses)}
        return where(parse_site(site_table)).turn

    both = (("192.0.2.5", 3478), ("2001:db8::5", 3478))
    assert asked("192.0.2.5", "192.0.2.6", "2001:db8::5", "2001:db8::6") == both == asked("2001:db8::5", "192.0.2.5")
    assert asked("2001:db8::5") == both[1:] and asked("192.0.2.5") == both[:1]
    site_table["turn"] = {"enabled": False}
    assert asked("192.0.2.5") == ()


async def test_a_relay_that_is_silent_in_one_family_is_named_by_its_address(places, site_table, postgres):
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with silent:
        silent.bind(("127.0.0.1", 0))
        at = Where(https=("127.0.0.1", 1), database=postgres.superuser_url, turn=(silent.getsockname(),))
        found = await asyncio.to_thread(probes, parse_site(site_table), places, at)
    assert {one.name: one.said for one in found}["turn"] == "no answer in time at 127.0.0.1"


# --- the gate --------------------------------------------------------------------------------------------------------

WELL = [Probe(name="web"), Probe(name="database")]
ILL = [Probe(name="web", said="the page answers 502"), Probe(name="database")]


def slot(places):
    places.real("/usr/lib/qanun").mkdir(parents=True)
    places.real("/usr/lib/qanun/slot").write_text("")


def test_a_release_that_never_worked_here_is_left_and_says_why(places):
    slot(places)
    places.reports.mkdir(exist_ok=True)
    (places.reports / "boot.json").write_text('{"proven": ["0.0.9"], "boots": []}')
    assert gate(places, ILL) == "leave"
    assert "the page answers 502" in (places.reports / "boot.json").read_text()


def test_a_release_that_failed_at_the_start_before_as_well_is_given_up_and_gets_all_its_tries_when_staged_again(places):
    slot(places)
    places.reports.mkdir(exist_ok=True)
    (places.reports / "boot.json").write_text('{"proven": ["0.0.9"], "boots": []}')
    assert [gate(places, ILL), gate(places, ILL)] == ["leave", "give up"]
    known = json.loads((places.reports / "boot.json").read_text())
    known["boots"].append({"at": "2026-11-28T05:00:00+00:00", "version": "0.0.9", "well": True, "faults": {}})
    (places.reports / "boot.json").write_text(json.dumps(known))
    assert gate(places, ILL) == "leave"


def systemd(**units):
    """What `systemctl show` prints of our services; those that are not named are well."""
    found = []
    for name in ("prepare", "migrate", "postgresql", "web"):
        state, result, status, restarts = units.get(name, ("active", "success", 0, 0))
        found.append(
            f"Id=qanun-{name}.service\nActiveState={state}\nResult={result}\nExecMainStatus={status}\nNRestarts={restarts}"
        )
    return lambda words: "\n\n".join(found) + "\n"


def test_a_start_is_only_hopeless_when_no_waiting_can_mend_it():
    assert definite(systemd()) == {}
    assert definite(systemd(web=("activating", "exit-code", 1, 2), migrate=("activating", "success", 0, 0))) == {}
    assert definite(lambda words: "") == {}
    assert definite(systemd(web=("activating", "exit-code", 1, 6))) == {
        "web": "qanun-web.service ended 6 times (exit-code 1)"
    }
    assert definite(systemd(web=("activating", "success", 0, 9))) == {"web": "qanun-web.service ended 9 times"}
    assert definite(systemd(migrate=("failed", "timeout", 15, 0))) == {
        "web": "qanun-migrate.service failed (timeout 15)"
    }
    assert definite(systemd(prepare=("failed", "exit-code", 1, 0))) == {
        "database": "qanun-prepare.service failed (exit-code 1)"
    }


def test_waiting_ends_when_it_is_hopeless_and_the_answer_has_the_reason(places, monkeypatch, site_table):
    from qanun_appliance import health

    asked = []
    monkeypatch.setattr(health, "probes", lambda *_: asked.append(1) or ILL)
    hopeless = iter(
        [{}, {"database": "a service that answers all the same"}, {"web": "qanun-web.service ended 6 times"}]
    )
    found = health.wait_until_well(parse_site(site_table), places, Where(), 3600, lambda: next(hopeless))
    assert [probe.said for probe in found] == ["the page answers 502; qanun-web.service ended 6 times", ""]
    assert len(asked) == 3


def test_a_release_that_has_worked_here_is_not_started_again_and_again(places):
    slot(places)
    assert gate(places, WELL) == "well"
    assert gate(places, ILL) == "stay"


def test_with_nothing_to_go_back_to_and_for_a_missing_cable_nothing_is_started_again(places):
    slot(places)
    assert gate(places, ILL) == "stay"
    cable = [*WELL, Probe(name="media"), Probe(name="turn", said="this machine has no address")]
    assert gate(places, cable) == "well"


def test_a_server_that_is_not_the_image_never_restarts_itself(places):
    assert gate(places, ILL) == "stay"


# --- the watchdog ----------------------------------------------------------------------------------------------------


async def test_the_web_process_tells_that_it_is_ready_and_that_it_lives(assembly, tmp_path, monkeypatch):
    from qanun_appliance.watchdog import LIFESPAN

    ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ear.bind(str(tmp_path / "notify"))
    ear.setblocking(False)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "150000")
    heard = []
    async with LIFESPAN.open(assembly.runtime):
        for _ in range(8):
            await asyncio.sleep(0.05)
            while True:
                try:
                    heard.append(ear.recv(100).decode())
                except BlockingIOError:
                    break
    assert heard[0] == "READY=1" and heard.count("WATCHDOG=1") >= 3
    assert ear.recv(100) == b"STOPPING=1"
