"""Who a media node is: the clinic machine's own small authority, the certificates it gives, and the token of an invitation.

Both sides prove themselves with certificates of this authority and of no other, over TLS 1.3. A certificate alone opens nothing:
the registry must know it, which is how a node is revoked at once. They are made to last, because a certificate that ends by
itself would end calls; what limits a node is the registry.
"""

import base64
import binascii
import hashlib
import os
import secrets
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

#: What nodes call the gateway in TLS, whatever address they reach it by.
GATEWAY_NAME = "media-gateway.qanun.internal"
_LASTS = timedelta(days=3650)
#: A node's clock may be a little behind ours.
_BEFORE = timedelta(days=1)
_SECRET_BYTES, _DIGEST_BYTES = 20, 32


class BadToken(ValueError):
    """What was given as a token is none."""


class BadRequest(ValueError):
    """A certificate request that cannot be granted."""


@dataclass(frozen=True)
class Token:
    """Where to join, how to know that it is the right place, and the secret that works once."""

    port: int
    secret: bytes
    gateway: bytes

    def __str__(self) -> str:
        packed = self.port.to_bytes(2, "big") + self.secret + self.gateway
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def read(cls, text: str) -> "Token":
        try:
            packed = base64.b64decode(text.strip() + "=" * (-len(text.strip()) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            packed = b""
        if len(packed) != 2 + _SECRET_BYTES + _DIGEST_BYTES:
            raise BadToken("this is not a token of `qanun telemedicine node invite`: copy all of it")
        return cls(int.from_bytes(packed[:2], "big"), packed[2 : 2 + _SECRET_BYTES], packed[2 + _SECRET_BYTES :])

    @staticmethod
    def digest(secret: bytes) -> str:
        """What the registry keeps of a secret."""
        return hashlib.sha256(b"qanun media node" + secret).hexdigest()


def new_secret() -> bytes:
    return secrets.token_bytes(_SECRET_BYTES)


class Authority:
    """The authority and the gateway's own certificate, made when first needed, in a folder that only this user reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / "gateway.crt").exists():
            self._found()
        self._key = _load_key(folder / "authority.key")
        self.certificate = (folder / "authority.crt").read_bytes()
        self._issuer = x509.load_pem_x509_certificate(self.certificate).subject

    def _found(self) -> None:
        now, key = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Qanun media nodes")])
        authority = (
            _builder(name, name, key.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        own = ec.generate_private_key(ec.SECP256R1())
        gateway = (
            _builder(_named(GATEWAY_NAME), name, own.public_key(), now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(GATEWAY_NAME)]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self.folder / "authority.key", private_pem(key))
        _write(self.folder / "authority.crt", authority.public_bytes(serialization.Encoding.PEM))
        _write(self.folder / "gateway.key", private_pem(own))
        # Last: its presence says that all the others are whole.
        _write(self.folder / "gateway.crt", gateway.public_bytes(serialization.Encoding.PEM))

    def fingerprint(self) -> bytes:
        """Of the gateway's certificate: what a token pins."""
        return fingerprint((self.folder / "gateway.crt").read_bytes())

    def grant(self, request: str, node: str) -> bytes:
        """A certificate for the key that signed this request. What else the request says is not taken over."""
        try:
            asked = x509.load_pem_x509_csr(request.encode())
            key = asked.public_key()
            if not asked.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
                raise BadRequest("the request is not signed with its own key")
        except ValueError as error:
            raise BadRequest(str(error)) from None
        given = (
            _builder(_named(node), self._issuer, key, datetime.now(UTC))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return given.public_bytes(serialization.Encoding.PEM)

    def server_context(self) -> ssl.SSLContext:
        """Nodes show a certificate; who comes to join has none yet, and can do nothing else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.folder / "gateway.crt", self.folder / "gateway.key")
        context.load_verify_locations(self.folder / "authority.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        # Every connection proves itself anew: nothing of a revoked node lives on in a ticket.
        context.num_tickets = 0
        return context


def joining_context() -> ssl.SSLContext:
    """For the one connection before there is a certificate: the caller compares the token's pin before it says anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def node_context(folder: Path) -> ssl.SSLContext:
    """A node's, once it has joined: its own certificate, and nobody trusted but the clinic machine's authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(folder / "authority.crt")
    context.load_cert_chain(folder / "node.crt", folder / "node.key")
    return context


def request_certificate(folder: Path) -> str:
    """Make this node's key, which never leaves it, and the request for its certificate."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    _write(folder / "node.key", private_pem(key))
    request = x509.CertificateSigningRequestBuilder().subject_name(_named("node")).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


def keep(folder: Path, name: str, content: bytes) -> None:
    """Put what the gateway gave where `node_context` finds it."""
    _write(folder / name, content)


def fingerprint(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + _LASTS)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs_certificates, crl_sign=signs_certificates, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".new")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        os.fsync(file.fileno())
    partial.replace(path)
