"""The machine's own root certificate in the shapes that devices take: a file, a profile for Apple's, a square to point at."""

from __future__ import annotations

import io
import plistlib
import uuid

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

_NAMESPACE = uuid.UUID("5a0f7a0e-7f0c-4b7e-9d5c-0f4b3f0a6a11")


def profile(root_pem: bytes) -> bytes:
    """A configuration profile (.mobileconfig) with the root in it. The same root gives the same bytes."""
    root = x509.load_pem_x509_certificate(root_pem)
    mark = root.fingerprint(hashes.SHA256()).hex()
    name = root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value

    def identity(part: str) -> dict[str, object]:
        return {
            "PayloadIdentifier": f"qanun.{mark[:16]}.{part}", "PayloadUUID": str(uuid.uuid5(_NAMESPACE, mark + part)).upper(),
            "PayloadVersion": 1,
        }  # fmt: skip

    certificate = {
        **identity("root"), "PayloadType": "com.apple.security.root", "PayloadDisplayName": name,
        "PayloadContent": root.public_bytes(serialization.Encoding.DER), "PayloadCertificateFileName": "qanun-ca.crt",
    }  # fmt: skip
    whole = {
        **identity("profile"), "PayloadType": "Configuration", "PayloadDisplayName": name, "PayloadOrganization": "Qanun",
        "PayloadContent": [certificate],
    }  # fmt: skip
    return plistlib.dumps(whole)


def fingerprint(root_pem: bytes) -> str:
    """SHA-256 in pairs, as browsers show it."""
    mark = x509.load_pem_x509_certificate(root_pem).fingerprint(hashes.SHA256()).hex().upper()
    return ":".join(mark[number : number + 2] for number in range(0, len(mark), 2))


def square(text: str) -> bytes:
    """A QR code as SVG, dark on light whatever the page's colours are: cameras want it so."""
    import segno

    target = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        target, kind="svg", scale=5, border=3, dark="#000", light="#fff", xmldecl=False
    )
    return target.getvalue()
