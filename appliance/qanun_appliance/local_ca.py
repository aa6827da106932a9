"""A certificate authority of the machine's own, for HTTPS on the local network where no public name exists.

Browsers give the camera only to secure pages, so a phone in the waiting room needs HTTPS, and there may be no internet to
ask a public authority. The root is made once and kept; server certificates are made anew when the addresses change. Its
key signs servers of this machine and nothing else (a name constraint would lock out plain addresses in some browsers).
"""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: What Apple's and Google's browsers accept at most, less a margin.
_SERVER_DAYS = 365
_ROOT_DAYS = 3650
_RENEW_BEFORE = timedelta(days=30)


def server_certificate(folder: Path, addresses: list[str], *, own_names: bool = True) -> tuple[Path, Path, Path]:
    """(certificate chain, its key, root) for these addresses and names; made when missing or outdated.

    `own_names` adds the names that this machine gives itself.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    root_path, root_key_path = folder / "qanun-ca.crt", folder / "qanun-ca.key"
    chain_path, key_path = folder / "server.crt", folder / "server.key"
    if not root_path.exists() or not root_key_path.exists():
        _make_root(root_path, root_key_path)
    root = x509.load_pem_x509_certificate(root_path.read_bytes())
    names = sorted({"localhost", "127.0.0.1", *addresses, *(_names() if own_names else ())})
    if not _serves(chain_path, key_path, names):
        _make_server(root, root_key_path, chain_path, key_path, names)
    return chain_path, key_path, root_path


def _names() -> set[str]:
    name = socket.gethostname().split(".")[0].lower()
    return {name, f"{name}.local"} if name and name.isascii() else set()


def _name(text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Qanun"), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


def _make_root(path: Path, key_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now, name = datetime.now(UTC), _name(f"Qanun on {socket.gethostname()[:40]}")
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_ROOT_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key), 0o600)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _make_server(root: x509.Certificate, root_key_path: Path, path: Path, key_path: Path, names: list[str]) -> None:
    root_key = serialization.load_pem_private_key(root_key_path.read_bytes(), None)
    assert isinstance(root_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_SERVER_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    _write(key_path, _pem(key), 0o600)
    parts = [one.public_bytes(serialization.Encoding.PEM) for one in (certificate, root)]
    _write(path, b"".join(parts), 0o644)


def _serves(path: Path, key_path: Path, names: list[str]) -> bool:
    if not path.exists() or not key_path.exists():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    held = {str(one.value) for one in found}
    return held == set(names) and certificate.not_valid_after_utc - datetime.now(UTC) > _RENEW_BEFORE


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    # Granian reads PKCS#8 only.
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    partial = path.with_suffix(".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    partial.replace(path)
