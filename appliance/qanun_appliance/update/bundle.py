"""A release as one file: a plain tar with the manifest first, its signature second, then what the manifest names.

Nothing of it is believed before the signature holds under one of the trusted keys, nothing is unpacked by name, and no
member may be larger than what the signed manifest says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from packaging.version import InvalidVersion, Version

from qanun.api import QanunError

PRODUCT = "qanun"
MANIFEST, SIGNATURE = "manifest.json", "manifest.json.sig"
SLOT = "slot.img"
TRUSTED = Path("/usr/lib/qanun/trusted-keys")
_MOST_MANIFEST, _MOST_SIGNATURE = 1024 * 1024, 4096
#: (pattern, most bytes): what a bundle may hold at all, whatever a manifest says.
_CAPS = (
    (re.compile(r"slot\.img"), 4 * 1024**3),
    (re.compile(r"qanun_[0-9a-z.+~-]{1,40}\.efi"), 512 * 1024**2),
    (re.compile(r"sbom\.cdx\.json"), 64 * 1024**2),
    (re.compile(r"NOTES\.[a-z]{2}\.md"), 1024**2),
)
_BLOCK = 1024 * 1024


class Refused(QanunError):
    """The bundle is not put onto this machine; the message says why, and nothing was written."""

    status = 409
    code = "bundle-refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    name: str
    size: int
    sha256: str


#: Among the lineages of tables, what all of them lie in: its "revisions" are the major versions that a release brings.
POSTGRESQL = "postgresql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A manifest whose signature holds. `schema` maps a lineage to the revisions that the release knows."""

    version: Version
    least_from: Version
    files: Mapping[str, File]
    schema: Mapping[str, Sequence[str]]

    @property
    def boot_file(self) -> str:
        return f"qanun_{self.version}.efi"


def trusted_keys(path: Path = TRUSTED) -> list[bytes]:
    """32-byte public keys, base64, one a line: the present one and the next. Raises Refused when there is none."""
    try:
        lines = [line.split("#")[0].strip() for line in path.read_text(encoding="ascii").splitlines()]
        keys = [base64.b64decode(line, validate=True) for line in lines if line]
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: no usable list of trusted keys ({error})") from None
    if not keys or any(len(key) != 32 for key in keys):
        raise Refused(f"{path}: no usable list of trusted keys")
    return keys


def read_manifest(content: bytes, signature: bytes, keys: Iterable[bytes]) -> Release:
    """Raises Refused. The content is not even parsed before one of the keys has signed it."""
    # Every start of a machine asks how its last release fared, which takes no cryptography.
    from qanun.api import BadSignature, verify_signature

    try:
        raw = base64.b64decode(signature.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Refused("the signature is not one") from None
    if base64.b64encode(raw) != signature.strip():  # one spelling, so that no byte of a bundle can be another
        raise Refused("the signature is not one")
    for key in keys:
        try:
            verify_signature(key, raw, content)
        except BadSignature:
            continue
        return _parsed(content)
    raise Refused("the signature is of nobody that this machine trusts")


def _parsed(content: bytes) -> Release:
    try:
        table: dict[str, Any] = json.loads(content)
        if table["product"] != PRODUCT:
            raise Refused(f"this is a release of {str(table['product'])[:40]!r}, not of {PRODUCT}")
        files = {
            str(name): File(name=str(name), size=int(entry["size"]), sha256=str(entry["sha256"]))
            for name, entry in table["files"].items()
        }
        release = Release(
            version=Version(table["version"]), least_from=Version(table.get("min_from", "0")), files=files,
            schema={str(name): [str(item) for item in known] for name, known in table.get("schema", {}).items()},
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError, InvalidVersion) as error:
        raise Refused(f"the manifest cannot be read ({type(error).__name__})") from None
    if SLOT not in files or release.boot_file not in files:
        raise Refused(f"the manifest names no {SLOT} and {release.boot_file}")
    return release


def suits(release: Release, running: Version, revisions: Mapping[str, str]) -> None:
    """Raises Refused when this release cannot follow the running one. `revisions`: lineage → where its tables stand."""
    if release.version <= running:
        what = "is running already" if release.version == running else f"is older than {running}, which is running"
        raise Refused(f"{release.version} {what}")
    if running < release.least_from:
        raise Refused(
            f"{release.version} follows {release.least_from} or later; this is {running}. Take the one between first"
        )
    for lineage, revision in revisions.items():
        if lineage in release.schema and revision and revision not in release.schema[lineage]:
            if lineage == POSTGRESQL:
                raise Refused(
                    f"the data is of PostgreSQL {revision}, and {release.version} has {', '.join(release.schema[lineage])} alone: "
                    "take the release between first, and carry the data over there"
                )
            raise Refused(f"the tables of {lineage} stand at {revision}, which {release.version} does not know")


#: Gets every block of a member: (name, block). An empty block ends it.
Sink = Callable[[str, bytes], None]


@contextmanager
def opened(path: Path, keys: Iterable[bytes]) -> Iterator[tuple[Release, Callable[[Sink], None]]]:
    """The release of a bundle, and a function that reads all of the rest once, checking every byte.

    Raises Refused for whatever is not exactly what was signed: other members, links, paths, sizes, hashes, an early end.
    """
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r|", format=tarfile.PAX_FORMAT) as archive:
                content = _small(archive, MANIFEST, _MOST_MANIFEST)
                signature = _small(archive, SIGNATURE, _MOST_SIGNATURE)
                release = read_manifest(content, signature, keys)
                yield release, lambda sink: _rest(archive, release, sink)
        except (tarfile.TarError, EOFError) as error:
            raise Refused(f"the bundle is cut short or is no bundle ({error})") from None


def _small(archive: tarfile.TarFile, name: str, most: int) -> bytes:
    member = archive.next()
    if member is None or member.name != name or not member.isreg() or member.size > most:
        raise Refused(f"{name} is not where it must be")
    return b"".join(_blocks(archive, member))


def _rest(archive: tarfile.TarFile, release: Release, sink: Sink) -> None:
    seen: set[str] = set()
    while (member := archive.next()) is not None:
        known = release.files.get(member.name)
        cap = next((most for pattern, most in _CAPS if pattern.fullmatch(member.name)), None)
        if not member.isreg() or member.sparse is not None or cap is None or known is None:
            raise Refused(f"the bundle holds {member.name[:80]!r}, which does not belong there")
        if member.name in seen:
            raise Refused(f"{member.name} is in the bundle twice")
        if member.size != known.size or member.size > cap:
            raise Refused(f"{member.name} has {member.size} bytes, not {known.size}")
        seen.add(member.name)
        digest = hashlib.sha256()
        for block in _blocks(archive, member):
            digest.update(block)
            sink(member.name, block)
        if digest.hexdigest() != known.sha256:
            raise Refused(f"{member.name} is not what was signed")
        sink(member.name, b"")
    absent = {SLOT, release.boot_file} - seen
    if absent:
        raise Refused(f"the bundle lacks {', '.join(sorted(absent))}")


def _blocks(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    source: IO[bytes] | None = archive.extractfile(member)
    if source is None:
        raise Refused(f"{member.name[:80]!r} is not a file")
    left = member.size
    while left:
        block = source.read(min(_BLOCK, left))
        if not block:
            raise Refused(f"the bundle is cut short in {member.name}")
        left -= len(block)
        yield block


def pack(folder: Path, target: Path) -> list[str]:
    """A bundle out of a build's folder that was signed; the names in it. For whoever publishes a release."""
    try:
        table = json.loads((folder / MANIFEST).read_bytes())
        version = str(Version(table["version"]))
    except (OSError, ValueError, KeyError, InvalidVersion) as error:
        raise Refused(f"{folder} holds no manifest: {error}") from None
    notes = sorted(name for name in table["files"] if name.startswith("NOTES."))
    names = [MANIFEST, SIGNATURE, *notes, "sbom.cdx.json", f"qanun_{version}.efi", SLOT]
    names = [name for name in names if name in {MANIFEST, SIGNATURE} or name in table["files"]]
    partial = target.with_name(f".{target.name}.new")
    with tarfile.open(
        partial, "w", format=tarfile.USTAR_FORMAT if _small_enough(folder, names) else tarfile.PAX_FORMAT
    ) as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size, member.mode = (folder / name).stat().st_size, 0o644
            with (folder / name).open("rb") as source:
                archive.addfile(member, source)
    partial.replace(target)
    return names


def _small_enough(folder: Path, names: Sequence[str]) -> bool:
    return all((folder / name).stat().st_size < 8 * 1024**3 for name in names)
