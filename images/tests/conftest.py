"""What the image's tests share: one image, built twice as differently as this machine can, and a container that it starts as."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from qanun_images import box as boxes  # noqa: E402
from qanun_images import cli, tools, verify  # noqa: E402
from qanun_images.places import CACHE  # noqa: E402

SITE = f"""
version = 1
language = "ar"

[clinic]
name = "Al-Razi Family Clinic"
name_alt = "عيادة الرازي"
slug = "al-razi"
timezone = "Africa/Casablanca"

[administrator]
name = "Salma Idrissi"
email = "admin@al-razi.example"

[hosts]
names = ["clinic.lan", "{boxes.ADDRESS}"]

[network]
mode = "static"
interface = "host*"
address = "{boxes.ADDRESS}/24"
"""


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        # Beside others a machine gets one processor: two emulated ones that share a real one wait for each other.
        os.environ.setdefault("QANUN_VM_PROCESSORS", "1")


class Built:
    """`folder` holds a build with its tree; `verdict` is what `images/verify` said of the second one, `code` how it ended."""

    def __init__(self, folder: Path, code: int, verdict: str) -> None:
        self.folder, self.code, self.verdict = folder, code, verdict
        self.tree, self.image = folder / "tree", folder / "slot.img"


@pytest.fixture(scope="session")
def built():
    reason = tools.can_enter()
    if reason:
        pytest.skip(reason)
    given = os.environ.get("QANUN_IMAGE_BUILT")
    if given:  # for whoever works on these tests: a build with its tree, made before
        return Built(Path(given), 0, "")
    folder = CACHE / "tests"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = verify.main(["--only", "slot", "--keep", str(folder)])
    if code == cli.STALE:
        pytest.skip("the mirror no longer has what debs.lock names; refresh it with ./images/build lock")
    if not (folder / "manifest.json").exists():
        pytest.fail("the image was not built; the output above says why")
    return Built(folder, code, said.getvalue())


class Kept:
    """A box that can be started again over the same data; everything else is the running box's."""

    def __init__(self, image: Path, work: Path) -> None:
        self._image, self._work, self._open = image, work, contextlib.ExitStack()
        self.start()

    def start(self, more: Sequence[str] = (), site: str | None = SITE) -> None:
        """`more` are further options of systemd-nspawn; without a `site` the box has the file that is there, or none."""
        self._running = self._open.enter_context(boxes.started(self._image, self._work, site=site, more=more))
        self._running.wait_healthy(150)

    def stop(self) -> None:
        self._open.close()

    @contextlib.contextmanager
    def data_put_back(self) -> Iterator[None]:
        """Whatever is done to a stopped box's data in the block: afterwards it is as it was."""
        var, before = self._work / "var", self._work / "var.before"
        subprocess.run(["cp", "--archive", "--reflink=auto", var, before], check=True)
        try:
            yield
        finally:
            shutil.rmtree(var)
            before.rename(var)

    def __getattr__(self, name: str):
        return getattr(self._running, name)


@pytest.fixture(scope="session")
def box(built):
    """The built slot as a container with a site of its own, given some time to serve pages."""
    reason = boxes.cannot()
    if reason:
        pytest.skip(reason)
    with boxes.temporary() as place:
        kept = Kept(built.image, Path(place))
        yield kept
        kept.stop()


@pytest.fixture(scope="session")
def releases():
    """A build with its disk and installer, trusted to a key of this run's own."""
    from images.tests import machines

    reason = machines.cannot()
    if reason:
        pytest.skip(reason)
    try:
        run = os.environ.get("QANUN_TEST_RUN") or os.environ.get("PYTEST_XDIST_TESTRUNUID", "")
        return machines.Releases(machines.PLACE, run)
    except LookupError as stale:
        pytest.skip(str(stale))


@pytest.fixture(scope="session")
def lived(releases):
    """A clinic that was worked in, frozen."""
    from images.tests.lived import Lived

    return Lived(releases)


@pytest.fixture(scope="session")
def waiting(releases):
    """A bare machine that waits for whoever reads its screen, frozen."""
    from images.tests.lived import Bare

    return Bare(releases)
