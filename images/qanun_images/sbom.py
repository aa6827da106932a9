"""The list of parts (CycloneDX 1.6): every Debian package, wheel and asset of a slot, with hash and licences, from the locks.

Licences are read from what the parts themselves say in the built tree: Debian's copyright files, the wheels' metadata, the
assets' manifest. Nothing is guessed: a part that names none is listed without.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from qanun_images import lock, wheels
from qanun_images.places import PYTHON, RELEASE

_LICENCE = re.compile(r"^License: *(\S[^\n]*)$", re.MULTILINE)
_VENDOR = Path("core/qanun/web/static/vendor/MANIFEST.json")


def document(tree: Path, sources: Path, version: str, epoch: int) -> dict[str, Any]:
    """The whole document, the same for the same slot."""
    components = sorted((*_debian(tree), *_python(tree), *_assets(sources)), key=lambda one: str(one["bom-ref"]))
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True))
    return {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": f"urn:uuid:{serial}", "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "operating-system", "bom-ref": f"qanun-image@{version}", "name": "qanun-image",
                          "version": version, "licenses": [{"license": {"id": "Apache-2.0"}}]},
        },
        "components": components,
    }  # fmt: skip


def _component(kind: str, purl: str, name: str, version: str, sha256: str, licences: list[str]) -> dict[str, Any]:
    part: dict[str, Any] = {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if sha256:
        part["hashes"] = [{"alg": "SHA-256", "content": sha256}]
    if licences:
        part["licenses"] = [{"license": {"name": licence}} for licence in licences]
    return part


def _debian(tree: Path) -> Iterator[dict[str, Any]]:
    firmware = "\nintel-microcode " in (tree / "usr/lib/qanun/packages").read_text()
    for deb in lock.of_box(firmware=firmware).debs:
        copyright_file = tree / "usr/share/doc" / deb.name / "copyright"
        text = copyright_file.read_text(encoding="utf-8", errors="replace") if copyright_file.is_file() else ""
        # Only files in Debian's machine-readable form name licences so that a program can tell.
        named = sorted({found.strip() for found in _LICENCE.findall(text)}) if text.startswith("Format:") else []
        if not named and text:
            named = sorted(set(re.findall(r"/usr/share/common-licenses/([A-Za-z]+[A-Za-z0-9.-]*\w)", text)))
        purl = f"pkg:deb/debian/{quote(deb.name)}@{quote(deb.version)}?arch={deb.architecture}&distro={RELEASE}"
        yield _component("library", purl, deb.name, deb.version, deb.sha256, named)


def _python(tree: Path) -> Iterator[dict[str, Any]]:
    hashes = {_plain(wheel.name): wheel.sha256 for wheel in wheels.read() if wheel.use == "box"}
    for metadata in sorted((tree / f"opt/qanun/lib/python{PYTHON}/site-packages").glob("*.dist-info/METADATA")):
        fields = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
        name, version = _plain(fields["Name"]), fields["Version"]
        said = fields["License-Expression"] or (fields["License"] or "").strip().splitlines()[:1]
        named = [said] if isinstance(said, str) else [line for line in said if len(line) < 80]
        if not named:
            classified = [line for line in fields.get_all("Classifier", []) if line.startswith("License :: ")]
            named = sorted(line.rsplit(" :: ", 1)[-1] for line in classified)
        yield _component("library", f"pkg:pypi/{name}@{version}", name, version, hashes.get(name, ""), named)


def _assets(sources: Path) -> Iterator[dict[str, Any]]:
    packages: dict[str, str] = {}
    for about in json.loads((sources / _VENDOR).read_text(encoding="utf-8"))["files"].values():
        packages[about["package"]] = about["licence"]
    for package, licence in sorted(packages.items()):
        name, version = package.rsplit("@", 1)
        yield _component("library", f"pkg:npm/{quote(name)}@{version}", name, version, "", [licence] if licence else [])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
