"""Where everything is on the machine, with one root for the real one and for trees that are only rendered.

Paths inside rendered files are always those of the real machine (`str(places.site)` of the root `/`); `places.real(path)`
is where the file lies now.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

DATA = Path("/var/lib/qanun")
#: In the folder of a restore: all of it was proven, and this is what is to be done (`backup.exchange`).
PROVEN = "proven.json"
#: Where a restore builds: what bears such a name and nothing else may be taken away after a power cut.
BUILDS = f"restore-{'[0-9]' * 8}T{'[0-9]' * 6}Z"
#: Fixed ids: the data outlives the packages that would number accounts in the order of their installation.
ACCOUNTS = (
    ("qanun", 800, "Qanun web server, background work, media"),
    ("qanun-media", 801, "Kept for Qanun media workers"),
    ("postgres", 802, "PostgreSQL"),
    ("turnserver", 803, "TURN relay"),
    ("caddy", 804, "HTTPS proxy"),
    ("_chrony", 805, "Time"),
)


@dataclass(frozen=True, slots=True)
class Places:
    """`root` is `/` on the machine itself; `code` is the folder with `qanun` and `python`."""

    root: Path = Path("/")
    code: Path = Path("/opt/qanun/bin")

    def real(self, path: Path | str) -> Path:
        """Where an absolute path of the machine lies below this root."""
        return self.root / str(path).lstrip("/")

    @property
    def is_machine(self) -> bool:
        return self.root == Path("/")

    @property
    def data(self) -> Path:
        return self.real(DATA)

    @property
    def site(self) -> Path:
        return self.data / "site.toml"

    @property
    def secrets(self) -> Path:
        """Readable by root alone; services get single files of it as credentials."""
        return self.data / "secrets"

    @property
    def keys(self) -> Path:
        """The master key's folder, the web server's account alone."""
        return self.data / "keys"

    @property
    def reports(self) -> Path:
        """What root's programs found out and the administrator's pages show: no secret, no personal data."""
        return self.data / "reports"

    @property
    def wishes(self) -> Path:
        """Where the web server asks for something that root does; a path unit watches it."""
        return self.real("/run/qanun-wishes")

    @property
    def marker(self) -> Path:
        """Says that a database cluster was once made here: a second one must never be made beside it."""
        return self.data / "state.json"

    @property
    def clusters(self) -> Path:
        return self.data / "postgresql"

    @property
    def wal(self) -> Path:
        """Finished pieces of the write-ahead log on their way into the backup."""
        return self.data / "wal"

    @property
    def tls(self) -> Path:
        return self.data / "tls"


def running_release(places: Places) -> str:
    """The release that runs: the image's own name for its slot; elsewhere that of the distribution."""
    try:
        return places.real("/usr/lib/qanun/slot").read_text(encoding="ascii").strip() or version("qanun")
    except OSError:
        return version("qanun")


def qanun_command(places: Places) -> str:
    return str(places.code / "qanun")
