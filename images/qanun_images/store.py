"""The store of package files, by the hash of their content: what is there need not be fetched, and cannot be another file.

Fetching is apt's own download program, so that the machine's proxies and kinds of mirror work. A file that the mirror no
longer has makes the lock stale, and that is told from a mirror that does not answer.
"""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bootstrap import Missing, Steps, run

from qanun_images import sources
from qanun_images.places import STORE, Stale
from qanun_images.sources import Deb

_HELPER = Path("/usr/lib/apt/apt-helper")
_BATCH = 12


def place(deb: Deb) -> Path:
    return STORE / f"{deb.sha256}.deb"


def missing(debs: Iterable[Deb]) -> list[Deb]:
    return [deb for deb in debs if not place(deb).exists()]


def fetch(debs: Sequence[Deb], steps: Steps, *, offline: bool = False) -> None:
    """Bring what the store lacks. Raises Stale with the names that the mirror no longer has, Missing when it does not answer."""
    STORE.mkdir(parents=True, exist_ok=True)
    wanted = missing(debs)
    if not wanted:
        return
    if offline:
        raise Missing(f"without a network, and the store lacks {named(wanted)}; fetch first with ./images/build fetch")
    addresses = sources.base_addresses()
    done, counting = [0], threading.Lock()

    def bring(batch: Sequence[Deb]) -> None:
        words: list[str] = []
        for deb in batch:
            address = addresses.get(deb.suite)
            if address:
                words += [f"{address.rstrip('/')}/{deb.path}", str(_part(deb)), f"SHA256:{deb.sha256}"]
        subprocess.run([_HELPER, "-q", "download-file", *words], capture_output=True, check=False)
        for deb in batch:
            part = _part(deb)
            if part.exists():
                if hashlib.sha256(part.read_bytes()).hexdigest() == deb.sha256:
                    part.replace(place(deb))
                else:
                    part.unlink()
        with counting:
            done[0] += len(batch)
            steps.tell(f"{done[0]} of {len(wanted)} packages fetched")

    batches = [wanted[start : start + _BATCH] for start in range(0, len(wanted), _BATCH)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(bring, batches))
    left = missing(wanted)
    if left:  # apt-helper stops a batch at its first fault: the rest of it singly
        list(map(bring, [[deb] for deb in left]))
        left = missing(wanted)
    if left:
        _say_why(left, steps)


def _part(deb: Deb) -> Path:
    return STORE / f"{deb.sha256}.part"


def named(debs: Sequence[Deb]) -> str:
    shown = ", ".join(f"{deb.name} {deb.version}" for deb in debs[:8])
    return shown + (f" and {len(debs) - 8} more" if len(debs) > 8 else "")


def gone(debs: Sequence[Deb], steps: Steps) -> list[Deb]:
    """Those that neither the store nor the mirror has. Raises Missing when the mirror does not answer."""
    left = missing(debs)
    if not left:
        return []
    sources.update(steps)
    there = sources.available()
    return [deb for deb in left if (deb.name, deb.version, deb.architecture) not in there]


def _say_why(left: Sequence[Deb], steps: Steps) -> None:
    lost = gone(left, steps)
    if not lost:
        raise Missing(f"the mirror did not deliver {named(left)}; try again")
    raise Stale(
        f"stale lock: the mirror no longer has {named(lost)}.\nRefresh it with ./images/build lock, look at what changed "
        "and commit it; or put the packages of the release that this lock belongs to into " + str(STORE)
    )


def control(deb: Deb) -> str:
    """The package's own description, as a repository's list carries it; kept beside the file."""
    kept = STORE / f"{deb.sha256}.control"
    if not kept.exists():
        kept.write_text(run(["dpkg-deb", "-f", place(deb)]).strip() + "\n", encoding="utf-8")
    return kept.read_text(encoding="utf-8")
