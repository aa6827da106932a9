"""A plugin that names its commands apart: they are those of its manifest, and come without the rest of the product."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from qanun.app import CliCommand
from qanun.app.build import gather

APART = sorted(entry_points(group="qanun.commands"), key=lambda entry: entry.name)


@pytest.mark.parametrize("entry", APART, ids=lambda entry: entry.name)
def test_what_is_named_apart_is_what_the_manifest_names(entry):
    of_manifest = [item for item in gather()[0].all(CliCommand) if item.id.startswith(f"{entry.name}.")]
    assert [item.id for item in entry.load()] == [item.id for item in of_manifest]


@pytest.mark.parametrize("command", ["appliance update --help", "telemedicine turn-configuration"])
def test_a_command_of_a_machine_does_not_load_the_web_framework_or_the_database_layer(command):
    ask = (
        "import sys; from qanun.cli import main\n"
        f"try: main({command.split()!r})\nexcept SystemExit: pass\n"
        "print(sorted({'litestar', 'sqlalchemy', 'jinja2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
