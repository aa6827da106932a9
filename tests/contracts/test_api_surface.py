"""The public API is written down: what plugins may use changes only by a line that somebody has read."""

import subprocess
import sys

import qanun.api
from tests.contracts.write_api_surface import PATH, surface


def test_the_public_api_is_the_one_that_is_written_down():
    written, now = PATH.read_text(encoding="utf-8").splitlines(), surface().splitlines()
    how = "read the difference, then: python tests/contracts/write_api_surface.py"
    assert [line for line in written if line not in now] == [], f"gone or changed; {how}"
    assert [line for line in now if line not in written] == [], f"new; {how}"


def test_every_public_name_can_be_had_and_nothing_else_can():
    for name in qanun.api.__all__:
        assert getattr(qanun.api, name) is not None, name
    assert len(set(qanun.api.__all__)) == len(qanun.api.__all__)
    for name in ("tenant_session", "Database", "nothing"):
        assert not hasattr(qanun.api, name)


def test_a_name_is_imported_when_it_is_asked_for_and_not_before():
    code = (
        "import sys, qanun.api; before = set(sys.modules); qanun.api.Key; "
        "print('qanun.crypto' in before, 'qanun.crypto' in sys.modules, 'qanun.web' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True", "False"]
