"""The units of the web server, background work and every daemon that a plugin asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qanun.api import SystemService
from qanun_appliance.places import DATA, Places
from qanun_appliance.relay import CERTIFICATE, KEY
from qanun_appliance.render.files import HEAD, Rendered
from qanun_appliance.render.hardening import hardened
from qanun_appliance.render.proxy import WEB
from qanun_appliance.site import Site

SOCKETS = "/run/qanun"
ADDRESSES = "/run/qanun-addresses/addresses.env"
ENVIRONMENT = "/etc/qanun/qanun.env"
TURN_SECRET = f"{DATA}/secrets/turn-secret"
#: Ports as plugins write them, which a site may move.
_USUAL_MEDIA, _USUAL_TURN = 8100, 3478
_DATA_OF_OTHERS = ("secrets", "postgresql", "wal", "tls", "ssh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon:
    """A plugin's daemon as units: `file` is the unit's file, `units` what is started, `ports` what they open."""

    service: SystemService
    file: str
    units: tuple[str, ...]
    ports: tuple[tuple[str, int], ...]


#: Settings of a single unit among several of one kind; a file that goes away stops its unit.
INSTANCES = "/etc/qanun/units"


def media_workers(site: Site, cores: int) -> int:
    """One processor is left to pages and database."""
    return site.media_workers or max(1, min(8, cores - 1))


def media_socket(number: int) -> str:
    """The name by which the web server finds the worker: the first one's stands alone."""
    return f"{SOCKETS}/media{'' if number == 1 else f'-{number}'}.sock"


def daemons(site: Site, services: Iterable[SystemService], cores: int) -> list[Daemon]:
    """What runs on this site. The relay stays away where the site says so."""
    listed = list(services)
    names = [service.id.split(".", 1)[1] for service in listed]
    found = []
    for service, short in zip(listed, names, strict=True):
        # What a site cannot name, nobody has asked for.
        if (short == "turn" and not site.turn.enabled) or (service.needs and not getattr(site, service.needs, None)):
            continue
        name = short if names.count(short) == 1 else service.id.replace(".", "-")
        moved = {_USUAL_MEDIA: site.media_port, _USUAL_TURN: site.turn.port}
        ports = [(protocol, moved.get(port, port)) for protocol, port in service.ports]
        if short == "turn":
            ports.append(("tcp", site.turn.tls_port))
        if not service.per_core:
            file = f"qanun-{name}.service"
            found.append(Daemon(service=service, file=file, units=(file,), ports=tuple(ports)))
            continue
        numbers = range(1, media_workers(site, cores) + 1)
        found.append(Daemon(
            service=service, file=f"qanun-{name}@.service", units=tuple(f"qanun-{name}@{number}.service" for number in numbers),
            ports=tuple((protocol, port + number - 1) for number in numbers for protocol, port in ports),
        ))  # fmt: skip
    return found


def _instances(site: Site, daemon: Daemon) -> list[Rendered]:
    """What the second worker and those after it have of their own."""
    return [
        Rendered(
            path=f"{INSTANCES}/{unit.removesuffix('.service')}.env", then=(f"{unit}:restart",),
            content=HEAD + f"QANUN_MEDIA_LISTEN=[::]:{site.media_port + number - 1}\n"
            f"QANUN_MEDIA_SOCKET={media_socket(number)}\n",
        )
        for number, unit in enumerate(daemon.units, start=1)
        if number > 1
    ]  # fmt: skip


def environment(site: Site, places: Places, addresses: Sequence[str]) -> str:
    """The processes' environment. Without `addresses` (DHCP) the ones of the moment come from a file made at boot."""
    lines = {
        "QANUN_DATABASE_URL": "postgresql://qanun_app@/qanun?host=/run/postgresql",
        "QANUN_STATE_DIR": str(DATA),
        "QANUN_MASTER_KEY_FILE": f"{DATA}/keys/master.key",
        "QANUN_BASE_URL": site.base_url,
        "QANUN_MEDIA_SOCKET": f"{SOCKETS}/media.sock",
        "QANUN_MEDIA_LISTEN": f"[::]:{site.media_port}",
        "MALLOC_ARENA_MAX": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
        **(address_environment(site, addresses) if addresses else {}),
    }
    if site.media_nodes:
        lines["QANUN_MEDIA_NODES"] = ",".join(site.media_nodes)
    if site.mail.host:
        lines |= {
            "QANUN_SMTP_HOST": site.mail.host, "QANUN_SMTP_PORT": str(site.mail.port),
            "QANUN_SMTP_SECURITY": site.mail.security, "QANUN_MAIL_FROM": site.mail.sender,
        }  # fmt: skip
        if site.mail.user:
            lines["QANUN_SMTP_USER"] = site.mail.user
    if site.media_codecs:
        lines["QANUN_MEDIA_CODECS"] = site.media_codecs
    if site.captions:
        lines |= {"QANUN_CAPTIONS": site.captions, "QANUN_CAPTIONS_SOCKET": f"{SOCKETS}/captions.sock"}
        if site.captions_model:
            lines["QANUN_CAPTIONS_MODEL"] = site.captions_model
    if site.turn.enabled:
        lines["QANUN_TURN_PORT"] = str(site.turn.port)
        if site.turn.external:
            lines["QANUN_TURN_EXTERNAL"] = site.turn.external
    share = places.code.parent / "share" / "qanun" / "locale"
    lines["QANUN_LOCALE_DIR"] = str(share)
    return HEAD + "".join(f"{name}={value}\n" for name, value in sorted(lines.items()))


def known_addresses(site: Site) -> list[str]:
    """The machine's addresses where the site fixes them; empty where the network gives them."""
    if site.media_advertise:
        return list(site.media_advertise)
    return [site.network.address.split("/")[0]] if site.network.mode == "static" else []


def address_environment(site: Site, addresses: Sequence[str]) -> dict[str, str]:
    """What depends on the machine's addresses."""
    lines = {"QANUN_MEDIA_ADVERTISE": ",".join(addresses)}
    if site.turn.enabled:
        four = site.turn.external or next((one for one in addresses if ":" not in one), "")
        six = next((one for one in addresses if ":" in one), "")
        # One of each family: browsers ask every relay that they are told of, and wait for the slowest.
        hosts = [*([four] if four else []), *([f"[{six}]"] if six else [])]
        urls = [f"turn:{host}:{site.turn.port}?transport={way}" for host in hosts for way in ("udp", "tcp")]
        urls.append(f"turns:{site.authority}:{site.turn.tls_port}?transport=tcp")
        lines |= {"QANUN_TURN_LISTEN": ",".join(addresses), "QANUN_TURN_URLS": ",".join(urls)}
    return lines


def units_with_addresses(site: Site, services: Iterable[SystemService], cores: int) -> list[str]:
    """What reads the machine's addresses as it starts."""
    return [
        "qanun-web.service",
        "qanun-jobs.service",
        *(unit for daemon in daemons(site, services, cores) for unit in daemon.units),
    ]


def service_files(site: Site, places: Places, running: Sequence[Daemon], addresses: Sequence[str]) -> list[Rendered]:
    units = ["qanun-web.service", "qanun-jobs.service", *(unit for daemon in running for unit in daemon.units)]
    files = [
        Rendered(
            path=ENVIRONMENT, content=environment(site, places, addresses), mode=0o640, group="qanun",
            then=tuple(f"{unit}:restart" for unit in units),
        ),
        _unit("qanun-web.service", _web(site, places)),
        _unit("qanun-jobs.service", _jobs(site, places)),
    ]  # fmt: skip
    files += [_unit(daemon.file, _daemon(site, places, daemon), restart=daemon.units) for daemon in running]
    return files + [file for daemon in running for file in _instances(site, daemon)]


def _unit(name: str, text: str, *, restart: Sequence[str] = ()) -> Rendered:
    return Rendered(
        path=f"/etc/systemd/system/{name}", content=HEAD + text,
        then=("daemon-reload", *(f"{unit}:restart" for unit in restart or (name,))),
    )  # fmt: skip


def _relay_credentials(site: Site) -> list[str]:
    if not site.turn.enabled:
        return []
    return [f"LoadCredential=turn-secret:{TURN_SECRET}", "Environment=QANUN_TURN_SECRET_FILE=%d/turn-secret"]


def _mail_credentials(site: Site) -> list[str]:
    if not (site.mail.host and site.mail.user):
        return []
    return [
        f"LoadCredential=smtp-password:{site.mail.password_file}",
        "Environment=QANUN_SMTP_PASSWORD_FILE=%d/smtp-password",
    ]


def _section(unit: Iterable[str], service: Iterable[str]) -> str:
    return "\n".join(["[Unit]", *unit, "", "[Service]", *service, ""])


_ENVIRONMENT_LINES = [f"EnvironmentFile={ENVIRONMENT}", f"EnvironmentFile=-{ADDRESSES}"]
_AFTER_DATA = ["Requires=qanun-migrate.service", "After=qanun-migrate.service qanun-first-boot.service"]


def _ours(*names: str) -> list[str]:
    return [f"{DATA}/{name}" for name in names]


def _web(site: Site, places: Places) -> str:
    host, port = WEB.split(":")
    return _section(
        ["Description=Qanun: web server", *_AFTER_DATA, "Wants=qanun-addresses.service", "After=qanun-addresses.service",
         "PartOf=qanun.target", "StartLimitIntervalSec=0"],
        [
            # The event loop itself says that it is ready and, again and again, that it still turns.
            "Type=notify", "NotifyAccess=all", "WatchdogSec=30", "TimeoutStartSec=300", "TimeoutStopSec=15",
            "User=qanun", "Group=qanun", *_ENVIRONMENT_LINES, *_relay_credentials(site),
            f"ExecStart={places.code}/qanun serve --host {host} --port {port} --workers {site.web_workers}",
            "Restart=always", "RestartSec=1", "CPUWeight=300", "MemoryHigh=30%", "MemoryMax=40%", "TasksMax=256",
            "OOMScoreAdjust=-200",
            *hardened(
                network="local", write=[*_ours("blobs", "recordings", "incoming"), SOCKETS, "/run/qanun-wishes"],
                hide=_ours(*_DATA_OF_OTHERS, "turn", "nodes", "site.toml"),
            ),
        ],
    )  # fmt: skip


def _jobs(site: Site, places: Places) -> str:
    return _section(
        # Both load the same for as long; whoever waits for the first page is not to wait for this as well.
        ["Description=Qanun: background work", *_AFTER_DATA, "After=qanun-web.service", "PartOf=qanun.target",
         "StartLimitIntervalSec=0"],
        [
            "Type=exec", "TimeoutStopSec=20", "User=qanun", "Group=qanun", *_ENVIRONMENT_LINES, *_relay_credentials(site),
            *_mail_credentials(site),
            f"ExecStart={places.code}/qanun worker",
            # Whoever waits for a page or speaks in a call comes first.
            "Restart=always", "RestartSec=2", "CPUWeight=50", "IOWeight=50", "MemoryHigh=20%", "MemoryMax=30%",
            "TasksMax=128",
            *hardened(
                # It alone speaks to the mail server, whose addresses are not known beforehand.
                network="any" if site.mail.host else "local", write=[*_ours("blobs", "recordings"), SOCKETS],
                hide=_ours(*_DATA_OF_OTHERS, "turn", "site.toml"),
            ),
        ],
    )  # fmt: skip


def _daemon(site: Site, places: Places, daemon: Daemon) -> str:
    service = daemon.service
    relay = daemon.service.id.endswith(".turn")
    lines = [
        "Type=exec", "TimeoutStartSec=300", "TimeoutStopSec=15", f"User={service.user}", f"Group={service.user}", *_ENVIRONMENT_LINES,
        *([f"EnvironmentFile=-{INSTANCES}/%p@%i.env"] if service.per_core else []), *(_relay_credentials(site) if relay else []),
    ]  # fmt: skip
    if relay:
        lines += [
            f"Environment=QANUN_TURN_CERTIFICATE={CERTIFICATE} QANUN_TURN_CERTIFICATE_KEY={KEY}",
            f"Environment=QANUN_TURN_TLS_PORT={site.turn.tls_port}",
            # A renewed certificate is read without ending a call.
            "ExecReload=/bin/kill -USR2 $MAINPID",
        ]  # fmt: skip
    if service.prepare:
        lines.append(f"ExecStartPre={_words(service.prepare, places)}")
    lines.append(f"ExecStart={_words(service.command, places)}")
    write = [*_ours(*service.folders), *([SOCKETS] if service.user == "qanun" else [])]
    others = ("blobs", "recordings", "keys", "turn", "nodes", "site.toml", *_DATA_OF_OTHERS)
    hide = _ours(*(name for name in others if name not in service.folders))
    lines += [
        "Restart=always", "RestartSec=1", "CPUWeight=400", "MemoryHigh=25%", "MemoryMax=30%", "TasksMax=256",
        "OOMScoreAdjust=-100",
        *hardened(write=write, hide=hide, families="AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        # Their thread that forwards packets goes ahead of their other threads.
        *(["LimitNICE=-10", "SystemCallFilter=setpriority sched_setattr"] if service.per_core else []),
    ]  # fmt: skip
    unit = [f"Description=Qanun: {service.id}", "Wants=qanun-addresses.service", "After=qanun-addresses.service",
            "PartOf=qanun.target", "StartLimitIntervalSec=0"]  # fmt: skip
    return _section(unit, lines)


def _words(words: Sequence[str], places: Places) -> str:
    """A plugin's command in systemd's spelling. Values that depend on the machine stay variables of the environment."""
    fields = {
        "python": str(places.code / "python"),
        "state_dir": str(DATA),
        "media_socket": "${QANUN_MEDIA_SOCKET}",
        "media_listen": "${QANUN_MEDIA_LISTEN}",
        "media_advertise": "${QANUN_MEDIA_ADVERTISE}",
    }
    filled = [word.replace("%", "%%").format_map(fields) for word in words]
    if not filled[0].startswith("/"):
        filled[0] = f"/usr/bin/{filled[0]}"
    return " ".join(
        word if word.startswith("${") or (word.isascii() and " " not in word) else f'"{word}"' for word in filled
    )
