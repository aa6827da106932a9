"""The relay's own copy of the certificate: where it comes from, and whether it is another one now.

The relay reads its files again when it is told to, without ending anybody's call; so they lie where it may read them, and root puts
them there. With a public authority they come out of the proxy's store, which renews them by itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from qanun_appliance.places import DATA, Places
from qanun_appliance.secrets import give, write_private
from qanun_appliance.site import Site

CERTIFICATE, KEY = f"{DATA}/turn/tls.crt", f"{DATA}/turn/tls.key"
#: Where Debian's proxy keeps what authorities gave it.
_KEPT = "/var/lib/caddy/.local/share/caddy/certificates"
#: Whom the proxy asks when the site names no authority, by the names of their folders.
_USUAL = ("acme-v02.api.letsencrypt.org-directory", "acme.zerossl.com-v2-dv90")


def kept_by_the_proxy(site: Site) -> list[str]:
    """The files that a public authority's certificate for this machine may lie in: a path unit watches them."""
    host = site.hosts[0]
    folders = [_folder(site.certificate.directory)] if site.certificate.directory else list(_USUAL)
    return [f"{_KEPT}/{folder}/{host}/{host}.crt" for folder in folders]


def _folder(directory: str) -> str:
    """An authority's address as the proxy names its folder."""
    parts = urlsplit(directory)
    path = parts.path.replace("/", "-").strip("-")
    return re.sub(r"[^\w@.-]", "", f"{parts.netloc}{'-' + path if path else ''}".lower().replace(":", "-"))


def source(site: Site, places: Places) -> tuple[Path, Path] | None:
    """(chain, key) that people's browsers are shown now; None while there is none yet."""
    if site.certificate.kind != "acme":
        found = [places.tls / "server.crt"]
    else:
        found = [places.real(path) for path in kept_by_the_proxy(site)]
    there = [path for path in found if path.is_file() and path.with_suffix(".key").is_file()]
    if not there:
        return None
    newest = max(there, key=lambda path: path.stat().st_mtime)
    return newest, newest.with_suffix(".key")


def relay_certificate(site: Site, places: Places) -> Literal["", "first", "renewed"]:
    """Bring the relay's copy up to date. A pair that does not belong together (one is being renewed) is left for the next time."""
    pair = source(site, places) if site.turn.enabled else None
    if pair is None:
        return ""
    chain, key = (path.read_bytes() for path in pair)
    target, target_key = places.real(CERTIFICATE), places.real(KEY)
    before = target.read_bytes() if target.exists() and target_key.exists() else None
    if before == chain and target_key.read_bytes() == key:
        return ""
    if not _belong_together(chain, key):
        return ""
    for path, content in ((target_key, key), (target, chain)):
        write_private(path, content)
        give(path, places, "turnserver", "turnserver")
    return "renewed" if before is not None else "first"


def _belong_together(chain: bytes, key: bytes) -> bool:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    try:
        public = x509.load_pem_x509_certificate(chain).public_key()
        private = serialization.load_pem_private_key(key, None)
    except ValueError:
        return False
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return public.public_bytes(*form) == private.public_key().public_bytes(*form)
