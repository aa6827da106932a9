"""Messages that are written once in English and shown in the reader's language later.

`N_("My day")` marks a text in code that runs before any reader is known (a navigation entry, a field's error); it
remembers which distribution's catalogue it belongs to.
"""

from __future__ import annotations

import sys
from typing import Any


class Message(str):
    """An English text with the gettext domain of the distribution that wrote it."""

    domain: str

    def __new__(cls, text: str, domain: str) -> Message:
        message = super().__new__(cls, text)
        message.domain = domain
        return message


def N_(text: str) -> Message:  # noqa: N802 - gettext's own name for a marker
    """Mark `text` for translation; the calling module's distribution is its domain."""
    return Message(text, sys._getframe(1).f_globals.get("__name__", "qanun").split(".", 1)[0])


def resolve(value: Any, locale: Any) -> str:
    """`value` in the language of `locale`: a marked message is translated, anything else is shown as it is."""
    if isinstance(value, Message):
        return str(locale.gettext(str(value), domain=value.domain))
    return str(value)
