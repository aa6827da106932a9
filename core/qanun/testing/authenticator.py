"""A device that makes and uses passkeys, in software: what a phone answers, and what a thief's would.

It signs with real keys; only the person's finger is missing. Every field of an answer can be made wrong.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import Aaguid, AttestedCredentialData, AuthenticatorData

_FLAG = AuthenticatorData.FLAG
PRESENT = _FLAG.UP
VERIFIED = _FLAG.UP | _FLAG.UV
SYNCED = _FLAG.UP | _FLAG.UV | _FLAG.BE | _FLAG.BS


@dataclass
class Device:
    """`made` after `create`; `flags` and `counter` are what it says of itself."""

    origin: str = "http://clinic.test"
    rp_id: str = "clinic.test"
    flags: AuthenticatorData.FLAG = VERIFIED
    counter: int = 0
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    handle: bytes = b""

    def _client(self, kind: str, challenge: str) -> bytes:
        told = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False}
        return json.dumps(told).encode()

    def create(self, options: dict[str, Any]) -> dict[str, Any]:
        """The answer to `credentials.create`."""
        public = options["publicKey"]
        self.handle = websafe_decode(public["user"]["id"])
        credential = AttestedCredentialData.create(
            Aaguid(bytes(16)),
            self.credential_id,
            ES256.from_cryptography_key(self.key.public_key()),  # type: ignore[no-untyped-call]
        )
        told = AuthenticatorData.create(self._host(), self.flags | _FLAG.AT, self.counter, credential)
        attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": bytes(told)})
        client = self._client("webauthn.create", public["challenge"])
        return self._answer(client, attestationObject=websafe_encode(attestation), transports=["internal", "hybrid"])

    def get(self, options: dict[str, Any], *, key: ec.EllipticCurvePrivateKey | None = None) -> dict[str, Any]:
        """The answer to `credentials.get`, signed (with another `key`: by somebody who has only seen the id)."""
        if self.counter:
            self.counter += 1
        client = self._client("webauthn.get", options["publicKey"]["challenge"])
        told = bytes(AuthenticatorData.create(self._host(), self.flags, self.counter))
        signature = (key or self.key).sign(told + hashlib.sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._answer(
            client, authenticatorData=websafe_encode(told), signature=websafe_encode(signature),
            userHandle=websafe_encode(self.handle),
        )  # fmt: skip

    def _host(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest()

    def _answer(self, client: bytes, **response: Any) -> dict[str, Any]:
        name = websafe_encode(self.credential_id)
        return {
            "id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {},
            "response": {"clientDataJSON": websafe_encode(client), **response},
        }  # fmt: skip
