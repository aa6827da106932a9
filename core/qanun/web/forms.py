"""Form bodies: what a person typed, kept as typed, with limits.

A page that refuses input shows it again from here. Structs (msgspec) are for JSON bodies; forms stay text until the
service has looked at them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from litestar import Request
from litestar.datastructures import UploadFile

from qanun.errors import Invalid
from qanun.i18n import N_

MAX_FIELDS = 200
MAX_TEXT = 200_000
#: Fields of the page that asks for a confirmation; they travel with the form it lets through and are no part of it.
OWN = "qanun_"
#: Where a request's form is kept for who renders it again.
_KEPT = "qanun_form"


class Form(Mapping[str, str]):
    """Text fields by name (the last one wins), lists by `all()`, uploads by `file()`."""

    def __init__(self, fields: Mapping[str, list[str]], files: Mapping[str, UploadFile] | None = None) -> None:
        self._fields = dict(fields)
        self._files = dict(files or {})

    def __getitem__(self, name: str) -> str:
        return self._fields[name][-1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def text(self, name: str, default: str = "") -> str:
        """The field, stripped at both ends."""
        values = self._fields.get(name)
        return values[-1].strip() if values else default

    def all(self, name: str) -> list[str]:
        return [value.strip() for value in self._fields.get(name, [])]

    def flag(self, name: str) -> bool:
        return self.text(name) in {"1", "on", "true", "yes"}

    def uuid(self, name: str) -> uuid.UUID:
        """Raises Invalid naming the field when it is missing or not an id."""
        try:
            return uuid.UUID(self.text(name))
        except ValueError:
            raise Invalid({name: N_("Choose one of the listed values.")}) from None

    def file(self, name: str) -> UploadFile | None:
        return self._files.get(name)

    def items_all(self) -> list[tuple[str, str]]:
        """Every field as it was sent, repeated ones too."""
        return [(name, value) for name, values in self._fields.items() for value in values]

    @property
    def has_files(self) -> bool:
        return any(file.filename for file in self._files.values())


async def provide_form(request: Request[Any, Any, Any]) -> Form:
    """The request's form. Raises Invalid when it has too many fields, too long a text, or cannot be read."""
    try:
        data = await request.form()
    except (ValueError, KeyError, UnicodeDecodeError):
        raise Invalid(message="the form could not be read") from None
    fields: dict[str, list[str]] = {}
    files: dict[str, UploadFile] = {}
    count = 0
    for name, value in data.multi_items():
        count += 1
        if count > MAX_FIELDS:
            raise Invalid(message="too many fields")
        if isinstance(value, UploadFile):
            files[name] = value
            continue
        text = str(value).replace("\x00", "")
        if len(text) > MAX_TEXT:
            raise Invalid({name: N_("This text is too long.")})
        fields.setdefault(name, []).append(text)
    sent = Form({name: values for name, values in fields.items() if not name.startswith(OWN)}, files)
    own = Form({name.removeprefix(OWN): values for name, values in fields.items() if name.startswith(OWN)})
    request.scope[_KEPT] = (sent, own)  # type: ignore[literal-required]
    return sent


def kept_forms(request: Request[Any, Any, Any]) -> tuple[Form, Form]:
    """The form that came with this request, if anybody has read it, and the confirmation's own fields (`password`, `to`)."""
    found: Any = request.scope.get(_KEPT)
    return found if found is not None else (Form({}), Form({}))
