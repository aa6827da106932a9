"""Reading one table of `site.toml`: every read notes what is wrong and goes on, so that all faults are told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qanun.api import ConfigurationError


class SiteFault(ConfigurationError):
    """`site.toml` cannot be used; `faults` is a list of (field, sentence)."""

    code = "site"

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        self.faults = faults
        super().__init__("site.toml cannot be used:\n" + "\n".join(f"  {name}: {text}" for name, text in faults))


#: A check returns what is wrong with a value, or an empty text.
Check = Callable[[str], str]


class TableReader:
    """One table of the file: every read notes what is wrong and goes on; `done` raises when anything was."""

    def __init__(self, table: Mapping[str, Any], path: str = "", shared: list[tuple[str, str]] | None = None) -> None:
        self._table, self._path = table, path
        self._faults: list[tuple[str, str]] = [] if shared is None else shared
        self._read: set[str] = set()
        self._children: list[TableReader] = []

    def fault(self, name: str, text: str) -> None:
        self._faults.append((f"{self._path}{name}", text))

    def _take(self, name: str) -> Any:
        self._read.add(name)
        return self._table.get(name)

    def table(self, name: str, *, needed: bool = True) -> TableReader:
        found = self._take(name)
        if found is None and needed:
            self.fault(name, f"the section [{self._path}{name}] is missing")
        if found is not None and not isinstance(found, Mapping):
            self.fault(name, f"must be a section: [{self._path}{name}]")
        child = TableReader(found if isinstance(found, Mapping) else {}, f"{self._path}{name}.", self._faults)
        child._silent = found is None and needed
        self._children.append(child)
        return child

    _silent = False

    def text(self, name: str, *, usual: str | None = None, check: Check | None = None, most: int = 255) -> str:
        found = self._take(name)
        if found is None:
            if usual is None and not self._silent:
                self.fault(name, "is missing")
            return usual or ""
        if not isinstance(found, str) or not found.isprintable():
            self.fault(name, f"must be one line of text, not {found!r}")
            return usual or ""
        value = found.strip()
        if not value and usual is None:
            self.fault(name, "is empty")
        elif len(value) > most:
            self.fault(name, f"is longer than {most} letters")
        elif value and check is not None and (wrong := check(value)):
            self.fault(name, f"{value!r} {wrong}")
        return value

    def choice(self, name: str, values: tuple[str, ...], *, usual: str) -> str:
        def one_of(value: str) -> str:
            return "" if value in values else f"must be one of {', '.join(values)}"

        return self.text(name, usual=usual, check=one_of)

    def number(self, name: str, *, usual: int | None = None, least: int, most: int) -> int:
        found = self._take(name)
        if found is None and usual is not None:
            return usual
        if not isinstance(found, int) or isinstance(found, bool) or not least <= found <= most:
            shown = "is missing" if found is None else f"{found!r} must be a whole number from {least} to {most}"
            self.fault(name, shown)
            return usual if usual is not None else least
        return found

    def flag(self, name: str, *, usual: bool) -> bool:
        found = self._take(name)
        if found is not None and not isinstance(found, bool):
            self.fault(name, f"must be true or false, not {found!r}")
        return found if isinstance(found, bool) else usual

    def items(self, name: str, check: Check, *, least: int = 0) -> tuple[str, ...]:
        found = self._take(name)
        if found is None:
            found = []
        if not isinstance(found, list) or not all(isinstance(item, str) and item.isprintable() for item in found):
            self.fault(name, "must be a list of texts")
            return ()
        for item in found:
            if wrong := check(item):
                self.fault(name, f"{item!r} {wrong}")
        if len(found) < least and not self._silent:
            self.fault(name, f"needs at least {least}")
        return tuple(found)

    def done(self) -> None:
        self._unknown()
        if self._faults:
            raise SiteFault(self._faults)

    def _unknown(self) -> None:
        for name in self._table:
            if name not in self._read:
                self.fault(name, "is not known; look for a typing mistake")
        for child in self._children:
            child._unknown()
