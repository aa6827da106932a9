"""The machine's own package sources, asked for Debian 13: lists, and what installing the wanted packages would bring.

apt does the work, with lists and a status of its own (an empty machine), so that what is installed here has no say. No
mirror is named anywhere: a machine that reaches Debian 12 or 13 through its sources reaches 13 through the same ones.
`QANUN_APT_SOURCES` names a sources file for machines of which that is not true.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

from bootstrap import Missing, Steps, run

from qanun_images.places import ARCHITECTURE, HOME, RELEASE

#: A list of packages in apt's own words: where its repository is, and which suite it is of.
_LISTED = re.compile(r"^'(\S+?)/dists/([^/\s]+)/main/binary-\w+/Packages", re.MULTILINE)
_INST = re.compile(r"^Inst (\S+) \((\S+) .*\[(\w+)\]\)", re.MULTILINE)
_OWN = HOME / f"apt-{RELEASE}"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True, slots=True)
class Deb:
    """One package file. `suite` and `path` say where a mirror keeps it; the sha256 (hex) says what it is."""

    name: str
    version: str
    architecture: str
    sha256: str
    suite: str
    path: str


def base_addresses() -> dict[str, str]:
    """Suite of Debian 13 → address of the repository that has it, from the machine's sources."""
    given = os.environ.get("QANUN_APT_SOURCES")
    options = ["-o", f"Dir::Etc::SourceList={given}", "-o", "Dir::Etc::SourceParts=/dev/null"] if given else []
    # apt speaks only of the suites whose lists it has, unless it is to fetch all: a machine that never asked for its security
    # updates would seem to have no source of them.
    with tempfile.TemporaryDirectory() as nothing:
        (Path(nothing) / "partial").mkdir()
        asked = ["apt-get", *options, "-o", f"Dir::State::lists={nothing}", "update", "--print-uris"]
        try:
            listed = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Missing(f"apt-get cannot say what this machine's package sources are: {error}") from error
    here = _codename()
    found: dict[str, str] = {}
    for address, suite in sorted(set(_LISTED.findall(listed))):
        if suite.removesuffix("-updates").removesuffix("-security") in {here, RELEASE, "stable"}:
            found.setdefault(RELEASE + suite[len(suite.split("-", maxsplit=1)[0]) :], address)
    if RELEASE not in found:
        raise Missing(f"none of this machine's package sources looks like Debian's ({here}); name a sources file in "
                      "QANUN_APT_SOURCES")  # fmt: skip
    return found


def _codename() -> str:
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    found = re.search(r"^VERSION_CODENAME=(\w+)$", text, re.MULTILINE)
    return found.group(1) if found else RELEASE


def apt(*words: str) -> list[str]:
    """apt-get over Debian 13's lists and an empty machine. The machine's own settings (proxy, time-outs) hold."""
    for place in ("state/lists/partial", "cache/archives/partial"):
        (_OWN / place).mkdir(parents=True, exist_ok=True)
    (_OWN / "status").write_text("")
    options = {
        "Dir::State": _OWN / "state", "Dir::State::status": _OWN / "status", "Dir::Cache": _OWN / "cache",
        "Dir::Etc::SourceList": _OWN / "sources.list", "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null", "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Architecture": ARCHITECTURE, "APT::Architectures": ARCHITECTURE, "APT::Install-Recommends": "false",
        "Acquire::Languages": "none", "Acquire::GzipIndexes": "false", "Acquire::Retries": "2", "Debug::NoLocking": "1",
    }  # fmt: skip
    if os.geteuid() == 0:
        options["APT::Sandbox::User"] = "root"
    return ["apt-get", "-q", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *words]


def update(steps: Steps) -> None:
    """Fetch Debian 13's lists; raises Missing when the mirror does not answer."""
    _OWN.mkdir(parents=True, exist_ok=True)
    signed = f" [signed-by={_KEYRING}]" if _KEYRING.exists() else ""
    lines = [
        f"deb{signed} {address} {suite} main non-free-firmware\n" for suite, address in sorted(base_addresses().items())
    ]
    (_OWN / "sources.list").write_text("".join(lines))
    run(apt("update", "--error-on=any"), on_line=steps.tell)


def _stanzas() -> Iterator[tuple[str, dict[str, str]]]:
    """(suite, fields) of every package that the mirror has now."""
    wanted = re.compile(r"^(Package|Version|Architecture|Filename|SHA256|Priority|Essential): (.*)$", re.MULTILINE)
    for file in sorted((_OWN / "state" / "lists").glob("*_Packages")):
        named = re.search(rf"_dists_({RELEASE}(?:-\w+)?)_(?:main|non-free-firmware)_", file.name)
        if named:
            for stanza in file.read_text(encoding="utf-8").split("\n\n"):
                fields = dict(wanted.findall(stanza))
                if fields:
                    yield named.group(1), fields


def newest_release() -> int:
    """Seconds since 1970 of the newest list: the time that everything in the image carries."""
    dates = []
    for file in (_OWN / "state" / "lists").glob("*Release"):
        found = re.search(r"^Date: (.*)$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        if found:
            dates.append(int(parsedate_to_datetime(found.group(1)).timestamp()))
    return max(dates)


def available() -> dict[tuple[str, str, str], Deb]:
    """(name, version, architecture) → package, for all that the mirror has now."""
    found: dict[tuple[str, str, str], Deb] = {}
    for suite, fields in _stanzas():
        key = (fields["Package"], fields["Version"], fields["Architecture"])
        found.setdefault(key, Deb(*key, fields["SHA256"], suite, fields["Filename"]))
    return found


def resolve(names: Sequence[str]) -> list[Deb]:
    """Everything that an empty Debian 13 needs to have `names`: with the essential and the required packages."""
    basic = {f["Package"] for _, f in _stanzas() if f.get("Essential") == "yes" or f.get("Priority") == "required"}
    printed = run(apt("install", "--simulate", *sorted(basic | set(names))))
    there = available()
    chosen = []
    for name, version, architecture in _INST.findall(printed):
        key = (name.split(":")[0], version, architecture)
        chosen.append(there.get(key) or there[(key[0], version, "all")])
    return sorted(chosen, key=lambda deb: deb.name)
