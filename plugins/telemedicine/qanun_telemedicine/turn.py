"""TURN for networks that let nothing else through: coturn's configuration, credentials that live minutes, and the process.

A TURN server hands packets on to whatever address its user names: without limits it is an open door into the clinic's
network. Here every peer is denied but the addresses of the media server. There is no configuration interface at run time.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qanun_telemedicine.sfu.addresses import canonical, shown

log = logging.getLogger(__name__)

_STABLE_S = 10.0
_MOST_WAIT_S = 10.0
_STOP_S = 5.0
#: What one participant may send and receive through the relay, in bytes per second: 8 Mbit/s, as coturn counts.
_MOST_BYTES_PER_S = 1_000_000


class TurnMissing(Exception):
    """No turnserver binary was found."""


@dataclass(frozen=True)
class TurnSettings:
    """Where coturn listens and whom it may reach."""

    realm: str
    #: Addresses of this machine to listen on and to relay from.
    addresses: Sequence[str]
    #: The media server's addresses: the only peers allowed.
    peers: Sequence[str]
    port: int = 3478
    #: Used when a certificate is given.
    tls_port: int = 5349
    certificate: Path | None = None
    private_key: Path | None = None
    first_relay_port: int = 49160
    last_relay_port: int = 49999
    #: The address that clients see, when this machine stands behind address translation.
    external: str | None = None
    #: Allocations at the same time, per participant and altogether.
    user_quota: int = 12
    total_quota: int = 1200

    def __post_init__(self) -> None:
        for address in (*self.addresses, *self.peers, *([self.external] if self.external else [])):
            canonical(address)
        if not self.addresses or not self.peers:
            raise ValueError("TURN needs an address to listen on and a media server to reach")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("TURN over TLS needs a certificate and its key")
        if not self.realm.isascii() or any(letter.isspace() for letter in self.realm) or not self.realm:
            raise ValueError("the realm must be one plain word")


@dataclass(frozen=True)
class TurnCredentials:
    username: str
    password: str
    #: Seconds since 1970.
    expires: int


def ephemeral_credentials(secret: str, participant_id: str, ttl: int, now: float | None = None) -> TurnCredentials:
    """Credentials for one participant that coturn refuses after `ttl` seconds. Opaque ids only: it writes them to its log."""
    expires = int(time.time() if now is None else now) + ttl
    username = f"{expires}:{participant_id}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return TurnCredentials(username, base64.b64encode(digest).decode(), expires)


def ice_servers(host: str, settings: TurnSettings, credentials: TurnCredentials) -> list[dict[str, object]]:
    """What a page gives to its RTCPeerConnection."""
    place = shown((host, settings.port))
    urls = [f"turn:{place}?transport=udp", f"turn:{place}?transport=tcp"]
    if settings.certificate is not None:
        urls.append(f"turns:{shown((host, settings.tls_port))}?transport=tcp")
    return [{"urls": urls, "username": credentials.username, "credential": credentials.password}]


def configuration(settings: TurnSettings, secret: str, folder: Path) -> str:
    """The text of turnserver.conf."""
    peers = list(dict.fromkeys(canonical(address) for address in settings.peers))
    lines = [
        "use-auth-secret",
        f"static-auth-secret={secret}",
        f"realm={settings.realm}",
        *(f"listening-ip={address}" for address in settings.addresses),
        *(f"relay-ip={address}" for address in settings.addresses),
        f"listening-port={settings.port}",
        f"min-port={settings.first_relay_port}",
        f"max-port={settings.last_relay_port}",
        # Peers: nobody but the media server. coturn looks at what is allowed first. That all of IPv6 is denied covers IPv4
        # written as IPv6 (::ffff:0:0/96) and translated from it (64:ff9b::/96) too.
        "denied-peer-ip=0.0.0.0-255.255.255.255",
        "denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        *(f"allowed-peer-ip={address}" for address in peers),
        "no-multicast-peers",
        "no-tcp-relay",
        "fingerprint",
        "stale-nonce=600",
        "secure-stun",
        "no-cli",
        "no-dynamic-ip-list",
        "no-rfc5780",
        "no-software-attribute",
        f"user-quota={settings.user_quota}",
        f"total-quota={settings.total_quota}",
        f"max-bps={_MOST_BYTES_PER_S}",
        f"userdb={folder / 'turndb'}",
        f"pidfile={folder / 'turnserver.pid'}",
        "log-file=stdout",
        "simple-log",
    ]
    if not (_four(settings.addresses) and _four(peers)):
        # Browsers do not say which family they want to be relayed in, and get IPv4 then: here it would lead nowhere.
        lines.append("allocation-default-address-family=ipv6")
    if settings.external is not None:
        lines.append(f"external-ip={settings.external}")
    if settings.certificate is not None:
        lines += [
            f"tls-listening-port={settings.tls_port}",
            f"cert={settings.certificate}",
            f"pkey={settings.private_key}",
            "no-tlsv1",
            "no-tlsv1_1",
            "no-dtls",
        ]
    else:
        lines += ["no-tls", "no-dtls"]
    return "\n".join(lines) + "\n"


def _four(addresses: Sequence[str]) -> bool:
    """Whether there is one of IPv4 among them."""
    return any(":" not in canonical(address) for address in addresses)


def find_turnserver(folder: Path | None = None) -> Path:
    """The binary: in the given folder (anywhere below it, as a package unpacks), or on the PATH."""
    if folder is not None:
        for place in ("turnserver", "bin/turnserver", "usr/bin/turnserver"):
            if os.access(folder / place, os.X_OK) and (folder / place).is_file():
                return folder / place
    found = shutil.which("turnserver")
    if found is None:
        raise TurnMissing("turnserver (Debian package coturn) is not installed")
    return Path(found)


def _ends_with_us() -> list[str]:
    """The prefix that makes a process end with the one that started it, where util-linux is there."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


class TurnServer:
    """A coturn that runs until `stop`, started again when it dies."""

    def __init__(self, settings: TurnSettings, secret: str, folder: Path, binary: Path | None = None) -> None:
        self.settings = settings
        self.restarts = 0
        self._binary = binary or find_turnserver()
        self._folder = folder
        self._secret = secret
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self, *, wait: float = 10.0) -> None:
        """Write the configuration (readable by this user only) and start; returns when it accepts connections."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / "turnserver.conf"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(configuration(self.settings, self._secret, self._folder))
        path.chmod(0o600)
        self._task = asyncio.get_running_loop().create_task(self._keep(path))
        async with asyncio.timeout(wait):
            while not await self._answers():  # noqa: ASYNC110 - another process: there is nothing to be told by
                await asyncio.sleep(0.05)

    async def _answers(self) -> bool:
        if self.pid is None:
            return False
        try:
            _, writer = await asyncio.open_connection(self.settings.addresses[0], self.settings.port)
        except OSError:
            return False
        writer.close()
        return True

    async def _keep(self, path: Path) -> None:
        wait = 0.0
        while True:
            began = time.monotonic()
            with (self._folder / "turnserver.log").open("ab") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *_ends_with_us(),
                    str(self._binary),
                    *("-c", str(path)),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                )
            try:
                code = await self._process.wait()
            except asyncio.CancelledError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()
                try:
                    await asyncio.wait_for(self._process.wait(), _STOP_S)
                except TimeoutError:
                    self._process.kill()
                    await self._process.wait()
                raise
            self.restarts += 1
            log.error("turnserver ended with %s; starting it again", code)
            wait = 0.0 if time.monotonic() - began > _STABLE_S else min(_MOST_WAIT_S, max(0.1, wait * 2))
            await asyncio.sleep(wait)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
