"""What a build says about itself: parts (SBOM), hashes, a manifest, and a signature by a key that the builder brings.

Signing is apart from building: the same checkout gives the same manifest to anyone, and only the clinic's supplier can
sign it. No key is made or kept here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bootstrap import Missing, Steps

from qanun_images import lock, sbom, wheels
from qanun_images.places import PYTHON
from qanun_images.slot import LOADER, Slot

_REVISION = re.compile(r"""^revision(?:: str)? = ["']([^"']+)["']""", re.MULTILINE)
_HASHED = ("slot.img", "qanun_*.efi", "disk.raw", "disk.qcow2", "installer.raw", LOADER, "sbom.cdx.json")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(steps: Steps, slot: Slot, sources: Path, unsigned: Mapping[str, str] | None = None) -> None:
    """`sbom.cdx.json`, `manifest.json`, `SHA256SUMS` and the licences' list, beside the slot. `unsigned` are the hashes of
    boot files before they were signed for Secure Boot: what anybody can build again."""
    folder = slot.folder
    parts = sbom.document(slot.tree, sources, slot.version, slot.epoch)
    _json(folder / "sbom.cdx.json", parts)
    steps.tell("hashing")
    hashes = write_manifest(slot, schema(slot.tree), unsigned)
    hashes["manifest.json"] = sha256(folder / "manifest.json")
    (folder / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items())))


def write_manifest(
    slot: Slot, known: Mapping[str, Sequence[str]], unsigned: Mapping[str, str] | None = None
) -> dict[str, str]:
    """`manifest.json` over what lies in the build's folder; the hashes in it. `known` are the revisions of tables."""
    folder = slot.folder
    files = sorted({path for pattern in _HASHED for path in folder.glob(pattern)})
    hashes = {path.name: sha256(path) for path in files}
    _json(folder / "manifest.json", {
        "product": "qanun", "version": slot.version, "epoch": slot.epoch, "roothash": slot.roothash,
        "distributions": slot.source, "schema": known,
        "locks": {path.name: sha256(path) for path in (lock.DEBS, lock.TOOLS, lock.FIRMWARE, wheels.LOCK)},
        "files": {name: {"sha256": digest, "size": (folder / name).stat().st_size} for name, digest in hashes.items()},
        **({"unsigned": dict(unsigned)} if unsigned else {}),
    })  # fmt: skip
    return hashes


def schema(tree: Path) -> dict[str, list[str]]:
    """Lineage of tables → every revision that this release knows: a box that stands elsewhere refuses it."""
    packages = tree / f"opt/qanun/lib/python{PYTHON}/site-packages"
    found: dict[str, list[str]] = {}
    for folder in packages.glob("qanun*/migrations/versions"):
        name = folder.parents[1].name
        texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.py")]
        revisions = [said.group(1) for text in texts if (said := _REVISION.search(text))]
        found["core" if name == "qanun" else name.removeprefix("qanun_")] = sorted(revisions)
    # The clinic's data is of one PostgreSQL, and only that one's programs can read it.
    programs = tree.glob("usr/lib/postgresql/*/bin/postgres")
    return found | {"postgresql": sorted(path.parents[1].name for path in programs)}


def _json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def sign(folder: Path, key: Path) -> None:
    """`manifest.json.sig`: Ed25519 over the manifest's bytes, base64. Raises Missing when the key is none, or lies in a checkout."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        raise Missing(f"{folder} holds no manifest; build first")
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", key.name], cwd=key.resolve().parent, capture_output=True, check=False
    )
    if tracked.returncode == 0:
        raise Missing(f"{key} is a file of a git checkout: a signing key must never be")
    with tempfile.NamedTemporaryFile() as signature:
        done = subprocess.run(
            ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", manifest, "-out", signature.name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        raw = Path(signature.name).read_bytes()
    if done.returncode or len(raw) != 64:
        raise Missing(
            f"{key} is not an Ed25519 private key that openssl can use: {done.stderr.strip().splitlines()[:1]}"
        )
    (folder / "manifest.json.sig").write_text(base64.b64encode(raw).decode() + "\n")


def signed_by(folder: Path, public: Path) -> bool:
    """Whether the manifest carries a signature of this key (PEM)."""
    with tempfile.NamedTemporaryFile() as signature:
        try:
            Path(signature.name).write_bytes(
                base64.b64decode((folder / "manifest.json.sig").read_text().strip(), validate=True)
            )
        except (OSError, ValueError):
            return False
        done = subprocess.run(
            ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, "-in", folder / "manifest.json",
             "-sigfile", signature.name],
            capture_output=True, check=False,
        )  # fmt: skip
    return done.returncode == 0
