"""The `qanun` command: what an operator types, and what services are started with."""

from qanun.cli.main import main

__all__ = ["main"]
