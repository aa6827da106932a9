"""What holds of every playbook, role and example without any server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ANSIBLE = Path(__file__).resolve().parent.parent
PROGRAM = Path(sys.executable).parent
PLAYBOOKS = sorted(path.name for path in ANSIBLE.glob("*.yml"))
FILES = sorted(path for path in ANSIBLE.rglob("*.yml") if "tests" not in path.parts)
KEYWORDS = {
    "name", "when", "loop", "loop_control", "register", "changed_when", "failed_when", "check_mode", "no_log", "vars", "block",
    "rescue", "always", "become", "until", "retries", "delay", "notify", "delegate_to", "run_once", "args",
}  # fmt: skip
SECRETS = (
    "qanun_administrator_password",
    "qanun_backup_environment",
    "qanun_recovery_key",
    "qanun_certificate_key_file",
)


class _Strict(yaml.SafeLoader):
    """Says a name twice in one mapping: the second would silently win."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]  # type: ignore[no-untyped-call]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"{twice} stands twice, {node.start_mark}"
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _load(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)


def _tasks() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in FILES:
        if path.parent.name == "tasks":
            yield from _inside(path, _load(path))
        elif path.parent == ANSIBLE:
            for a_play in _load(path):
                for part in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                    yield from _inside(path, a_play.get(part, []))


def _inside(path: Path, tasks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for task in tasks:
        yield f"{path.relative_to(ANSIBLE)}: {task.get('name', task)}", task
        for part in ("block", "rescue", "always"):
            yield from _inside(path, task.get(part, []))


def test_ansible_understands_every_playbook():
    assert {"install", "configure", "upgrade", "rollback", "backup", "restore", "doctor", "fleet"} <= {
        name[:-4] for name in PLAYBOOKS
    }
    done = subprocess.run(
        [PROGRAM / "ansible-playbook", "--syntax-check", "-i", "inventory/fleet.yml", *PLAYBOOKS], cwd=ANSIBLE, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr


def test_only_what_ansible_itself_brings_is_used_and_no_error_is_ignored():
    counted = 0
    for where, task in _tasks():
        modules = set(task) - KEYWORDS
        assert "ignore_errors" not in task, where
        assert ("block" in task) or len(modules) == 1, f"{where}: {modules}"
        assert all(module.startswith("ansible.builtin.") for module in modules), f"{where}: {modules}"
        assert "ansible.builtin.shell" not in modules, f"{where}: a command needs no shell"
        counted += 1
    assert counted > 60
    assert not list(ANSIBLE.rglob("requirements.yml"))


def test_every_task_and_play_is_a_plain_sentence():
    names = [(where, task.get("name", "")) for where, task in _tasks()]
    names += [(path.name, a_play.get("name", "")) for path in FILES if path.parent == ANSIBLE for a_play in _load(path)]
    for where, name in names:
        assert re.fullmatch(r"[A-Z][^:{}_]{8,110}[a-z0-9]", name), where
        assert " " in name, where


def test_what_is_secret_is_never_in_a_log():
    """A task that is handed a secret prints nothing of itself; asking whether there is one is no handing over."""
    handed = 0
    for where, task in _tasks():
        modules = {key: value for key, value in task.items() if key not in KEYWORDS and not key.endswith(".assert")}
        text = json.dumps(modules) + json.dumps(task.get("args", {}))
        if any(secret in text for secret in SECRETS) or task.get("register") == "homecoming_typed":
            assert task.get("no_log") is True, where
            handed += 1
    assert handed >= 5
    assert "no_target_syslog = True" in (ANSIBLE / "ansible.cfg").read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ANSIBLE)))
def test_every_file_is_tidy(path):
    text = path.read_text(encoding="utf-8")
    lines = text.split("\n")
    assert text.startswith(("---\n", "# ")) and text.endswith("\n") and not text.endswith("\n\n")
    for number, line in enumerate(lines, 1):
        assert "\t" not in line and line == line.rstrip(), f"line {number}"
        assert len(line) <= 140, f"line {number}"
    _load(path)


def test_accounts_have_the_numbers_that_the_appliance_counts_on():
    from qanun_appliance.places import ACCOUNTS

    ours = _load(ANSIBLE / "roles/accounts/defaults/main.yml")["accounts_fixed"]
    assert [(one["name"], one["id"]) for one in ours] == [(name, number) for name, number, _ in ACCOUNTS]


@pytest.mark.parametrize("name", ["clinic", "fleet"])
def test_the_examples_give_a_site_that_the_appliance_accepts(name, tmp_path):
    from qanun_appliance.site import parse_site

    (tmp_path / "site.toml.j2").write_text((ANSIBLE / "roles/site/templates/site.toml.j2").read_text())
    # The role's own default would hide the inventory's site here.
    defaults = {
        key: value for key, value in _load(ANSIBLE / "roles/site/defaults/main.yml").items() if key != "qanun_site"
    }
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{
            "name": "Draw", "hosts": "clinics", "gather_facts": False, "connection": "local",
            "vars": defaults | {"ansible_python_interpreter": sys.executable},
            "tasks": [{"name": "Draw", "ansible.builtin.template": {
                "src": "site.toml.j2", "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}.toml", "mode": "0600"}}],
        }])
    )  # fmt: skip
    done = subprocess.run(
        [PROGRAM / "ansible-playbook", "-i", ANSIBLE / f"inventory/{name}.yml", tmp_path / "play.yml"], cwd=ANSIBLE, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sites = [parse_site(tomllib.loads(path.read_text(encoding="utf-8"))) for path in sorted(tmp_path.glob("*.toml"))]
    assert len(sites) == (1 if name == "clinic" else 4)
    assert len({site.clinic.slug for site in sites}) == len(sites)
    assert all(site.ssh == "keys" and site.clinic.name_alt.startswith("عيادة") for site in sites)


def test_what_the_operators_page_tells_to_type_exists():
    text = (ANSIBLE / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}ansible-playbook (.+)$", text, re.MULTILINE)
    assert {word for line in lines for word in re.findall(r"[a-z]+\.yml", line) if "-" not in word} >= set(PLAYBOOKS)
    roles = "".join(path.read_text(encoding="utf-8") for path in FILES)
    for line in lines:
        words = line.split()
        assert words[0] == "-i" and words[1] in {"my-clinic.yml", "my-fleet.yml"}, line
        assert [word for word in words[2:] if word.endswith(".yml") and word in PLAYBOOKS], line
        for name in re.findall(r"-e (\w+)=", line):
            assert name in roles, line
    for name in re.findall(r"`(qanun_\w+)`", text):
        assert name in roles, name
    for name in ("clinic", "fleet"):
        assert f"inventory/{name}.yml" in text and (ANSIBLE / f"inventory/{name}.yml").exists()
