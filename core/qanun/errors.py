"""The error family: what can go wrong in words that a screen, an API answer and a log line can share.

Every error that a person may cause or meet derives from `QanunError` and knows its HTTP status. It is not the place for
programming mistakes: those stay ordinary exceptions and end as a 500 with a reference number.
"""

from __future__ import annotations

from collections.abc import Mapping


class QanunError(Exception):
    """Base of all expected errors. `code` is stable and machine-readable, `message` is English for logs and APIs."""

    status = 500
    code = "error"

    def __init__(self, message: str = "", **details: object) -> None:
        super().__init__(message or self.code)
        self.message = message or self.code
        self.details = details


class NotFound(QanunError):
    """The thing does not exist — or belongs to another clinic; the two are never told apart."""

    status = 404
    code = "not-found"


class Unauthenticated(QanunError):
    """Nobody is signed in, or the session has ended."""

    status = 401
    code = "unauthenticated"


class Forbidden(QanunError):
    """Signed in, but not allowed to do this."""

    status = 403
    code = "forbidden"


class RecordClosed(Forbidden):
    """The patient's record is closed to all but named people; in an emergency the glass can be broken."""

    code = "record-closed"


class ConfirmationNeeded(QanunError):
    """Signed in and allowed, but too long ago for this act: the person says once more who they are, and it goes on."""

    status = 403
    code = "confirm"


class Invalid(QanunError):
    """Input that cannot be accepted. `fields` maps a field's name to the sentence shown beside it."""

    status = 422
    code = "invalid"

    def __init__(self, fields: Mapping[str, object] | None = None, message: str = "", **details: object) -> None:
        self.fields: dict[str, object] = dict(fields or {})
        super().__init__(message or "invalid: " + ", ".join(sorted(self.fields)), **details)


class Conflict(QanunError):
    """The state changed meanwhile (a slot was taken, a note was edited elsewhere); nothing was written."""

    status = 409
    code = "conflict"


class TooMany(QanunError):
    """A limit was reached; `retry_after` seconds later it may work."""

    status = 429
    code = "too-many"

    def __init__(self, message: str = "", *, retry_after: int = 60, **details: object) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class Unavailable(QanunError):
    """Something outside this process (database, media server) does not answer right now."""

    status = 503
    code = "unavailable"


class ConfigurationError(QanunError):
    """The process cannot start as it is set up; the message names the setting or the plugin."""

    code = "configuration"


class TenancyViolation(QanunError):
    """A statement or a row tried to leave its clinic. Always a programming error, always refused."""

    code = "tenancy-violation"
