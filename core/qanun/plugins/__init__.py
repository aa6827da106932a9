"""Discovery, hook specifications, version check and quarantine of plugins.

A plugin is asked once, at start, for frozen dataclasses; nothing here runs while a patient is waiting.
"""

from qanun.plugins.hookspecs import hookimpl
from qanun.plugins.loader import LoadedPlugin, Plugin, Plugins, load_plugins

__all__ = ["LoadedPlugin", "Plugin", "Plugins", "hookimpl", "load_plugins"]
