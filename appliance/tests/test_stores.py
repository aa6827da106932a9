"""Stores in the network: a clinic is saved, proven and restored over SSH with a key of the machine's own; a store that is another one,
or takes no key, is said in words; what other stores want to know reaches the program that saves and the one that restores.

A true sshd on a port of its own; restic speaks to it as to any clinic's store.
"""

import contextlib
import dataclasses
import getpass
import json
import os
import shutil
import socket
import subprocess
import time

import psycopg
import pytest

from appliance.tests.boxes import blank, quiet, running, url
from qanun.api import ConfigurationError, Unavailable
from qanun_appliance.backup import back_up, drill, restore, store_at
from qanun_appliance.backup.restic import Damaged, explained
from qanun_appliance.backup.restore import Wish
from qanun_appliance.backup.store import public_key
from qanun_appliance.backup.take import where
from qanun_appliance.reports import note
from qanun_appliance.secrets import ensure_store_key

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")


@dataclasses.dataclass
class Store:
    """Somebody else's machine. `target` names an empty folder there as restic does."""

    folder: object
    port: int
    target: str

    def takes(self, line):
        (self.folder / "authorized_keys").write_text(line + "\n")

    def becomes_another(self):
        """Somebody with another key answers at its address."""
        made(self.folder / "another")
        shutil.copy(self.folder / "another", self.folder / "host")


@contextlib.contextmanager
def reports_kept(box):
    """Other tests read what the box said of its own disk."""
    before = {path: path.read_bytes() for path in box.places.reports.iterdir()}
    try:
        yield
    finally:
        for path, content in before.items():
            path.write_bytes(content)


def made(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def store(shared_folder):
    if SSHD is None or shutil.which("restic") is None:
        pytest.skip("sshd or restic is not installed here")
    folder = shared_folder / "store"
    folder.mkdir(mode=0o755)
    made(folder / "host")
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where it shuts itself in
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "sshd_config"
    settings.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
        "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        f"PidFile none\nUsePAM no\nSubsystem sftp internal-sftp\nForceCommand internal-sftp\n"
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", settings], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until and server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        assert server.poll() is None, (folder / "log").read_text()
        yield Store(folder, port, f"sftp://{getpass.getuser()}@127.0.0.1:{port}/{folder}/saved")
    finally:
        server.terminate()
        server.wait(20)


# Every push does it with a whole server (`ansible/tests/test_server.py`).
@pytest.mark.long
def test_a_clinic_is_saved_proven_and_restored_over_ssh_with_the_machines_own_key(box, store, shared_folder):
    site = dataclasses.replace(box.site, backup=dataclasses.replace(box.site.backup, target=store.target))
    with reports_kept(box):
        ensure_store_key(box.places)
        with pytest.raises(Unavailable, match="does not take this machine's SSH key"):
            back_up(site, box.places, box.live, say=quiet)
        store.takes(public_key(box.places))
        taken = back_up(site, box.places, box.live, say=quiet)
        proven = drill(site, box.places, say=quiet)
        assert proven["well"] and (proven["set"], proven["rows"]) == (taken["set"], taken["rows"])
        assert not list((store.folder / "saved").rglob("*master*")), "what lies there is nobody's to read"

        new = blank(shared_folder, "new")
        key = (box.places.secrets / "backup-key").read_text()
        ensure_store_key(new)
        with pytest.raises(Unavailable, match="does not take this machine's SSH key"):
            restore(store_at(new, store.target, key), new, Wish(latest=False), say=quiet)
        store.takes(public_key(new))
        done = restore(store_at(new, store.target, key), new, Wish(latest=False), say=quiet)
        assert done["rows"] == taken["rows"]
        assert public_key(new) == public_key(box.places), "it goes on backing up as the machine that it is now"
        with running(new, box.live.programs) as elsewhere, psycopg.connect(url(elsewhere)) as connection:
            assert connection.execute("select count(*) from core_patient").fetchone()[0] >= 12

        store.becomes_another()
        with pytest.raises(Unavailable, match="another SSH key than before"):
            back_up(site, box.places, box.live, say=quiet)


def test_what_a_store_wants_to_know_reaches_restic_where_it_saves_and_where_it_restores(box, shared_folder):
    new = blank(shared_folder, "new")
    new.secrets.mkdir()
    (new.secrets / "backup.env").write_text(
        "# of the store\nAWS_ACCESS_KEY_ID=clinic\nAWS_SECRET_ACCESS_KEY=a=b\n\nRESTIC_REST_USERNAME = al-razi\n"
    )
    known = dict(store_at(new, "s3:https://store.example/backup", "KEY").extra)
    assert known == {
        "AWS_ACCESS_KEY_ID": "clinic",
        "AWS_SECRET_ACCESS_KEY": "a=b",
        "RESTIC_REST_USERNAME": "al-razi",
    }
    assert store_at(new, "rest:https://store.example/", "KEY").options == ()
    with pytest.raises(ConfigurationError, match="sftp:user@host"):
        store_at(new, "sftp:nothing", "KEY")


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("sftp:clinic@store.lan:/srv/backup", "-l clinic store.lan -s sftp"),
        ("sftp://clinic@store.lan:2222//srv/backup", "-p 2222 -l clinic store.lan -s sftp"),
        ("sftp:store:backup", "store -s sftp"),
        ("sftp://[fd00::7]//srv", "fd00::7 -s sftp"),
    ],
)
def test_every_spelling_of_a_store_behind_ssh_is_reached_with_the_machines_key(shared_folder, target, wanted):
    places = blank(shared_folder, "any")
    [_, said] = store_at(places, target, "KEY").options
    assert said.startswith(f"sftp.command=ssh -i {places.secrets}/backup-ssh -o BatchMode=yes") and said.endswith(
        wanted
    )


def test_a_folder_in_which_backups_were_and_are_gone_is_not_begun_anew_by_itself(box, shared_folder):
    """The mount point of a disk that is out is an empty folder on the machine's own disk."""
    disk = shared_folder / "mnt"
    disk.mkdir()
    site = dataclasses.replace(box.site, backup=dataclasses.replace(box.site.backup, target=str(disk)))
    with reports_kept(box):
        assert json.loads((box.places.reports / "backup.json").read_text())["where"] == where(box.site.backup.target)
        note(box.places, "backup", {"well": True, "where": where(str(disk))})
        with pytest.raises(Unavailable, match="is the disk plugged in"):
            back_up(site, box.places, box.live, say=quiet)
        assert list(disk.iterdir()) == []
        note(box.places, "backup", {"well": True, "where": where(str(disk))})
        assert back_up(site, box.places, box.live, say=quiet, begin=True)["well"]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("root@store: Permission denied (publickey).\nFatal: unable to start the sftp session, error: EOF", "SSH key"),
        ("banner line 0: Not allowed at this time\nFatal: unable to start the sftp session, error: EOF", "wait"),
        ("Fatal: unable to start the sftp session, error: server unexpectedly closed: unexpected EOF", "wait"),
    ],
)
def test_a_store_that_does_not_let_us_in_is_not_called_a_damaged_backup(said, why):
    error = explained(said)
    assert not isinstance(error, Damaged)
    assert why in str(error)
