"""What the kernel knows about a process and this machine: processor time, memory, addresses, free ports."""

import os
import random
import socket
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cpu:
    """Seconds a process has run: `exact` by the scheduler's nanosecond clock, `user` and `system` by its ticks."""

    exact: float
    user: float
    system: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.exact - other.exact, self.user - other.user, self.system - other.system)


def cpu(pid: int) -> Cpu:
    """Processor time of all threads of a process until now."""
    exact = sum(
        int(text.split()[0]) for task in Path(f"/proc/{pid}/task").iterdir() if (text := _read(task / "schedstat"))
    )
    fields = _read(Path(f"/proc/{pid}/stat")).rsplit(")", 1)[1].split()
    return Cpu(exact / 1e9, int(fields[11]) / _TICK, int(fields[12]) / _TICK)


def rss(pid: int) -> int:
    """Resident memory of a process in bytes."""
    return int(_read(Path(f"/proc/{pid}/statm")).split()[1]) * _PAGE


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (text := _read(entry / "stat")):
            parents.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def address() -> str:
    """An IPv4 address of this machine that is not loopback: neither aioice nor Janus gathers 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; asks the routing table which address would be used
        return str(probe.getsockname()[0])


def free_port(first: int = 24000, last: int = 24999) -> int:
    """A port that nothing on this machine uses at the moment, for TCP and UDP."""
    for port in random.sample(range(first, last + 1), 200):
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("", port))
        except OSError:
            continue
        return port
    raise RuntimeError(f"no free port between {first} and {last}")


def pinned(processor: int) -> list[str]:
    """The beginning of a command line that keeps a process on one processor; nothing on a machine with a single one."""
    # Not by what this process may use: it may be pinned itself, and what it starts belongs elsewhere.
    return ["taskset", "-c", str(processor)] if (os.cpu_count() or 1) > 1 else []


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""  # the thread or process has ended meanwhile
