"""`site.toml`: the one file that says what this machine is for. Everything in `/etc` is rendered from it.

It holds no secret. Reading it checks everything at once and names the field of every fault, because whoever wrote it may
sit in front of a machine that does not answer yet.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from qanun.api import locales
from qanun_appliance.site_table import Check, SiteFault, TableReader

VERSION = 1

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*")
_MAIL = re.compile(r"[^@\s\"<>]{1,64}@[^@\s\"<>]{1,190}")
_INTERFACE = re.compile(r"[a-zA-Z0-9*?._-]{1,15}")
_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")
_SSH_KEY = re.compile(r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-\S+|sk-\S+) [A-Za-z0-9+/=]{40,}(?: [^\n\"]*)?")
_TARGET = re.compile(r"/[^\s\"'\\$]*|(?:sftp:|rest:https?://|s3:)[^\s\"'\\$]+")
_UUID = re.compile(r"[0-9A-Fa-f-]{4,40}")
#: Where a backup disk that the site names is mounted.
BACKUP_MOUNT = "/mnt/backup"
_ABSOLUTE = re.compile(r"/[^\s\"'\\$]+")


_CODEC = "(vp8|vp9|h264|h264-high|av1|red)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clinic:
    """The first clinic, made once; later changes are made on screen."""

    name: str
    slug: str
    name_alt: str
    timezone: str
    currency: str
    country: str
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`mode`: `dhcp`, `static`, or `unmanaged` where somebody else sets the machine's addresses."""

    mode: str
    hostname: str
    interface: str
    address: str
    gateway: str
    dns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """`kind`: `own` (an authority of this machine), `acme` (a public one), `given` (files)."""

    kind: str
    email: str
    directory: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    enabled: bool
    port: int
    tls_port: int
    external: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """`target` is a folder or an address that restic knows; empty means that there is none yet. `disk` is the file system
    that is mounted at `BACKUP_MOUNT` for it, by its UUID; empty where somebody else mounts. Times are local."""

    target: str
    disk: str
    at: str
    drill_at: str
    keep_days: int
    keep_weeks: int
    keep_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """The mail server that takes what the clinic sends; without `host` no mail is sent. The password's file is root's alone."""

    host: str
    port: int
    security: str
    user: str
    password_file: str
    sender: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What `site.toml` says, checked."""

    language: str
    clinic: Clinic
    administrator_name: str
    administrator_email: str
    hosts: tuple[str, ...]
    network: Network
    time_servers: tuple[str, ...]
    certificate: Certificate
    turn: Turn
    media_port: int
    media_advertise: tuple[str, ...]
    #: Addresses that media nodes on other machines have; without any there is no place for them to call in.
    media_nodes: tuple[str, ...]
    #: How many media workers; 0 leaves it to the number of processors.
    media_workers: int
    #: In which order calls try codecs, as `QANUN_MEDIA_CODECS`; empty: as they come.
    media_codecs: str
    mail: Mail
    #: What recognises speech for captions, as `QANUN_CAPTIONS`, and its model; empty: calls have no captions.
    captions: str
    captions_model: str
    backup: Backup
    ssh: str
    ssh_keys: tuple[str, ...]
    web_workers: int = 1

    @property
    def authority(self) -> str:
        """The first of its names as it stands in a page's address."""
        return f"[{self.hosts[0]}]" if ":" in self.hosts[0] else self.hosts[0]

    @property
    def base_url(self) -> str:
        return f"https://{self.authority}"


def load_site(path: Path) -> Site:
    """Raises SiteFault naming every field that is wrong, or the file when it cannot be read at all."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SiteFault([(str(path), error.strerror or "cannot be read")]) from None
    try:
        return parse_site(tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteFault([(str(path), f"not a TOML file: {error}")]) from None


def parse_site(table: Mapping[str, Any]) -> Site:
    """A site out of the file's table. Raises SiteFault."""
    top = TableReader(table)
    version = top.number("version", least=1, most=10_000)
    if version > VERSION:
        top.fault("version", f"written for a later release ({version}); this one knows {VERSION}")
    language = top.choice("language", tuple(locale.code for locale in locales()), usual="en")
    clinic, administrator = top.table("clinic"), top.table("administrator", needed=False)
    network = _network(top.table("network", needed=False))
    hosts = top.table("hosts").items("names", _host, least=1)
    site = Site(
        language=language,
        clinic=Clinic(
            name=clinic.text("name", most=120), slug=clinic.text("slug", check=_slug),
            name_alt=clinic.text("name_alt", usual="", most=120),
            timezone=clinic.text("timezone", usual="UTC", check=_zone),
            currency=clinic.text("currency", usual="USD", check=_matches(r"[A-Z]{3}", "three capitals, like MAD")),
            country=clinic.text("country", usual="", check=_matches(r"[A-Z]{2}", "two capitals, like MA")),
            phone=clinic.text("phone", usual="", most=40),
        ),
        administrator_name=administrator.text("name", usual="", most=120),
        administrator_email=administrator.text("email", usual="", check=_mail),
        hosts=hosts,
        network=network,
        time_servers=top.table("time", needed=False).items("servers", _host_or_address),
        certificate=_certificate(top.table("certificate", needed=False), hosts, top),
        turn=_turn(top.table("turn", needed=False)),
        media_port=(media := top.table("media", needed=False)).number("port", usual=8100, least=1024, most=65535),
        media_advertise=media.items("advertise", _reachable),
        media_nodes=media.items("nodes", _reachable),
        media_workers=media.number("workers", usual=0, least=1, most=8),
        media_codecs=media.text("codecs", usual="", check=_matches(
            rf"{_CODEC}(,{_CODEC})*", "codecs in the order of preference, like vp9,vp8; red repairs lost sound"
        )),
        mail=_mail_server(top.table("mail", needed=False)),
        captions=(captions := top.table("captions", needed=False)).text(
            "recogniser", usual="", check=_matches(r"pocketsphinx|http://[^\s\"'\\$]+", "pocketsphinx, or http:// and an address")
        ),
        captions_model=captions.text("model", usual="", check=_matches(r"[\w./:-]{1,80}", "a model's name")),
        backup=_backup(top.table("backup", needed=False)),
        ssh=(ssh := top.table("ssh", needed=False)).choice("mode", ("off", "keys"), usual="off"),
        ssh_keys=ssh.items("keys", _ssh_key),
        web_workers=top.table("web", needed=False).number("workers", usual=1, least=1, most=16),
    )  # fmt: skip
    if site.ssh == "keys" and not site.ssh_keys:
        top.fault("ssh.keys", "at least one public key is needed when ssh.mode is keys; passwords are never accepted")
    if bool(site.administrator_name) != bool(site.administrator_email):
        top.fault("administrator", "needs both a name and an email, or neither")
    # Each worker has the port after the one before it.
    ports = [
        *range(site.media_port, site.media_port + (site.media_workers or 8)),
        site.turn.port,
        site.turn.tls_port,
        80,
        443,
        22,
    ]
    if len(set(ports)) != len(ports):
        top.fault("media.port", "two services cannot share a port (80, 443 and 22 are taken)")
    top.done()
    return site


def _network(table: TableReader) -> Network:
    mode = table.choice("mode", ("dhcp", "static", "unmanaged"), usual="dhcp")
    static = mode == "static"
    return Network(
        mode=mode,
        hostname=table.text("hostname", usual="qanun", check=_hostname),
        interface=table.text("interface", usual="en*", check=_matches(_INTERFACE.pattern, "an interface, like en*")),
        address=table.text("address", usual=None if static else "", check=_interface_address),
        gateway=table.text("gateway", usual="", check=_address),
        dns=table.items("dns", _address),
    )


def _certificate(table: TableReader, hosts: tuple[str, ...], top: TableReader) -> Certificate:
    kind = table.choice("kind", ("own", "acme", "given"), usual="own")
    given = None if kind == "given" else ""
    if kind == "acme" and hosts and any(_is_address(host) or "." not in host for host in hosts):
        top.fault("hosts.names", 'a public authority certifies public names only; use certificate.kind = "own"')
    absolute = _matches(_ABSOLUTE.pattern, "an absolute path")
    return Certificate(
        kind=kind, email=table.text("email", usual="", check=_mail),
        directory=table.text("directory", usual="", check=_matches(r"https://[^\s\"{}]+", "an https address")),
        certificate=table.text("certificate", usual=given, check=absolute), key=table.text("key", usual=given, check=absolute),
    )  # fmt: skip


def _turn(table: TableReader) -> Turn:
    return Turn(
        enabled=table.flag("enabled", usual=True),
        port=table.number("port", usual=3478, least=1024, most=65535),
        tls_port=table.number("tls_port", usual=5349, least=1024, most=65535),
        external=table.text("external", usual="", check=_ipv4),
    )


def _mail_server(table: TableReader) -> Mail:
    host = table.text("host", usual="", check=_host_or_address)
    user = table.text("user", usual="", check=_matches(r"[^\s\"'\\$]+", "a name without spaces and quotes"))
    sender = table.text("from", usual=None if host else "", check=_mail)
    return Mail(
        host=host, port=table.number("port", usual=587, least=1, most=65535),
        security=table.choice("security", ("starttls", "tls", "none"), usual="starttls"), user=user,
        password_file=table.text("password_file", usual=None if user else "", check=_matches(_ABSOLUTE.pattern, "an absolute path")),
        sender=sender,
    )  # fmt: skip


def _backup(table: TableReader) -> Backup:
    where = "an absolute folder, or sftp:…, rest:https://… or s3:… as restic writes them"
    clock = _matches(_CLOCK.pattern, "a time of day, like 02:30")
    disk = table.text("disk", usual="", check=_matches(_UUID.pattern, "the UUID of a file system, as lsblk shows it"))
    target = table.text("target", usual=BACKUP_MOUNT if disk else "", check=_matches(_TARGET.pattern, where))
    if disk and target != BACKUP_MOUNT and not target.startswith(f"{BACKUP_MOUNT}/"):
        table.fault(
            "target", f"lies elsewhere than the disk that backup.disk names, which is mounted at {BACKUP_MOUNT}"
        )
    return Backup(
        target=target, disk=disk, at=table.text("at", usual="02:00", check=clock), drill_at=table.text("drill_at", usual="04:00", check=clock),
        keep_days=table.number("keep_days", usual=14, least=2, most=3650),
        keep_weeks=table.number("keep_weeks", usual=8, least=0, most=1000),
        keep_months=table.number("keep_months", usual=12, least=0, most=1000),
    )  # fmt: skip


# --- what a value must be ---------------------------------------------------------------------------------------------------


def _matches(pattern: str, wanted: str) -> Check:
    compiled = re.compile(pattern)
    return lambda value: "" if compiled.fullmatch(value) else f"is not {wanted}"


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def _slug(value: str) -> str:
    return "" if _SLUG.fullmatch(value) else "must be small letters, digits and hyphens, like al-razi"


def _host(value: str) -> str:
    return "" if _is_address(value) or _HOST.fullmatch(value) else "is not a host name in small letters, or an address"


def _host_or_address(value: str) -> str:
    return _host(value)


def _hostname(value: str) -> str:
    return "" if _HOST.fullmatch(value) and "." not in value else "is not a plain host name, like qanun"


def _address(value: str) -> str:
    return "" if _is_address(value) else "is not an IP address"


def _ipv4(value: str) -> str:
    """An address in front of one that is translated; nobody translates IPv6."""
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return "is not an IPv4 address"
    return ""


def _reachable(value: str) -> str:
    """Of either family, as somebody elsewhere could send to it."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return "is not an IP address"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return f"is an IPv4 address: write {found.ipv4_mapped}"
        if found.is_link_local or found.scope_id:
            return "is an address of one link, which nobody elsewhere can reach"
    return "is no address that a browser could reach" if found.is_unspecified or found.is_multicast else ""


def _interface_address(value: str) -> str:
    try:
        found = ipaddress.ip_interface(value)
    except ValueError:
        found = None
    if found is None or "/" not in value or found.network.prefixlen in (0, found.max_prefixlen):
        return "is not an address with its prefix length, like 192.168.1.10/24"
    return ""


def _mail(value: str) -> str:
    return "" if _MAIL.fullmatch(value) else "is not an e-mail address"


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError):
        return "is not a time zone, like Africa/Casablanca"
    return ""


def _ssh_key(value: str) -> str:
    return "" if _SSH_KEY.fullmatch(value) else "is not a public key as ssh-keygen writes it"
