"""Values that keep their order inside right-to-left text.

In an Arabic sentence a bare `3.5-5.0` is displayed as `5.0-3.5` and `-1.5` as `1.5-`: a clinical hazard. Every value,
range, unit, code, phone number and identifier goes through `v` (markup) or `isolate` (plain text).
"""

from __future__ import annotations

from typing import Any

from markupsafe import Markup, escape

LRI, PDI = "\u2066", "\u2069"


def v(value: Any) -> Markup:
    """`<bdi dir="ltr">…</bdi>`; a value and its unit belong into one call. None and "" give nothing."""
    if value is None or value == "":
        return Markup("")
    return Markup('<bdi dir="ltr">') + escape(value) + Markup("</bdi>")


def isolate(value: Any) -> str:
    """For plain text (messages, titles, attributes): the value between U+2066 and U+2069."""
    return f"{LRI}{value}{PDI}" if value not in (None, "") else ""
