"""The units that are not the application: what prepares, gates, watches, backs up, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qanun_appliance.places import ACCOUNTS, BUILDS, DATA, Places
from qanun_appliance.relay import kept_by_the_proxy
from qanun_appliance.render.backup_disk import AUTOMOUNT
from qanun_appliance.render.database import FOLDER, SOCKETS
from qanun_appliance.render.files import HEAD, Link, Machine, Rendered
from qanun_appliance.render.hardening import BLOCK_DEVICES, CONFIGURES, hardened, root_hardened
from qanun_appliance.render.services import ADDRESSES, ENVIRONMENT, known_addresses
from qanun_appliance.site import BACKUP_MOUNT, Site

_SYSTEM = "/etc/systemd/system"
#: What the page about releases may ask for.
WISHES = ("stage", "restart", "rollback")


def lifecycle_files(site: Site, places: Places, machine: Machine, units: Sequence[str]) -> list[Rendered | Link]:
    appliance = f"{places.code}/qanun appliance"
    cluster = f"{DATA}/postgresql/{machine.postgres_major}"
    backs_up = bool(site.backup.target)
    # On the image these units come into being during the boot, after timers.target was thought through: the target that
    # `apply` starts brings all of them along.
    follows = ["addresses-follow"] if not known_addresses(site) else []
    timers = ["doctor", "disk", "renew", *follows, *(("backup", "drill", "wal") if backs_up else ())]
    wants = " ".join((
        *units, "qanun-web.service", "qanun-jobs.service", "caddy.service", "qanun-first-boot.service",
        "qanun-health.service", "qanun-releases.service", "qanun-doctor.path", "qanun-backup.path",
        *(f"qanun-wish-{name}.path" for name in WISHES), *(f"qanun-{name}.timer" for name in timers),
        *([AUTOMOUNT] if site.backup.disk else []),
        *(["qanun-relay-certificate.path"] if renews_by_itself(site) else []),
        # A server that somebody keeps has its own way in; on the image there is none but this.
        *(["ssh.service"] if machine.slot and site.ssh == "keys" else []),
    ))  # fmt: skip
    texts = {
        "qanun.target": "[Unit]\nDescription=Qanun\n"
        f"Wants={wants}\nAfter=network.target\n\n[Install]\nWantedBy=multi-user.target\n",
        "qanun-apply.service": _section(
            ["Description=Qanun: write the configuration from site.toml", "DefaultDependencies=no",
             "After=local-fs.target systemd-tmpfiles-setup.service", f"RequiresMountsFor={DATA}",
             "Before=network-pre.target systemd-networkd.service nftables.service caddy.service chrony.service "
             "qanun.target shutdown.target", "Wants=network-pre.target", "Conflicts=shutdown.target",
             "Wants=qanun-prepare.service", f"ConditionPathExists={DATA}/site.toml"],
            ["Type=oneshot", "RemainAfterExit=yes", f"ExecStart={appliance} apply --boot", "TimeoutStartSec=300",
             *root_hardened(write=CONFIGURES)],
            install="sysinit.target",
        ),
        # The power failed amid a restore: before anybody looks at a half of what was proven, the rest; what was not goes.
        "qanun-restored.service": _section(
            ["Description=Qanun: a restore that was cut off is put in place", "DefaultDependencies=no",
             "After=local-fs.target systemd-tmpfiles-setup.service", f"RequiresMountsFor={DATA}",
             "Before=qanun-apply.service qanun-prepare.service qanun-setup.service shutdown.target",
             "Conflicts=shutdown.target", f"ConditionPathExistsGlob={DATA}/{BUILDS}"],
            ["Type=oneshot", f"ExecStart={appliance} restore --finish", "TimeoutStartSec=1800", *root_hardened()],
            install="sysinit.target",
        ),
        "qanun-addresses.service": _section(
            # It waits for addresses by itself and loads meanwhile: "online" comes later than the first of them, and all else after it.
            ["Description=Qanun: this machine's addresses, and a certificate for them",
             "After=network.target", "Before=caddy.service", "PartOf=qanun.target"],
            ["Type=oneshot", "RemainAfterExit=yes", "RuntimeDirectory=qanun-addresses", "RuntimeDirectoryMode=0755",
             "RuntimeDirectoryPreserve=yes", f"ExecStart={appliance} addresses --write {ADDRESSES}", *root_hardened()],
        ),
        "qanun-prepare.service": _section(
            # It needs nothing of what `apply` writes: on the image it runs beside it, before there is anything else to start.
            ["Description=Qanun: the database's files, made once and never again", "DefaultDependencies=no",
             "After=local-fs.target systemd-tmpfiles-setup.service", "Before=qanun.target shutdown.target",
             "Conflicts=shutdown.target", f"RequiresMountsFor={DATA}", f"ConditionPathExists={DATA}/site.toml"],
            ["Type=oneshot", "RemainAfterExit=yes", f"ExecStart={appliance} prepare", "TimeoutStartSec=180", *root_hardened()],
        ),
        "qanun-postgresql.service": _section(
            ["Description=Qanun: database", "Requires=qanun-prepare.service", "After=qanun-prepare.service",
             f"ConditionPathExists={cluster}/PG_VERSION", "PartOf=qanun.target", "StartLimitIntervalSec=0"],
            [*_readiness(machine), "User=postgres", "Group=postgres", "RuntimeDirectory=postgresql", "RuntimeDirectoryMode=0755",
             "RuntimeDirectoryPreserve=restart",
             f"ExecStart={machine.postgres_bin}/postgres -D {cluster} -c config_file={FOLDER}/postgresql.conf",
             "ExecReload=/bin/kill -HUP $MAINPID", "KillMode=mixed", "KillSignal=SIGINT", "TimeoutStartSec=600",
             "TimeoutStopSec=60", "Restart=always", "RestartSec=1", "CPUWeight=300", "TasksMax=400",
             # Losing the database loses everybody's page: it is the last that the kernel may take.
             "OOMScoreAdjust=-900", "Environment=PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj PG_OOM_ADJUST_VALUE=0",
             *hardened(families="AF_UNIX", network="none", write=[f"{DATA}/postgresql", f"{DATA}/wal", SOCKETS],
                       hide=[f"{DATA}/secrets", f"{DATA}/keys", f"{DATA}/blobs", f"{DATA}/recordings", f"{DATA}/tls"])],
        ),
        "qanun-migrate.service": _section(
            ["Description=Qanun: the database's roles and tables, brought to this release",
             "Requires=qanun-postgresql.service", "After=qanun-postgresql.service"],
            ["Type=oneshot", "RemainAfterExit=yes", "User=postgres", "Group=postgres", f"EnvironmentFile={ENVIRONMENT}",
             f"Environment=QANUN_OWNER_DATABASE_URL=postgresql://qanun_owner@/qanun?host={SOCKETS}",
             # On a small machine each start of a program takes a second of everybody's waiting: one for both.
             f"ExecStart={places.code}/qanun db upgrade --superuser-url postgresql://postgres@/postgres?host={SOCKETS}",
             "TimeoutStartSec=900",
             *hardened(families="AF_UNIX", network="none",
                       hide=[f"{DATA}/secrets", f"{DATA}/keys", f"{DATA}/blobs", f"{DATA}/recordings", f"{DATA}/tls"])],
        ),
        "qanun-first-boot.service": _section(
            ["Description=Qanun: the first clinic and its administrator, made once", "Requires=qanun-migrate.service",
             "After=qanun-migrate.service", f"ConditionPathExists=!{DATA}/keys/founded"],
            ["Type=oneshot", "RemainAfterExit=yes", "User=qanun", "Group=qanun", f"EnvironmentFile={ENVIRONMENT}",
             f"LoadCredential=administrator:{DATA}/secrets/administrator",
             f"ExecStart={appliance} first-boot --secret-file %d/administrator",
             *hardened(families="AF_UNIX", network="none", write=[f"{DATA}/keys", f"{DATA}/blobs"])],
        ),
        "qanun-health.service": _section(
            ["Description=Qanun: does this release work here", "Requires=qanun.target",
             "After=qanun.target qanun-web.service caddy.service qanun-first-boot.service", "Before=boot-complete.target"],
            ["Type=oneshot", "RemainAfterExit=yes", f"ExecStart={appliance} health --gate --wait 240",
             "TimeoutStartSec=300", *root_hardened()],
            install="", required_by="boot-complete.target",
        ),
        # The gate's, when it is sure: the boot loader takes the other slot at once.
        "qanun-give-up.service": _section(
            ["Description=Qanun: this release is not tried again", "DefaultDependencies=no",
             "ConditionPathExists=/usr/lib/qanun/slot"],
            ["Type=oneshot", "ExecStart=/usr/lib/systemd/systemd-bless-boot bad", "TimeoutStartSec=45"],
        ),
        # The one that sees the disks: a slot that a power cut left half-written says that it is empty, and the pages learn
        # how the last release fared.
        "qanun-releases.service": _section(
            ["Description=Qanun: how the last release fared", "After=qanun.target qanun-health.service",
             "ConditionKernelCommandLine=|qanun.slot", "ConditionPathExists=|/usr/lib/qanun/slot"],
            ["Type=oneshot", f"ExecStart=-{appliance} update tidy", f"ExecStart=-{appliance} update status",
             *_releases()],
        ),
        "qanun-doctor.service": _section(
            # On a slow machine its timer may fire while everything still starts, which would then start later.
            ["Description=Qanun: the doctor's round", "After=qanun-health.service"],
            ["Type=oneshot", f"ExecStart={appliance} doctor --write", "SuccessExitStatus=1 2", "Nice=10",
             # To list the firewall's rules, and to ask the clock through its socket.
             *root_hardened("CAP_NET_ADMIN", write=[str(DATA), "-/run/chrony"])],
        ),
        # Every minute: a disk can fill while the doctor sleeps.
        "qanun-disk.service": _section(
            # Not beside a start, which it would make longer.
            ["Description=Qanun: the data disk's reserve", f"RequiresMountsFor={DATA}", "After=qanun-health.service"],
            ["Type=oneshot", f"ExecStart={appliance} disk-watch", *root_hardened()],
        ),
        **(_follow(appliance) if follows else {}),
        "qanun-disk.timer": _timer("the data disk's reserve", "OnBootSec=1min\nOnUnitInactiveSec=1min\nAccuracySec=5s"),
        "qanun-doctor.timer": _timer("the doctor's round", "OnBootSec=2min\nOnUnitInactiveSec=5min"),
        # The pages' button: the web server leaves a wish, root's round answers it.
        "qanun-doctor.path": "[Unit]\nDescription=Qanun: somebody asked for the doctor\n\n[Path]\n"
        "PathChanged=/run/qanun-wishes/doctor\nUnit=qanun-doctor.service\n",
        "qanun-backup.path": "[Unit]\nDescription=Qanun: somebody asked for a backup\n\n[Path]\n"
        "PathChanged=/run/qanun-wishes/backup\nUnit=qanun-backup.service\n",
        **_wishes(appliance),
        **_relay(site, appliance),
        "qanun-renew.service": _section(
            ["Description=Qanun: certificate and configuration, looked at once a day"],
            ["Type=oneshot", f"ExecStart={appliance} apply", *root_hardened(write=CONFIGURES)],
        ),
        "qanun-renew.timer": _timer("certificate and configuration", "OnCalendar=*-*-* 03:30"),
    }  # fmt: skip
    for name, what, words, extra in (
        ("backup", "backup", "backup", ["TimeoutStartSec=6h"]),
        (
            "wal",
            "what was written since the last backup, into the backup",
            "backup --log-only",
            ["TimeoutStartSec=30min"],
        ),
        ("drill", "restore drill", "drill", ["TimeoutStartSec=6h"]),
    ):
        texts[f"qanun-{name}.service"] = _section(
            [f"Description=Qanun: {what}", "After=qanun-postgresql.service qanun-health.service",
             # Before the first backup there is nothing to add to and nothing to prove, which is no fault.
             *([] if name == "backup" else [f"ConditionPathExists={DATA}/reports/backup.json"])],
            ["Type=oneshot", f"ExecStart={appliance} {words}", "Nice=10", "IOSchedulingClass=idle", "CPUWeight=20",
             # A store behind ssh wants root's keys and known hosts.
             "MemoryHigh=25%", *extra, *root_hardened(write=_backup_places(site), home="read-only")],
        )  # fmt: skip
    if backs_up:
        texts["qanun-backup.timer"] = _timer("backup", f"OnCalendar=*-*-* {site.backup.at}\nPersistent=yes")
        texts["qanun-drill.timer"] = _timer("restore drill", f"OnCalendar=*-*-* {site.backup.drill_at}\nPersistent=yes")
        texts["qanun-wal.timer"] = _timer(
            "the log into the backup", "OnBootSec=3min\nOnUnitInactiveSec=2min\nAccuracySec=10s"
        )
    files: list[Rendered | Link] = [
        Rendered(path=f"{_SYSTEM}/{name}", content=HEAD + text, then=("daemon-reload",)) for name, text in texts.items()
    ]
    files += _enabled(texts)
    return [*files, *_accounts_and_folders()]


def _readiness(machine: Machine) -> list[str]:
    """The database counts as started when it takes connections: it says so itself, or is asked as long as it lives."""
    if machine.postgres_tells:
        return ["Type=notify"]
    asks = f"{machine.postgres_bin}/pg_isready --quiet --host={SOCKETS} --timeout=5"
    return ["Type=exec", f"ExecStartPost=/bin/sh -c 'until {asks}; do kill -0 $MAINPID || exit 1; sleep 0.2; done'"]


def _follow(appliance: str) -> dict[str, str]:
    """Where the network gives the addresses it can give others at any moment, and calls would be sent to nobody."""
    return {
        "qanun-addresses-follow.service": _section(
            ["Description=Qanun: other addresses than the machine started with", "After=qanun-health.service"],
            ["Type=oneshot", f"ExecStart={appliance} addresses --follow --write {ADDRESSES}", "TimeoutStartSec=400",
             *root_hardened(write=[str(DATA), str(Path(ADDRESSES).parent)])],
        ),
        "qanun-addresses-follow.timer": _timer("the machine's addresses", "OnBootSec=3min\nOnUnitInactiveSec=2min"),
    }  # fmt: skip


def _relay(site: Site, appliance: str) -> dict[str, str]:
    """Where the proxy renews the certificate by itself: the relay gets it within a second."""
    if not renews_by_itself(site):
        return {}
    watched = "".join(f"PathChanged={path}\n" for path in kept_by_the_proxy(site))
    return {
        "qanun-relay-certificate.path": "[Unit]\nDescription=Qanun: the certificate was renewed\n\n[Path]\n"
        f"{watched}Unit=qanun-relay-certificate.service\n",
        "qanun-relay-certificate.service": _section(
            ["Description=Qanun: the relay's certificate"],
            ["Type=oneshot", f"ExecStart={appliance} relay-certificate", *root_hardened()],
        ),
    }


def renews_by_itself(site: Site) -> bool:
    return site.certificate.kind == "acme" and site.turn.enabled


def _wishes(appliance: str) -> dict[str, str]:
    """The page about releases: one path and one service for each of its few words, and no other way from the web to root."""
    found = {}
    image = ["ConditionKernelCommandLine=|qanun.slot", "ConditionPathExists=|/usr/lib/qanun/slot"]
    # A plan writes down its minute and no more. Whoever stages leaves backup and proof to their own units.
    planning = hardened(
        families="AF_UNIX", network="none", capabilities="CAP_DAC_READ_SEARCH", write=[f"{DATA}/reports"]
    )
    shut_in = {"stage": _releases(), "rollback": _releases(), "restart": planning}
    for name in WISHES:
        found[f"qanun-wish-{name}.path"] = (
            f"[Unit]\nDescription=Qanun: somebody asked for: {name}\n\n[Path]\n"
            f"PathChanged=/run/qanun-wishes/{name}\nUnit=qanun-wish-{name}.service\n"
        )
        found[f"qanun-wish-{name}.service"] = _section(
            [f"Description=Qanun: {name}, as the administrator's page asked", *image],
            ["Type=oneshot", f"ExecStart={appliance} wish {name}", "TimeoutStartSec=8h", "Nice=10", *shut_in[name]],
        )  # fmt: skip
    # What the planned minute starts: its timer is made by the wish and is gone with the next start.
    found["qanun-planned-restart.service"] = _section(
        ["Description=Qanun: the planned start into a release", *image],
        ["Type=oneshot", f"ExecStart={appliance} update reboot", *_releases()],
    )
    return found


def _enabled(texts: dict[str, str]) -> list[Link]:
    links = [
        Link(path=f"{_SYSTEM}/timers.target.wants/{name}", target=f"{_SYSTEM}/{name}")
        for name in texts
        if name.endswith(".timer")
    ]
    links += [
        Link(path=f"{_SYSTEM}/multi-user.target.wants/qanun.target", target=f"{_SYSTEM}/qanun.target"),
        *(
            Link(path=f"{_SYSTEM}/sysinit.target.wants/{name}", target=f"{_SYSTEM}/{name}")
            for name in ("qanun-apply.service", "qanun-restored.service")
        ),
        Link(
            path=f"{_SYSTEM}/boot-complete.target.requires/qanun-health.service",
            target=f"{_SYSTEM}/qanun-health.service",
        ),
        Link(path=f"{_SYSTEM}/multi-user.target.wants/qanun-health.service", target=f"{_SYSTEM}/qanun-health.service"),
    ]
    # Debian's own would listen beside ours, on other ports and with other rules.
    masked = ("coturn.service", "postgresql.service")
    return links + [Link(path=f"{_SYSTEM}/{name}", target="/dev/null") for name in masked]


def _accounts_and_folders() -> list[Rendered]:
    accounts = "".join(f'u {name} {number} "{label}" {_home(name)}\n' for name, number, label in ACCOUNTS)
    folders = [
        (DATA, "0711", "root", "qanun"), (f"{DATA}/secrets", "0700", "root", "root"),
        (f"{DATA}/keys", "0700", "qanun", "qanun"), (f"{DATA}/blobs", "0700", "qanun", "qanun"),
        (f"{DATA}/recordings", "0700", "qanun", "qanun"), (f"{DATA}/reports", "0750", "root", "qanun"),
        (f"{DATA}/postgresql", "0700", "postgres", "postgres"), (f"{DATA}/wal", "0700", "postgres", "postgres"),
        (f"{DATA}/turn", "0700", "turnserver", "turnserver"), (f"{DATA}/tls", "0750", "root", "caddy"),
        (f"{DATA}/nodes", "0700", "qanun", "qanun"),
        (f"{DATA}/updates", "0700", "root", "root"), (f"{DATA}/incoming", "0700", "qanun", "qanun"), (f"{DATA}/ssh", "0700", "root", "root"),
        ("/run/qanun", "0750", "qanun", "qanun"), ("/run/qanun-wishes", "0750", "qanun", "qanun"),
        ("/etc/qanun", "0755", "root", "root"),
    ]  # fmt: skip
    # Whoever wrote the site file, the first day reads it as the web server's account; it holds no secret.
    lines = "".join(f"d {path} {mode} {owner} {group} -\n" for path, mode, owner, group in folders)
    lines += f"z {DATA}/site.toml 0640 root qanun -\n"
    return [
        Rendered(path="/etc/sysusers.d/qanun.conf", content=HEAD + accounts, then=("sysusers",)),
        Rendered(
            path="/etc/tmpfiles.d/qanun.conf", then=("tmpfiles",),
            content=HEAD + lines,
        ),
        # Logs outlive a failed release: they say why it was left again.
        Rendered(
            path="/etc/systemd/journald.conf.d/qanun.conf", then=("systemd-journald.service:restart",),
            content=HEAD + "[Journal]\nStorage=persistent\nSystemMaxUse=500M\nSystemKeepFree=1G\nMaxRetentionSec=60day\n",
        ),
    ]  # fmt: skip


def _home(name: str) -> str:
    return {"caddy": "/var/lib/caddy", "_chrony": "/var/lib/chrony"}.get(name, str(DATA))


def _backup_places(site: Site) -> list[str]:
    # On a disk of its own the folder may still have to be made.
    target = BACKUP_MOUNT if site.backup.disk else site.backup.target
    return [str(DATA), *([f"-{target}"] if target.startswith("/") else [])]


def _releases() -> list[str]:
    lines = hardened(families="AF_UNIX", network="none", capabilities="CAP_DAC_OVERRIDE", write=[str(DATA), "-/efi"])
    kept = [line for line in lines if not line.startswith(("AmbientCapabilities", "PrivateDevices"))]
    return [*kept, *BLOCK_DEVICES]


def _section(unit: Sequence[str], service: Sequence[str], *, install: str = "", required_by: str = "") -> str:
    lines = ["[Unit]", *unit, "", "[Service]", *service]
    if install or required_by:
        lines += ["", "[Install]"]
        lines += [f"WantedBy={install}"] if install else [f"RequiredBy={required_by}"]
    return "\n".join([*lines, ""])


def _timer(what: str, when: str) -> str:
    return f"[Unit]\nDescription=Qanun: {what}\n\n[Timer]\n{when}\n\n[Install]\nWantedBy=timers.target\n"
