"""The playbooks on a stock server: how long the first and the second run take, what the second changes, what the server needs at rest.

python -m tests.load playbooks

Root is needed, and what `./tests/run` installs: a stock Debian 13 is started as a container and given this checkout. The times count on
a machine that does nothing else.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.load.bars import Bar, judged

ROOT = Path(__file__).resolve().parents[2]
for _folder in ("images", "ansible", "ansible/tests", "appliance"):
    sys.path.insert(0, str(ROOT / _folder))

NAMES = ("install.yml", "configure.yml")
SETTLE_S = 60
# Memory is counted once where several processes share it.
RESIDENT = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {sum += $2} END {print sum}'"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.load playbooks", description="The playbooks on a stock server."
    )
    parser.parse_args(arguments)
    return judged(measured())


def measured() -> list[Bar]:
    import debian_server
    from playing import BACKUPS, play
    from trying import inventory_of, packed

    if impossible := debian_server.why_not():
        raise SystemExit(impossible)
    debian_server.tree()
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix="qanun-measured-", dir="/var/tmp") as place:
        release = packed(Path(place) / "release")
        with debian_server.started(Path(place)) as server:
            server.ssh(f"mkdir {BACKUPS}; apt-get -q update")
            inventory = inventory_of(server)
            for which, limit in (("first", 300), ("second", 30)):
                played = [play(name, inventory, qanun_release=str(release)) for name in NAMES]
                for one in played:
                    if one.code:
                        raise SystemExit(one.said)
                bars += [
                    Bar(f"{name}, {which} run", one.seconds, limit, "s")
                    for name, one in zip(NAMES, played, strict=True)
                ]
                bars.append(Bar(f"playbooks, {which} run", sum(one.seconds for one in played), limit, "s"))
                if which == "second":
                    bars.append(Bar("changed by the second run", sum(one.recap["changed"] for one in played), 0, ""))
            time.sleep(SETTLE_S)
            bars.append(Bar("memory of the whole server at rest", int(server.ssh(RESIDENT)) / 1024, 1024, "MB"))
    return bars
