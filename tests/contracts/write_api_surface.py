"""Writes `core/docs/api-surface.txt` anew: every name that plugins may use, what it is and how it is called.

A name that disappears or an argument that is renamed breaks somebody's plugin: read the difference before committing it.
"""

import dataclasses
import inspect
import re
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO, get_origin

import qanun.api
from qanun.db import Base

PATH = Path(__file__).parents[2] / "core" / "docs" / "api-surface.txt"
_HEADER = """\
# The public API, `qanun.api`: a plugin imports these names and nothing else of qanun.
# Written by tests/contracts/write_api_surface.py; a test compares. Arguments are added, never renamed.

"""


def surface() -> str:
    """The file as it should be."""
    lines = [_line(name, getattr(qanun.api, name)) for name in sorted(qanun.api.__all__)]
    return _HEADER + "\n".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    # Addresses of defaults differ from run to run; whether an annotation was written as text is nobody's business.
    text = re.sub(r" at 0x[0-9a-f]+", "", _described(name, value))
    return re.sub(r"\b(?:typing|collections\.abc|contextlib|datetime|uuid|decimal|qanun(?:\.\w+)*)\.(?=\w)", "", text)


def _described(name: str, value: Any) -> str:
    if not inspect.isclass(value):
        if get_origin(value) is not None:
            return f"{name}: type {value}"
        if not inspect.isroutine(value):
            return f"{name}: value of {type(value).__name__}"
        kind = "async function" if inspect.iscoroutinefunction(value) else "function"
        return f"{name}: {kind} {_signature(value)}"
    if issubclass(value, Base):
        columns = () if value.__dict__.get("__abstract__") else (column.key for column in value.__mapper__.columns)
        return f"{name}: table with {', '.join(columns)}" if columns else f"{name}: base of tables"
    if issubclass(value, Exception):
        return f"{name}: exception {_signature(value)}"
    if issubclass(value, Enum):
        return (
            f"{name}: enumeration of {', '.join(value.__members__)}"
            if value.__members__
            else f"{name}: base of enumerations"
        )
    members = sorted(
        member
        for member, what in inspect.getmembers(value)
        if not member.startswith("_") and (callable(what) or isinstance(what, property))
    )
    kind = "dataclass" if dataclasses.is_dataclass(value) else "class"
    return f"{name}: {kind} {_signature(value)}" + (f" with {', '.join(members)}" if members else "")


class _Written(str):
    """An annotation that shows as it was written, whether its module postpones annotations or not."""

    def __repr__(self) -> str:
        return str(self).strip("\"'")


def _signature(value: Any) -> str:
    signature = inspect.signature(value)
    parameters = [one.replace(annotation=_annotation(one.annotation)) for one in signature.parameters.values()]
    returns = inspect.Signature.empty if inspect.isclass(value) else _annotation(signature.return_annotation)
    return str(signature.replace(parameters=parameters, return_annotation=returns))


def _annotation(annotation: Any) -> Any:
    if annotation is inspect.Signature.empty:
        return annotation
    if annotation is BinaryIO:  # inspect shows it as <class ...>
        return _Written("BinaryIO")
    return _Written(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(surface(), encoding="utf-8")
