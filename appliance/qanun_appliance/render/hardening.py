"""What every unit of ours gives up: the machine, the network it does not need, and every privilege."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from qanun_appliance.places import DATA

#: What root's programs keep of root's powers: read all of it, give files back to their owners, become another account.
_KEEPER = "CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_SETUID CAP_SETGID CAP_KILL"
#: Where `apply` writes.
CONFIGURES = ("/etc", "/run", str(DATA))
#: Disks and nothing else of `/dev`.
BLOCK_DEVICES = ("DevicePolicy=closed", "DeviceAllow=block-* rw")

_COMMON = (
    "NoNewPrivileges=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "UMask=0077",
)


def hardened(
    *, families: str = "AF_UNIX AF_INET AF_INET6", capabilities: str = "", write: Iterable[str] = (), network: str = "any",
    run_code: bool = False, hide: Iterable[str] = (), resources: bool = False, processes: bool = False,
) -> list[str]:  # fmt: skip
    """Lines of a [Service] section.

    `families` are the sockets it may open, `write` the folders it may write, `hide` those it may not even see. `network`
    is `any`, `local` (loopback only) or `none`. `run_code` leaves out what stops code made at run time; `resources` lets
    it set priorities; `processes` lets it see other processes.
    """
    lines = list(_COMMON)
    lines += [f"CapabilityBoundingSet={capabilities}", f"AmbientCapabilities={capabilities}"]
    lines.append(f"RestrictAddressFamilies={families}")
    lines.append("SystemCallFilter=@system-service")
    lines.append(f"SystemCallFilter=~@privileged{'' if resources else ' @resources'}")
    lines.append("SystemCallErrorNumber=EPERM")
    if not processes:
        lines.append("ProtectProc=invisible")
    if not run_code:
        lines.append("MemoryDenyWriteExecute=yes")
    if network == "none":
        lines.append("PrivateNetwork=yes")
    elif network == "local":
        lines += ["IPAddressDeny=any", "IPAddressAllow=localhost"]
    lines += [f"ReadWritePaths={path}" for path in write]
    lines += [f"InaccessiblePaths=-{path}" for path in hide]
    return lines


#: For root's own programs: no new powers, a quiet kernel; they must write where they are told to and see everything.
_ROOT = [
    "PrivateTmp=yes",
    "ProtectHome=read-only",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "LockPersonality=yes",
    "RestrictSUIDSGID=yes",
    "KeyringMode=private",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "UMask=0077",
]


def root_hardened(more: str = "", *, write: Sequence[str] = (str(DATA),), home: str = "yes") -> list[str]:
    """Lines of a [Service] section of root's own programs. `more` are further capabilities."""
    lines = hardened(
        families="AF_UNIX AF_INET AF_INET6 AF_NETLINK", capabilities=f"{_KEEPER} {more}".strip(), write=write, processes=True,
    )  # fmt: skip
    kept = [line for line in lines if not line.startswith("AmbientCapabilities")]
    # Becoming another account is a privileged call.
    kept = [line.replace("~@privileged @resources", "~@resources") for line in kept]
    kept = [f"ProtectHome={home}" if line.startswith("ProtectHome=") else line for line in kept]
    return [*kept, *(line for line in _ROOT if line.split("=")[0] not in {part.split("=")[0] for part in kept})]
