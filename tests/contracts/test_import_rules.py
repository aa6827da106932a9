"""The import rules of pyproject.toml hold: floors, plugins apart, plugins only through the public API."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(config: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LINT, "--config", str(config), "--no-cache"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_every_rule_is_kept():
    answer = lint(ROOT / "pyproject.toml")
    assert answer.returncode == 0, answer.stdout[-4000:]
    assert f"{len(RULES['contracts'])} kept, 0 broken" in answer.stdout


def test_a_rule_that_is_broken_is_noticed(tmp_path):
    config = tmp_path / "rules.toml"
    config.write_text(
        """[tool.importlinter]
root_packages = ["qanun"]
[[tool.importlinter.contracts]]
name = "crypto knows no errors"
type = "forbidden"
source_modules = ["qanun.crypto"]
forbidden_modules = ["qanun.errors"]
"""
    )
    answer = lint(config)
    assert answer.returncode != 0
    assert "qanun.crypto.errors -> qanun.errors" in answer.stdout


def test_every_plugin_and_every_room_is_under_the_rules():
    packages = (*ROOT.glob("plugins/*/qanun_*"), *ROOT.glob("appliance/qanun_*"))
    plugins = {path.name for path in packages if path.is_dir()}
    contracts = {contract["id"]: contract for contract in RULES["contracts"]}
    assert plugins | {"qanun"} == set(RULES["root_packages"])
    assert plugins == set(contracts["plugins-apart"]["modules"])
    assert plugins == set(contracts["public-api"]["source_modules"])
    rooms = {path.stem for path in (ROOT / "core" / "qanun").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms -= {"__init__", "__main__", "__pycache__", "migrations"}
    floors = {room for floor in contracts["floors"]["layers"] for room in floor.split(" | ")}
    assert rooms == floors
    assert {f"qanun.{room}" for room in rooms - {"api"}} == set(contracts["public-api"]["forbidden_modules"])


def test_a_web_process_carries_no_media_engine():
    """Each takes tens of megabytes, in every web process; media workers are processes of their own."""
    code = (
        "import sys, qanun.app.web; from qanun.app.build import gather; gather(); "
        "print(sorted({'av', 'aiortc', 'openai', 'weasyprint', 'qanun_telemedicine.sfu.room'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.strip() == "[]"
