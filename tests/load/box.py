"""The whole box: how soon it is there, what it needs at rest, and how long the playbooks take on a stock server.

python -m tests.load box [--no-image] [--no-playbooks]

Root is needed, and what `./tests/run` installs. The image is built (or taken from its cache) and started as a container; the
playbooks install this checkout onto a stock Debian 13 in another. What only a virtual machine shows is timed by the long tests of
images/.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.load import playbooks
from tests.load.bars import Bar, judged

ROOT = Path(__file__).resolve().parents[2]
for _folder in ("images", "appliance"):
    sys.path.insert(0, str(ROOT / _folder))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load box", description="The box from outside.")
    parser.add_argument("--no-image", action="store_true", help="leave out the image and its container")
    parser.add_argument("--no-playbooks", action="store_true", help="leave out the stock server")
    options = parser.parse_args(arguments)
    bars: list[Bar] = []
    if not options.no_image:
        bars += _image()
    if not options.no_playbooks:
        bars += playbooks.measured()
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
                    time.sleep(playbooks.SETTLE_S)
                    resident = int(box.run("sh", "-c", playbooks.RESIDENT).stdout) / 1024
                    bars.append(Bar("memory of the whole box at rest", resident, 1024, "MB"))
    return bars
