"""The whole box: how soon it is there, what it needs at rest, and how long the playbooks take on a stock server.

python -m tests.load box [--no-image] [--no-playbooks]

Root is needed, and what `./tests/run` installs. The image is built (or taken from its cache) and started as a container; the
playbooks install this checkout onto a stock Debian 13 in another. What only a virtual machine shows is timed by the long tests of
images/.
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

_SETTLE_S = 60
# Memory is counted once where several processes share it.
_RESIDENT = "cat /proc/[0-9]*/smaps_rollup 2>/dev/null | awk '/^Pss:/ {sum += $2} END {print sum}'"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load box", description="The box from outside.")
    parser.add_argument("--no-image", action="store_true", help="leave out the image and its container")
    parser.add_argument("--no-playbooks", action="store_true", help="leave out the stock server")
    options = parser.parse_args(arguments)
    bars: list[Bar] = []
    if not options.no_image:
        bars += _image()
    if not options.no_playbooks:
        bars += _playbooks()
    return judged(bars)


def _image() -> list[Bar]:
    from qanun_images import box as boxes
    from qanun_images import cli
    from qanun_images.places import CACHE

    from images.tests.conftest import SITE

    if impossible := boxes.cannot():
        raise SystemExit(impossible)
    out = CACHE / "measured"
    cli.main(["fetch"])
    began = time.perf_counter()
    if code := cli.main(["--out", str(out)]):
        raise SystemExit(code)
    bars = [
        Bar("image built, Debian kept from before", time.perf_counter() - began, 300, "s"),
        Bar("slot", (out / "slot.img").stat().st_size / 1e6, 500, "MB"),
    ]
    with boxes.temporary() as place:
        for which in ("first", "second"):
            began = time.perf_counter()
            with boxes.started(out / "slot.img", Path(place), site=SITE) as box:
                box.wait_healthy(300)
                bars.append(Bar(f"container answers, {which} start", time.perf_counter() - began, 90, "s"))
                if which == "second":
                    time.sleep(_SETTLE_S)
                    resident = int(box.run("sh", "-c", _RESIDENT).stdout) / 1024
                    bars.append(Bar("memory of the whole box at rest", resident, 1024, "MB"))
    return bars


def _playbooks() -> list[Bar]:
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
                played = [
                    play(name, inventory, qanun_release=str(release)) for name in ("install.yml", "configure.yml")
                ]
                for one in played:
                    if one.code:
                        raise SystemExit(one.said)
                bars.append(Bar(f"playbooks, {which} run", sum(one.seconds for one in played), limit, "s"))
                if which == "second":
                    bars.append(Bar("changed by the second run", sum(one.recap["changed"] for one in played), 0, ""))
    return bars
