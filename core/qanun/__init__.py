"""Qanun: a clinic in a box. Plugins import `qanun.api`; everything else here is internal."""

__version__ = "0.1.0"
