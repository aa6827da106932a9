"""Languages: messages, direction, digits, calendars and the spelling of names. Knows no tenant and no page."""

from qanun.i18n.locales import Locale, get_locale, locales, negotiate
from qanun.i18n.messages import N_, Message, resolve
from qanun.i18n.names import fold_name
from qanun.i18n.numbers import format_number, parse_decimal, to_ascii_digits
from qanun.i18n.values import isolate, v

__all__ = [
    "N_",
    "Locale",
    "Message",
    "fold_name",
    "format_number",
    "get_locale",
    "isolate",
    "locales",
    "negotiate",
    "parse_decimal",
    "resolve",
    "to_ascii_digits",
    "v",
]
