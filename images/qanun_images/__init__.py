"""Makes Qanun's image: from two locks and this checkout to a slot, a boot file and a disk, byte for byte the same anywhere.

Plain Python 3.11 and its standard library. It decides what is in the image, not how the box is configured: that is
`qanun appliance apply`, at every start of the box.
"""

import sys
from pathlib import Path

# The checkout's own set-up (`bootstrap`) lies beside us and is no distribution.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "appliance"))
