"""The backup disk that the site names: mounted by its UUID when somebody looks there, and nothing in its place while it is out."""

from __future__ import annotations

from qanun_appliance.render.files import HEAD, Link, Rendered
from qanun_appliance.site import BACKUP_MOUNT, Site

_SYSTEM = "/etc/systemd/system"
MOUNT, AUTOMOUNT = "mnt-backup.mount", "mnt-backup.automount"


def backup_disk_files(site: Site) -> list[Rendered | Link]:
    if not site.backup.disk:
        return []
    node = f"/dev/disk/by-uuid/{site.backup.disk}"
    device = node.lstrip("/").replace("-", r"\x2d").replace("/", "-") + ".device"
    mount = (
        f"[Unit]\nDescription=Qanun: the backup disk\n\n[Mount]\nWhat={node}\nWhere={BACKUP_MOUNT}\n"
        "Options=noatime,noexec,nodev,nosuid\nDirectoryMode=0700\nTimeoutSec=60\n"
    )
    automount = (
        f"[Unit]\nDescription=Qanun: the backup disk, when it is looked at\n\n[Automount]\nWhere={BACKUP_MOUNT}\n"
        "TimeoutIdleSec=300\nDirectoryMode=0700\n\n[Install]\nWantedBy=multi-user.target\n"
    )
    return [
        # Another disk than before is mounted from now on.
        Rendered(path=f"{_SYSTEM}/{MOUNT}", content=HEAD + mount, then=("daemon-reload", f"{MOUNT}:restart")),
        Rendered(path=f"{_SYSTEM}/{AUTOMOUNT}", content=HEAD + automount, then=("daemon-reload",)),
        # Whoever looks at a disk that is out is told so soon.
        Rendered(
            path=f"{_SYSTEM}/{device}.d/qanun.conf", content=HEAD + "[Unit]\nJobRunningTimeoutSec=10\n",
            then=("daemon-reload",),
        ),
        Link(path=f"{_SYSTEM}/multi-user.target.wants/{AUTOMOUNT}", target=f"{_SYSTEM}/{AUTOMOUNT}"),
    ]  # fmt: skip
