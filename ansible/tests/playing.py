"""Running a playbook as an operator does, and hearing what it said."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import bootstrap
import yaml

HERE = Path(__file__).resolve().parent
PASSWORD = "korrekt-pferd-batterie-7"
#: Where the server's disk for backups is mounted.
BACKUPS = "/srv/backup"


@dataclass(slots=True)
class Played:
    """What a playbook said: `code`, all its words, the recap's numbers, seconds."""

    code: int
    said: str
    seconds: float
    recap: dict[str, int] = field(default_factory=dict)


def play(name: str, inventory: Path | None = None, *words: str, **variables: object) -> Played:
    """Run a playbook from ansible/, as README.md says, with variables and further words of the command line."""
    command = [str(bootstrap.PYTHON.with_name("ansible-playbook")), name, *words]
    command += ["-i", str(inventory)] if inventory else []
    command += ["-e", yaml.safe_dump(variables, default_flow_style=True, width=10_000).strip()] if variables else []
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False, timeout=580,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout + done.stderr
    recap = {
        key: int(value)
        for key, value in re.findall(r"(ok|changed|unreachable|failed|skipped|rescued|ignored)=(\d+)", said)
    }
    return Played(done.returncode, said, time.monotonic() - began, recap)
