"""Messages to patients outside of the portal, by whatever channel is there: a word that something waits, never what it says.

Core brings e-mail, where the machine has a mail server to hand it to (`QANUN_SMTP_HOST`); plugins bring others. A message is
a job of the act's own transaction, tried again when the server is away. Without any channel nothing is sent, and whoever
asked is told so: `notify_patient` gives the channel's id or an empty text.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import make_msgid

from sqlalchemy import select

from qanun.config import Config
from qanun.context import Context, ResourceRef
from qanun.errors import Unavailable
from qanun.i18n import N_
from qanun.identity import Patient
from qanun.jobs import Job

NOTIFY_JOB = "core.notify_patient"
_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class NotificationChannel:
    """A way to reach a patient. `reaches(ctx, patient)` tells whether it could; `send(ctx, patient, subject, text)` does it,
    and raises when it should be tried again. The lowest `order` that reaches is taken."""

    id: str
    label: str
    reaches: Callable[[Context, Patient], bool]
    send: Callable[[Context, Patient, str, str], Awaitable[None]]
    order: int = 100


async def notify_patient(ctx: Context, patient_id: uuid.UUID, subject: str, text: str) -> str:
    """Send a patient these words after the transaction. They travel in the clear: nothing of the record may be in them.

    Gives the id of the channel that will carry them; empty when none reaches this patient.
    """
    person = (await ctx.db.execute(select(Patient).where(Patient.id == patient_id))).scalar_one_or_none()
    if person is None:
        return ""
    for channel in sorted(ctx.runtime.registry.all(NotificationChannel), key=lambda one: (one.order, one.id)):
        if _enabled(ctx, channel) and channel.reaches(ctx, person):
            ctx.defer(NOTIFY_JOB, channel=channel.id, patient_id=str(patient_id), subject=subject, text=text)
            return channel.id
    return ""


def _enabled(ctx: Context, channel: NotificationChannel) -> bool:
    owner = channel.id.split(".", 1)[0]
    return owner == "core" or owner in ctx.enabled


async def _send(ctx: Context, channel: str, patient_id: str, subject: str, text: str) -> None:
    found = ctx.runtime.registry.get(NotificationChannel, channel)
    statement = select(Patient).where(Patient.id == uuid.UUID(patient_id))
    person = (await ctx.db.execute(statement)).scalar_one_or_none()
    # An address may have been taken away since, or the plugin switched off: then there is nothing to do any more.
    if found is None or person is None or not _enabled(ctx, found) or not found.reaches(ctx, person):
        return
    await found.send(ctx, person, subject, text)
    ctx.audit(
        "core.patient.notify", patient_id=person.id, entity=ResourceRef("Patient", person.id),
        detail={"channel": channel},
    )  # fmt: skip


JOBS = (Job(id=NOTIFY_JOB, run=_send),)


# --- e-mail -------------------------------------------------------------------------------------------------------------


def _by_mail(ctx: Context, person: Patient) -> bool:
    config: Config = ctx.runtime.config
    return bool(config.smtp_host and config.mail_from and _address(person.email))


def _address(text: str) -> Address | None:
    """The address as mail is sent to it; None for what is none (a line break in it would be another header)."""
    try:
        found = Address(addr_spec=text.strip())
    except (ValueError, IndexError, MessageError):  # which of them depends on Python's release
        return None
    return found if found.username and "." in found.domain else None


async def _mail(ctx: Context, person: Patient, subject: str, text: str) -> None:
    config: Config = ctx.runtime.config
    to = _address(person.email)
    assert to is not None
    message = EmailMessage()
    message["From"] = config.mail_from
    message["To"] = to
    message["Subject"] = " ".join(subject.split())
    message["Message-ID"] = make_msgid(domain=config.mail_from.rpartition("@")[2].rstrip(">") or None)
    # What machines send is answered by no other machine.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    try:
        await asyncio.to_thread(_hand_over, config, message)
    except (OSError, smtplib.SMTPException) as error:
        # Not the server's words: they repeat the address.
        raise Unavailable(f"the mail server did not take it: {type(error).__name__}") from None


def _hand_over(config: Config, message: EmailMessage) -> None:
    trusted = ssl.create_default_context()
    if config.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(config.smtp_host, config.smtp_port, timeout=_TIMEOUT_S, context=trusted)
    else:
        server = smtplib.SMTP(config.smtp_host, config.smtp_port, timeout=_TIMEOUT_S)
    with server:
        if config.smtp_security == "starttls":
            server.starttls(context=trusted)
        if config.smtp_user and config.smtp_password_file is not None:
            server.login(config.smtp_user, config.smtp_password_file.read_text(encoding="utf-8").strip())
        server.send_message(message)


CHANNELS = (NotificationChannel(id="core.mail", label=N_("E-mail"), reaches=_by_mail, send=_mail, order=50),)
