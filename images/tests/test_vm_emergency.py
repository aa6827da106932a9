"""A start that cannot get as far as its services: nobody can sign in at that console, so it starts again and the tries are counted.

./tests/run images/tests/test_vm_emergency.py --long
"""

import pytest
from qanun_images import vm, vm_disks

from images.tests import machines

pytestmark = pytest.mark.long

SAID = "Qanun cannot start from this release; starting again in a minute."


def test_an_emergency_says_so_starts_again_and_uses_up_the_release_s_tries(releases, tmp_path):
    disk = releases.disk(tmp_path)
    name = f"qanun_{releases.version}"
    assert vm_disks.entries(disk) == [f"{name}+3.efi"]
    # What a start comes to whose disk is gone, and its words where this test reads.
    words = "systemd.unit=emergency.target console=ttyS0"
    with vm.started(disk, tmp_path / "machine", words=words) as machine:
        for number in (1, 2):
            machines.wait_for(lambda number=number: machine.printed().count(SAID) >= number, f"start {number} gives up")
        printed = machine.printed()
        assert "login:" not in printed and "Press Enter" not in printed and "root password" not in printed
        machine.cut()
    assert vm_disks.entries(disk) == [f"{name}+1-2.efi"]
