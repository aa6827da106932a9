"""What an installed distribution says of its migrations: where they are and which tables are its own.

Apart from `migrations.py`, which does the work with Alembic: the web server knows its lineages and never runs them, and
does not load Alembic for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lineage:
    """The migrations of one distribution: `directory` holds `versions/`; tables start with `prefix`."""

    slug: str
    directory: Path

    @property
    def prefix(self) -> str:
        return f"{self.slug}_"

    @property
    def version_table(self) -> str:
        return f"alembic_version_{self.slug}"

    def owns(self, table: str) -> bool:
        return table.startswith(self.prefix)
