"""/opt/qanun in the tree: the locked wheels and our own, compiled for a root that never changes, with the translations."""

from __future__ import annotations

import shutil
from pathlib import Path

from bootstrap import Steps

from qanun_images import tools, wheels
from qanun_images.places import PYTHON, WHEELS

# pip comes from the tools and goes with them. A compiled file is trusted without a look at its source: both are read-only.
_INSTALL = f"""
set -eu
python3 -m venv --without-pip --symlinks /opt/qanun
PYTHONPATH=/run/pip /opt/qanun/bin/python -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --root-user-action ignore "$@"
rm -f /opt/qanun/bin/[aA]ctivate* /opt/qanun/.gitignore
rm -rf /opt/qanun/include
share=/opt/qanun/share/qanun
mkdir -p $share
cp -r /run/source/locale $share/locale
cd /
PYTHONDONTWRITEBYTECODE=1 /opt/qanun/bin/python -c '
import datetime, pathlib
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
for po in sorted(pathlib.Path("/opt/qanun/share/qanun/locale").glob("*/LC_MESSAGES/*.po")):
    catalogue = read_po(po.open("rb"), locale=po.parent.parent.name)
    catalogue.creation_date = catalogue.revision_date = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
    write_mo(po.with_suffix(".mo").open("wb"), catalogue)
'
find $share/locale -type f ! -name '*.mo' -delete
rm -rf $share/locale/glossary
find $share -type d -empty -delete
# Without the services' environment, at a prompt, the translations are found beside the code.
ln -s ../../../../share/qanun/locale /opt/qanun/lib/python{PYTHON}/site-packages/qanun/locale
# One process for each package, however many run at once: what a process compiled before shows in what it writes next.
cd /opt/qanun/lib/python{PYTHON}/site-packages
ls | xargs -P "$(nproc)" -I@ /opt/qanun/bin/python -m compileall -q --invalidation-mode unchecked-hash -s / "$PWD/@"
cd /
ln -s /opt/qanun/bin/qanun /usr/local/bin/qanun
chown -R root:root /opt/qanun
chmod -R u=rwX,go=rX /opt/qanun
"""


def install(steps: Steps, tree: Path, bench: Path, sources: Path, built: Path, epoch: int) -> None:
    """Into `tree`, from wheels that lie in the store and in `built`."""
    box = [wheel for wheel in wheels.read() if wheel.use == "box"]
    own = sorted(file.name for file in built.glob("*.whl"))
    # Fixed paths in a fixed order: pip writes down where it found a file.
    files = [*(f"/run/wheels/{wheel.file}" for wheel in box), *(f"/run/built/{name}" for name in own)]
    steps.tell(f"installing {len(files)} wheels")
    binds = {
        WHEELS: "/run/wheels", built: "/run/built", sources: "/run/source",
        bench / "usr/lib/python3/dist-packages/pip": "/run/pip/pip",
    }  # fmt: skip
    tools.run_in(tree, ["sh", "-c", _INSTALL, "sh", *files], binds=binds, epoch=epoch)
    shutil.rmtree(tree / "root/.cache", ignore_errors=True)
