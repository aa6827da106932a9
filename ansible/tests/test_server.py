"""A stock Debian 13 server becomes a clinic's machine over SSH, keeps its data in backups, and gets it back.

The tests of this file go in order: each finds the server as the one before left it.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.request
from http.cookiejar import CookieJar

import pytest
import yaml
from cryptography import x509
from playing import BACKUPS, PASSWORD, play
from surroundings import AS_PRODUCT, AUTHORITY, HEARS, SAYS, beside, shown_by_the_relay, until

from qanun_appliance.places import ACCOUNTS

ADMINISTRATOR = "admin@al-razi.example"
SAID: list[str] = []


def run(name, inventory, *words, **variables):
    played = play(name, inventory, *words, **variables)
    SAID.append(played.said)
    return played


def sign_in(server, password):
    """Like a browser that trusts the clinic's own root; returns (status, page) after the form was sent."""
    with urllib.request.urlopen(f"http://{server.address}/qanun-ca.crt", timeout=20) as answer:
        root = answer.read().decode()
    trust = ssl.create_default_context(cadata=root)
    browser = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=trust), urllib.request.HTTPCookieProcessor(CookieJar())
    )
    there = f"https://{server.address}"
    form = f"email={ADMINISTRATOR.replace('@', '%40')}&password={password}".encode()
    headers = {"Origin": there, "Content-Type": "application/x-www-form-urlencoded"}
    try:
        with browser.open(urllib.request.Request(f"{there}/sign-in", form, headers), timeout=30) as answer:
            return answer.status, answer.url, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.url, refused.read().decode()


def test_asking_what_would_change_changes_nothing(server, inventory, release):
    played = run("install.yml", inventory, "--check", "--diff", qanun_release=str(release))
    assert played.code == 0, played.said
    assert played.recap["changed"] > 0
    assert (
        server.ssh(
            "ls -d /opt/qanun* /var/lib/qanun /usr/local/bin/qanun 2>/dev/null; getent passwd qanun", check=False
        )
        == ""
    )
    assert "postgresql-17" not in server.ssh("dpkg-query -W -f '${Package}\\n'")


def test_a_stock_debian_becomes_a_clinics_machine_and_a_second_run_changes_nothing(server, inventory, release):
    for name in ("install.yml", "configure.yml"):
        first = run(name, inventory, qanun_release=str(release))
        assert first.code == 0, first.said
    for name in ("install.yml", "configure.yml"):
        second = run(name, inventory, qanun_release=str(release))
        assert (second.code, second.recap["changed"]) == (0, 0), second.said
    asked = run("configure.yml", inventory, "--check")
    assert (asked.code, asked.recap["changed"]) == (0, 0), asked.said


def test_the_application_answers_over_https_and_the_administrator_signs_in(server):
    status, where, page = sign_in(server, PASSWORD)
    assert status == 200 and not where.endswith("/sign-in"), where
    assert 'lang="ar"' in page and "عيادة الرازي" in page
    status, where, _ = sign_in(server, "not-the-password")
    assert status == 422 and where.endswith("/sign-in")


def test_accounts_have_their_fixed_numbers_and_nothing_else_listens(server):
    for name, number, _ in ACCOUNTS:
        assert server.ssh(f"id -u {name}; id -g {name}").split() == [str(number)] * 2, name
    found = set()
    for line in server.ssh("ss -Hltun").splitlines():
        protocol, _, _, _, local, *_ = line.split()
        address, port = local.rsplit(":", 1)
        if not address.startswith(("127.", "[::1]")):
            found.add(f"{protocol}/{port}")
    media = {f"udp/{8100 + number}" for number in range(8)}  # a worker for each processor but one
    assert found <= {"tcp/22", "tcp/80", "tcp/443", "tcp/3478", "udp/3478", "tcp/5349", *media}, found
    assert {"tcp/443", "udp/3478", "udp/8100"} <= found
    assert server.ssh("stat -c '%a %U' /var/lib/qanun/secrets /var/lib/qanun/secrets/administrator").split() == [
        "700",
        "root",
        "600",
        "root",
    ]
    assert server.ssh("find /opt/qanun.d ! -user root -o -perm /022 ! -type l", check=False).strip() == ""


def test_a_site_that_is_wrong_or_would_lock_us_out_is_refused_and_the_old_one_stays(server, inventory):
    before = server.ssh("sha256sum /var/lib/qanun/site.toml /etc/nftables.conf")
    groups = yaml.safe_load(inventory.read_text())
    site = groups["clinics"]["vars"]["qanun_site"]
    locked = {**site, "ssh": {"mode": "off"}}
    wrong = {**site, "clinic": {**site["clinic"], "timezone": "Africa/Nowhere"}}
    for changed, said in ((locked, "lock Ansible out"), (wrong, "clinic.timezone")):
        refused = run("configure.yml", inventory, qanun_site=changed)
        assert refused.code != 0 and said in refused.said, refused.said
        assert server.ssh("sha256sum /var/lib/qanun/site.toml /etc/nftables.conf") == before


def test_a_backup_is_taken_and_proven_and_then_nothing_wants_somebody_today(server, inventory):
    taken = run("backup.yml", inventory)
    assert taken.code == 0, taken.said
    assert "0 differences" in taken.said
    healthy = run("doctor.yml", inventory)
    assert healthy.code == 0, healthy.said
    assert "crit:" not in healthy.said and "backup.never" not in healthy.said


def changed_site(inventory, **parts):
    """The inventory's site with some tables in other words."""
    site = yaml.safe_load(inventory.read_text())["clinics"]["vars"]["qanun_site"]
    return {**site, **parts}


def test_what_somebody_changed_by_hand_is_put_right_by_the_night(server):
    """By the unit as it is shut in, which must still be able to write where `apply` does."""
    server.ssh("echo '# mine' >> /etc/caddy/Caddyfile; rm /etc/qanun/listeners; systemctl start qanun-renew")
    assert "# mine" not in server.ssh("cat /etc/caddy/Caddyfile") and server.ssh("cat /etc/qanun/listeners")
    assert server.ssh("qanun appliance apply --check").splitlines()[-1] == "0 would change"


def test_a_renewed_certificate_reaches_the_relay_and_ends_no_call(server):
    asked = "systemctl show --property=MainPID qanun-turn"
    before, process = until(lambda: shown_by_the_relay(server)), server.ssh(asked)
    server.ssh("rm /var/lib/qanun/secrets/ca/server.crt; systemctl start qanun-renew")  # its time has come
    until(lambda: shown_by_the_relay(server) not in {None, before})
    assert server.ssh(asked) == process, "it was told, not started anew"


@pytest.fixture
def surroundings(server):
    """What stands in a clinic's network beside the machine: a mail server and a recogniser of speech."""
    with beside(server.ssh("echo ${SSH_CLIENT%% *}").strip()) as there:
        yield there


def test_a_letter_leaves_by_the_mail_server_and_what_is_said_is_written_along(server, inventory, surroundings):
    here, mail, speech, post = surroundings
    server.ssh("umask 077; printf geheim > /var/lib/qanun/secrets/mail")
    site = changed_site(
        inventory,
        mail={"host": here, "port": mail, "security": "none", "from": "clinic@al-razi.example", "user": "clinic",
              "password_file": "/var/lib/qanun/secrets/mail"},
        captions={"recogniser": f"http://{here}:{speech}/v1"},
    )  # fmt: skip
    configured = run("configure.yml", inventory, qanun_site=site)
    assert configured.code == 0, configured.said
    again = run("configure.yml", inventory, qanun_site=site)
    assert (again.code, again.recap["changed"]) == (0, 0), again.said
    assert server.ssh(AS_PRODUCT, text=SAYS).strip() == "core.mail"
    [(who, recipients, letter)] = until(lambda: post.letters)
    assert (who, recipients, letter["subject"]) == (b"clinic", ["layla@example.org"], "رسالة من العيادة")
    assert "Something waits." in letter.get_content()
    until(lambda: server.ssh("test -S /run/qanun/captions.sock.in && echo there", check=False))
    assert "good morning" in server.ssh(AS_PRODUCT, text=HEARS)
    assert "good morning" not in server.ssh("journalctl --no-pager --output=cat --unit=qanun-captions")
    back = run("configure.yml", inventory)
    assert back.code == 0, back.said
    assert server.ssh("systemctl is-active qanun-captions", check=False).strip() != "active"


def test_a_store_behind_ssh_takes_the_nights_backup_and_proves_it(server, inventory):
    """By the units as they are shut in, with the machine's own key. The store is the same server, to which Debian gives no sftp by itself."""
    server.ssh("sed -i 's,^Subsystem.*,Subsystem sftp internal-sftp,' /etc/ssh/sshd_config; systemctl reload ssh")
    store = changed_site(inventory, backup={"target": "sftp:root@127.0.0.1:/srv/store", "at": "02:00"})
    configured = run("configure.yml", inventory, qanun_site=store)
    assert configured.code == 0, configured.said
    assert server.ssh("systemctl start qanun-backup && echo well", check=False) == ""
    why = json.loads(server.ssh("cat /var/lib/qanun/reports/backup.json"))["why"]
    assert "does not take this machine's SSH key" in why
    server.ssh(
        "qanun appliance backup-store 2>/dev/null | grep -o 'ssh-ed25519 .*' >> /root/.ssh/authorized_keys", check=False
    )
    # Whoever came with a wrong key waits a while before the store listens again.
    until(lambda: "nothing is there yet" in server.ssh("qanun appliance backup-store", check=False))
    for name in ("backup", "wal", "drill"):
        server.ssh(f"systemctl start qanun-{name}")
    reports = [json.loads(server.ssh(f"cat /var/lib/qanun/reports/{name}.json")) for name in ("backup", "drill")]
    assert [one["well"] for one in reports] == [True, True] and reports[0]["rows"] == reports[1]["rows"]
    back = run("configure.yml", inventory)
    assert back.code == 0, back.said


@pytest.mark.long
def test_an_authoritys_certificate_reaches_the_relay_whenever_the_proxy_renews_it(server, inventory):
    """The authority is another Caddy on the same server: what a public one says, it says."""
    server.ssh("echo '127.0.0.1 ca.example.test' >> /etc/hosts; echo '127.0.0.1 clinic.example.test' >> /etc/hosts")
    server.ssh("cat > /root/Caddyfile", text=AUTHORITY)
    server.ssh("systemd-run --unit=authority caddy run --config /root/Caddyfile --adapter caddyfile")
    until(lambda: server.ssh("ls /root/ca/pki/authorities/local/root.crt", check=False))
    server.ssh("cp /root/ca/pki/authorities/local/root.crt /usr/local/share/ca-certificates/; update-ca-certificates")
    site = changed_site(
        inventory, hosts={"names": ["clinic.example.test"]},
        certificate={"kind": "acme", "directory": "https://ca.example.test:9443/acme/local/directory"},
    )  # fmt: skip
    server.ssh("rm -f /var/lib/qanun/turn/tls.*; systemctl restart qanun-turn")
    configured = run("configure.yml", inventory, qanun_site=site)
    assert configured.code == 0, configured.said
    first = until(lambda: shown_by_the_relay(server))
    kept = "/var/lib/caddy/.local/share/caddy/certificates/ca.example.test-9443-acme-local-directory"
    issued = x509.load_pem_x509_certificate(server.ssh(f"cat {kept}/clinic.example.test/*.crt").encode())
    assert first == issued.serial_number
    process = server.ssh("systemctl show --property=MainPID qanun-turn")
    server.ssh(f"rm -r {kept}; systemctl restart caddy")  # it asks for another one
    until(lambda: shown_by_the_relay(server) not in {None, first})
    assert server.ssh("systemctl show --property=MainPID qanun-turn") == process
    back = run("configure.yml", inventory)
    assert back.code == 0, back.said
    server.ssh("systemctl stop authority")


FACTS = """cd /var/lib/qanun && for table in $(runuser -u postgres -- psql -XtA -d qanun -c "select relname from pg_class
c join pg_namespace n on n.oid = c.relnamespace where nspname = 'public' and relkind in ('r', 'p') order by 1"); do
echo $table $(runuser -u postgres -- psql -XtA -d qanun -c "select count(*), md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from $table t"); done"""


def test_a_clinic_comes_back_from_its_backup_and_its_key_alone(server, inventory):
    key = server.ssh("cat /var/lib/qanun/secrets/backup-key").strip()
    server.ssh("systemctl stop qanun-web qanun-jobs qanun-wal.timer")
    server.ssh("qanun appliance backup")
    before = server.ssh(FACTS)
    assert "core_tenant 1|" in before
    # What a new disk is: nothing of the clinic on it.
    server.ssh(
        "systemctl stop qanun.target 'qanun-*' && rm -rf /var/lib/qanun && qanun appliance apply 2>&1 | grep -q site.toml"
    )
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    refused = run("restore.yml", inventory, qanun_recovery_key=wrong)
    assert refused.code != 0 and "key" in refused.said, refused.said
    assert server.ssh("ls /var/lib/qanun/postgresql 2>/dev/null", check=False) == ""
    restored = run("restore.yml", inventory, qanun_recovery_key=key, qanun_restore_exact=True)
    assert restored.code == 0, restored.said
    assert "are back" in restored.said
    server.ssh("systemctl stop qanun-jobs")
    quiet = ("core_session", "core_outbox", "procrastinate", "core_job")
    after = server.ssh(FACTS)
    kept = [line for line in before.splitlines() if not line.startswith(quiet)]
    assert kept == [line for line in after.splitlines() if not line.startswith(quiet)]
    assert server.ssh("ls /run/qanun-recovery-key 2>/dev/null", check=False) == ""
    assert server.ssh("cat /var/lib/qanun/secrets/backup-key").strip() == key
    status, where, _ = sign_in(server, PASSWORD)
    assert status == 200 and not where.endswith("/sign-in"), where
    server.ssh("systemctl start qanun-jobs")
    assert key not in "".join(SAID) and wrong not in "".join(SAID)


def test_no_secret_was_said_or_logged(server):
    said = "".join(SAID) + server.ssh("journalctl --no-pager --output=cat")
    secrets = server.ssh(
        "cd /var/lib/qanun/secrets; for name in backup-key turn-secret administrator; do cat $name; echo; done"
    ).split()
    assert PASSWORD in secrets and len(secrets) == 3
    for secret in secrets:
        assert secret not in said


# --- releases --------------------------------------------------------------------------------------------------------


def present(server) -> str:
    return server.ssh("basename $(readlink /opt/qanun)").strip()


@pytest.mark.long
def test_an_upgrade_keeps_the_data_and_a_rollback_too(server, inventory, make_release, tmp_path_factory):
    newer = make_release(tmp_path_factory.mktemp("newer") / "release", "0.1.90")
    old = present(server)
    asked = run("upgrade.yml", inventory, "--check", qanun_release=str(newer))
    assert asked.code == 0 and asked.recap["changed"] > 0, asked.said
    assert present(server) == old and "0.1.90" not in server.ssh("ls /opt/qanun.d")
    upgraded = run("upgrade.yml", inventory, qanun_release=str(newer))
    assert upgraded.code == 0, upgraded.said
    assert "0 differences" in upgraded.said  # the backup before it was proven
    assert present(server).startswith("0.1.90-")
    assert sign_in(server, PASSWORD)[0] == 200
    again = run("upgrade.yml", inventory, qanun_release=str(newer))
    assert (again.code, again.recap["changed"]) == (0, 0), again.said
    asked = run("rollback.yml", inventory, "--check")
    assert asked.code == 0, asked.said
    assert present(server).startswith("0.1.90-")
    back = run("rollback.yml", inventory)
    assert back.code == 0, back.said
    assert present(server) == old
    assert sign_in(server, PASSWORD)[0] == 200
    log = server.ssh("cat /var/log/qanun-releases.log").splitlines()
    assert len(log) == 2 and "runs, after" in log[0] and "somebody asked for it" in log[1]


@pytest.mark.long
def test_a_release_that_does_not_work_is_left_with_its_reason_and_no_other_clinic_is_touched(
    server, inventory, make_release, tmp_path_factory
):
    def spoil(sources):
        path = sources / "core/qanun/cli/main.py"
        path.write_text(path.read_text().replace(
            "def main(arguments: Sequence[str] | None = None) -> int:\n",
            'def main(arguments: Sequence[str] | None = None) -> int:\n'
            '    if "serve" in sys.argv:\n        raise SystemExit("no page can be served by this release")\n', 1,
        ).replace("import argparse\n", "import argparse\nimport sys\n", 1))  # fmt: skip

    broken = make_release(tmp_path_factory.mktemp("broken") / "release", "0.1.91", spoil)
    old = present(server)
    left = run("fleet.yml", inventory, qanun_release=str(broken), qanun_without_backup="nothing is at stake in a test")
    assert left.code != 0
    assert re.search(r"0\.1\.91-\w+ does not work here", left.said), left.said
    assert "no page can be served by this release" in left.said
    assert "ibn-sina" not in left.said  # the next ring: nobody even spoke to it
    assert present(server) == old
    assert sign_in(server, PASSWORD)[0] == 200
    last = server.ssh("tail -n 1 /var/log/qanun-releases.log")
    assert f"was left for {old}" in last and "no page can be served" in last
    assert BACKUPS in server.ssh("cat /var/lib/qanun/site.toml")


@pytest.mark.long
def test_a_file_that_is_not_the_release_is_not_installed(server, inventory, make_release, tmp_path_factory):
    folder = make_release(tmp_path_factory.mktemp("damaged") / "release", "0.1.92")
    tar = next(folder.glob("*.tar"))
    content = bytearray(tar.read_bytes())
    content[len(content) // 2] ^= 1
    tar.write_bytes(content)
    old = present(server)
    refused = run("upgrade.yml", inventory, qanun_release=str(folder), qanun_without_backup="a test")
    assert refused.code != 0 and "not the one that release.json names" in refused.said, refused.said
    assert present(server) == old
    assert "0.1.92" not in server.ssh("ls /opt/qanun.d")
