"""Playbooks run against a machine as from somebody's own computer, over SSH."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from qanun_images.places import HERE

from images.tests import machines
from images.tests.machines import PATIENCE


class Played:
    """`code`, all that was said, and the numbers at its end (`changed`, `failed` …)."""

    def __init__(self, code, said):
        self.code, self.said = code, said
        self.recap = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", said.rpartition("RECAP")[2])}


def play(machine, work, playbook, **variables):
    """A playbook against the machine with the site of the tests; `variables` are given on the command line."""
    inventory = work / "operator.yml"
    # The port is ssh's affair: to the playbooks it is a machine that listens on 22, as it does.
    reached = (
        f"-o Port={machine.ssh_port} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
        f"-o ControlPath={work}/o-%C"
    )
    host = {"ansible_host": "127.0.0.1", "ansible_user": "root", "ansible_ssh_private_key_file": str(machine.key),
            "ansible_ssh_common_args": reached, "qanun_site": tomllib.loads(machines.site(machine.key))}  # fmt: skip
    inventory.write_text(json.dumps({"clinics": {"hosts": {"box": host}}}))
    command = [
        Path(sys.executable).with_name("ansible-playbook"),
        playbook,
        "-i",
        inventory,
        "-e",
        json.dumps(variables),
    ]
    done = subprocess.run(
        command, cwd=HERE.parent / "ansible", capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )
    return Played(done.returncode, done.stdout + done.stderr)
