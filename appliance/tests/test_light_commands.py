"""What a start runs again and again loads no more than it needs: on a slow machine each of these is seconds of somebody's waiting."""

import subprocess
import sys

import pytest

HEAVY = (
    "alembic",
    "asyncio",
    "babel.messages.pofile",
    "cryptography",
    "cryptography.x509",
    "litestar",
    "psycopg",
    "qanun.app.build",
    "qanun.web",
    "segno",
    "sqlalchemy",
)
LOADED = (
    "import contextlib, sys; from qanun.cli import main;"
    " words = sys.argv[1:]\nwith contextlib.suppress(BaseException): main(words)\n"
    f"print(*(name for name in {HEAVY} if name in sys.modules))"
)


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        ("disk-watch", set()),
        ("prepare", set()),
        # It looks whether the certificate still holds.
        ("addresses --write /run/addresses", {"cryptography", "cryptography.x509"}),
        ("health", {"asyncio", "cryptography", "cryptography.x509", "psycopg"}),
        ("update status", set()),
        ("update tidy", set()),
        ("restore --finish", {"asyncio", "cryptography", "psycopg"}),
    ],
)
def test_a_command_of_a_start_loads_only_what_it_needs(command, needs, tmp_path, site_text):
    folder = tmp_path / "var/lib/qanun"
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(site_text)
    words = ["appliance", *command.split(), "--root", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words], capture_output=True, text=True, timeout=120, check=False
    )
    (folder / "reserve").unlink(missing_ok=True)  # up to two gigabytes
    assert done.returncode == 0, done.stderr
    found = set(done.stdout.splitlines()[-1].split())
    assert found <= needs, (found, done.stdout, done.stderr)
