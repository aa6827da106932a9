"""Signing what the firmware starts, with a key that the builder brings: for machines whose Secure Boot trusts its certificate.

Only the boot files and the loader are signed; they vouch for the kernel, its command line and, through the hash in it, for
the whole slot. A signature makes other bytes of the same files, so what two builds are compared by is the build without
it: the manifest keeps those hashes beside the signed ones. No key is made or kept here.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bootstrap import Missing

from qanun_images import tools
from qanun_images.slot import LOADER, Slot

_SIGN = "/usr/lib/systemd/systemd-sbsign"


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """An RSA key (PEM) and its X.509 certificate (PEM), which the firmware knows or will be told of."""

    key: Path
    certificate: Path


def given(key: Path | None, certificate: Path | None) -> SecureBoot | None:
    """Raises Missing when only one of the two is there, when they are no pair, or when the key lies in a checkout."""
    if key is None and certificate is None:
        return None
    if key is None or certificate is None:
        raise Missing("Secure Boot wants both: --secure-boot-key and --secure-boot-certificate")
    halves = []
    for path, words in ((key, ["pkey", "-pubout"]), (certificate, ["x509", "-noout", "-pubkey"])):
        command = ["openssl", words[0], "-in", str(path), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"{path} cannot be read: {(done.stderr.strip().splitlines() or ['?'])[0]}")
        halves.append(done.stdout)
    if halves[0] != halves[1]:
        raise Missing(f"{certificate} is not the certificate of {key}")
    tracked = subprocess.run(
        ["git", "ls-files", "--error-unmatch", key.name], cwd=key.resolve().parent, capture_output=True, check=False
    )
    if tracked.returncode == 0:
        raise Missing(f"{key} is a file of a git checkout: a signing key must never be")
    return SecureBoot(key.resolve(), certificate.resolve())


def sign(slot: Slot, by: SecureBoot) -> None:
    """The boot files and the loader in the build's folder, in place."""
    for path in (slot.boot_file, slot.installer_file, slot.folder / LOADER):
        signed = path.with_suffix(".signed")
        tools.run_in(
            tools.folder(), [_SIGN, "sign", "--private-key=/run/key", "--certificate=/run/certificate",
                             f"--output=/out/{signed.name}", f"/out/{path.name}"],
            binds={slot.folder: "/out", by.key: "/run/key", by.certificate: "/run/certificate"}, epoch=slot.epoch,
        )  # fmt: skip
        signed.chmod(0o644)
        signed.replace(path)
