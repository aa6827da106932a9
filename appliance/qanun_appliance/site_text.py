"""A site's table as the text of `site.toml`, for whoever does not write it by hand. The reader is `site`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from qanun_appliance.places import Places
from qanun_appliance.secrets import give, write_private

_HEAD = "# What this machine is for. Change it, then: qanun appliance apply\n"


def site_text(table: Mapping[str, Any]) -> str:
    """Plain values first, then a section for each table; empty sections are left out."""
    lines = [f"{name} = {_value(value)}" for name, value in table.items() if not isinstance(value, Mapping)]
    for name, section in table.items():
        if isinstance(section, Mapping) and section:
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in section.items())]
    return _HEAD + "\n".join(lines) + "\n"


def write_site(places: Places, table: Mapping[str, Any]) -> None:
    """Whole or not at all; the web server's account may read it, nobody else."""
    places.data.mkdir(parents=True, exist_ok=True)
    write_private(places.site, site_text(table).encode(), 0o640)
    give(places.site, places, "root", "qanun")
    os.sync()


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # A basic string of TOML is spelled like JSON's, but for this one control character.
    return json.dumps(str(value), ensure_ascii=False).replace("\\u007f", "\\u007F").replace("\x7f", "\\u007F")
