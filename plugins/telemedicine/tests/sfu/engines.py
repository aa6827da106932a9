"""Which engines the tests run on: both, or the Python engine alone where nothing can compile the other."""

import pytest

from qanun_telemedicine.sfu import native


def _missing() -> str:
    try:
        native.load()
    except native.Unavailable as reason:
        return f"no C engine: {reason}"
    return ""


needs_c = pytest.mark.skipif(bool(_missing()), reason=_missing() or "it is here")
ENGINES = ["python", pytest.param("c", marks=needs_c)]
