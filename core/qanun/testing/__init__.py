"""What plugin authors test with: real PostgreSQL, always two clinics, clients signed in in any role.

Installed as a pytest plugin (`pytest11`). Nothing here is imported by the product.
"""

from qanun.testing.clinics import Clinic
from qanun.testing.postgres import ScratchPostgres

__all__ = ["Clinic", "ScratchPostgres"]
