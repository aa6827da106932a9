"""Writes `runtime.lock` and `tests.lock` anew from the distributions, `runtime.in` and `tests.in`. For maintainers.

Needs `uv` on PATH. The locks carry hashes and no index address: whoever installs uses the package index of their own
machine, and a changed file is refused wherever it comes from. They hold for CPython 3.11 and later on Linux.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
OURS = {"qanun": ROOT / "core"} | {f"qanun-{path.name}": path for path in sorted((ROOT / "plugins").iterdir())}
OURS["qanun-appliance"] = ROOT / "appliance"


def compile_lock(target: str, *inputs: str) -> None:
    sources = "".join(f"{name} @ file://{path}\n" for name, path in OURS.items())
    with tempfile.NamedTemporaryFile("w", suffix=".in") as ours:
        ours.write(sources)
        ours.flush()
        command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--quiet"]
        command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header"]
        command += [word for name in OURS for word in ("--no-emit-package", name)]
        command += ["--output-file", str(HERE / target), *(str(HERE / name) for name in inputs), ours.name]
        subprocess.run(command, check=True, cwd=ROOT)
    text = (HERE / target).read_text(encoding="utf-8")
    if "://" in text:
        raise SystemExit(f"{target} names an address: it must not be committed")
    print(f"{target}: {text.count('==')} distributions")


def main() -> int:
    upgrade = "--upgrade" in sys.argv[1:]
    for name in ("runtime.lock", "tests.lock"):
        if upgrade:
            (HERE / name).unlink(missing_ok=True)
    compile_lock("runtime.lock", "runtime.in")
    compile_lock("tests.lock", "runtime.in", "tests.in", "runtime.lock")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
