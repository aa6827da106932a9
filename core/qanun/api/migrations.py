"""What migration files of plugins call; re-exported so that a migration imports nothing internal."""

from qanun.db.migrations import append_only, isolate

__all__ = ["append_only", "isolate"]
