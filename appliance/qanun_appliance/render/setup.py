"""The units of the first hour: the pages, root's part after the last one, and the console that shows the code.

They lie in the image before there is a site file, and do nothing once there is one.
"""

from __future__ import annotations

from qanun_appliance.places import DATA, Places
from qanun_appliance.render.files import HEAD, Rendered
from qanun_appliance.render.hardening import BLOCK_DEVICES, CONFIGURES, hardened, root_hardened

FOLDER = "/run/qanun-setup"
#: Where the disk is from which a clinic comes back, and its unit, which is written when one was chosen.
MOUNT, MOUNT_UNIT = "/run/qanun-return", r"run-qanun\x2dreturn.mount"
UNITS = (
    "qanun-setup.service", "qanun-setup-work.path", "qanun-setup-work.service", "qanun-setup-console.path",
    "qanun-setup-console.service", "qanun-setup-disk.service", "qanun-setup-return.service",
)  # fmt: skip


def setup_files(places: Places) -> list[Rendered]:
    command = f"{places.code}/qanun appliance setup"
    share = places.code.parent / "share" / "qanun" / "locale"
    pages = [
        "[Unit]", "Description=Qanun: the pages that set this machine up", f"ConditionPathExists=!{DATA}/site.toml",
        f"RequiresMountsFor={DATA}", "Wants=network-online.target qanun-setup-work.path qanun-setup-console.path",
        # The proxy takes the port over; whoever starts it ends the pages first.
        "After=network-online.target qanun-apply.service", "Conflicts=caddy.service", "Before=caddy.service", "",
        "[Service]", "Type=exec", "User=qanun", "Group=qanun", "RuntimeDirectory=qanun-setup", "RuntimeDirectoryMode=0700",
        "RuntimeDirectoryPreserve=yes", f"Environment=QANUN_LOCALE_DIR={share} QANUN_SETUP_DIR={FOLDER}",
        f"ExecStartPre=+{command} prepare", f"ExecStart={command} serve", "Restart=on-failure", "RestartSec=2",
        "TimeoutStartSec=180", "MemoryMax=30%", "TasksMax=128",
        # Two ports below 1024, and asking the network whether an address is free.
        *hardened(
            families="AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET", capabilities="CAP_NET_BIND_SERVICE CAP_NET_RAW",
            write=[FOLDER], hide=[f"{DATA}/{name}" for name in ("secrets", "keys", "postgresql", "blobs", "recordings", "tls")],
        ),
        # `ip`, which says what addresses there are, puts down what rights it has got, and ends when it may not even do that.
        "SystemCallFilter=capset",
        "", "[Install]", "WantedBy=multi-user.target",
    ]  # fmt: skip
    disk = hardened(families="AF_UNIX", network="none", capabilities="CAP_DAC_OVERRIDE")
    disk = [line for line in disk if not line.startswith(("AmbientCapabilities", "PrivateDevices"))] + list(
        BLOCK_DEVICES
    )
    texts = {
        "qanun-setup.service": "\n".join(pages) + "\n",
        "qanun-setup-work.path": "[Unit]\nDescription=Qanun: the last page was sent\n\n[Path]\n"
        f"PathExists={FOLDER}/go\nUnit=qanun-setup-work.service\n",
        # Another try makes the file anew, which starts it again; a run that failed does not repeat itself.
        "qanun-setup-work.service": "[Unit]\nDescription=Qanun: what was chosen is put into force\n"
        f"ConditionPathExists={FOLDER}/go\nStartLimitIntervalSec=0\n\n[Service]\nType=oneshot\n"
        f"Environment=QANUN_SETUP_DIR={FOLDER}\nExecStart={command} work\nTimeoutStartSec=13h\n"
        + "\n".join(root_hardened(write=CONFIGURES))
        + "\n",
        # Apart, so that whoever has the network sees no disks, and whoever sees disks has no network.
        "qanun-setup-disk.service": "[Unit]\nDescription=Qanun: an empty disk for backups gets a file system\n"
        f"ConditionPathExists={FOLDER}/chosen.json\n\n[Service]\nType=oneshot\n"
        f"Environment=QANUN_SETUP_DIR={FOLDER}\nExecStart={command} disk\nTimeoutStartSec=1800\n"
        + "\n".join(disk)
        + "\n",
        # It reads a disk that somebody brought, and has no network either.
        "qanun-setup-return.service": "[Unit]\nDescription=Qanun: a clinic comes back from its backup\n"
        f"ConditionPathExists={FOLDER}/return.json\n\n[Service]\nType=oneshot\n"
        f"Environment=QANUN_SETUP_DIR={FOLDER}\nExecStart={command} return\nTimeoutStartSec=12h\nPrivateNetwork=yes\n"
        + "\n".join(root_hardened(write=[str(DATA), FOLDER, MOUNT]))
        + "\n",
        "qanun-setup-console.path": "[Unit]\nDescription=Qanun: the code on the console is another one\n\n[Path]\n"
        f"PathChanged={FOLDER}/issue\nUnit=qanun-setup-console.service\n",
        "qanun-setup-console.service": "[Unit]\nDescription=Qanun: the console shows the code\n\n[Service]\nType=oneshot\n"
        "ExecStart=-/usr/sbin/agetty --reload\n"
        + "\n".join(hardened(families="AF_UNIX", network="none", write=["/run"]))
        + "\n",
    }
    return [
        Rendered(path=f"/etc/systemd/system/{name}", content=HEAD + text, then=("daemon-reload",))
        for name, text in texts.items()
    ]
