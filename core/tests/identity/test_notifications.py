"""Word outside of the portal: by e-mail to a real mail server, in a job of the act's own transaction, and by nothing where
nothing reaches the patient."""

import dataclasses
import email
import email.policy
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import select

from qanun.audit import AuditEvent
from qanun.config import Config
from qanun.errors import ConfigurationError, Unavailable
from qanun.notifications import NotificationChannel, notify_patient
from qanun.testing.plugin import free_port

SUBJECT, TEXT = "رسالة من العيادة", "Sign in to read it:\nhttps://clinic.test/portal"


class Post:
    """What came in; `refuses` every recipient when told to."""

    def __init__(self) -> None:
        self.letters: list[tuple[list[str], Any]] = []
        self.refuses = False

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.refuses:
            return "451 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append((envelope.rcpt_tos, message))
        return "250 taken"


@pytest.fixture
def post(assembly: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Post]:
    sink, port = Post(), free_port()
    server = Controller(sink, hostname="127.0.0.1", port=port)
    server.start()
    mailing = dataclasses.replace(
        assembly.runtime.config, smtp_host="127.0.0.1", smtp_port=port, smtp_security="none",
        mail_from="Al-Razi <clinic@al-razi.example>",
    )  # fmt: skip
    monkeypatch.setattr(assembly.runtime, "config", mailing)
    yield sink
    server.stop()


async def told(clinic: Any, patient: Any) -> str:
    async with clinic.context() as ctx:
        channel = await notify_patient(ctx, patient.id, SUBJECT, TEXT)
    await clinic.run_jobs()
    return channel


async def test_a_patient_with_an_address_gets_a_letter_that_says_what_it_was_given(clinic, other_clinic, post):
    patient = await clinic.patient(email="layla@example.org")
    assert await told(clinic, patient) == "core.mail"
    ((recipients, letter),) = post.letters
    assert recipients == ["layla@example.org"]
    assert (letter["subject"], letter["from"], letter["auto-submitted"]) == (
        SUBJECT, "Al-Razi <clinic@al-razi.example>", "auto-generated",
    )  # fmt: skip
    assert letter.get_content().split() == TEXT.split()
    async with clinic.context("system") as ctx:
        noted = select(AuditEvent.type).where(AuditEvent.patient_id == patient.id)
        assert "core.patient.notify" in set((await ctx.db.execute(noted)).scalars())
    async with other_clinic.context() as ctx:
        assert await notify_patient(ctx, patient.id, SUBJECT, TEXT) == "", "another clinic's patient is nobody"


async def test_whoever_cannot_be_reached_is_not_and_the_caller_knows(clinic, post):
    for nowhere in ("", "layla", "layla@", "layla@localhost", "a@b.example\nBcc: all@example.org"):
        async with clinic.context() as ctx:
            patient = await clinic.patient()
            (await ctx.db.merge(patient)).email = nowhere
        assert await told(clinic, patient) == "", nowhere
    async with clinic.context() as ctx:
        assert await notify_patient(ctx, uuid.uuid4(), SUBJECT, TEXT) == ""
    assert post.letters == []


async def test_without_a_mail_server_nothing_is_sent(clinic):
    assert await told(clinic, await clinic.patient(email="layla@example.org")) == ""


async def test_an_act_that_failed_sends_nothing(clinic, post):
    patient = await clinic.patient(email="layla@example.org")
    with pytest.raises(ZeroDivisionError):
        async with clinic.context() as ctx:
            assert await notify_patient(ctx, patient.id, SUBJECT, TEXT)
            raise ZeroDivisionError
    await clinic.run_jobs()
    assert post.letters == []


async def test_a_server_that_does_not_take_it_is_asked_again_and_its_words_are_not_kept(clinic, post):
    post.refuses = True
    patient = await clinic.patient(email="layla@example.org")
    channel = clinic.assembly.registry.get(NotificationChannel, "core.mail")
    async with clinic.context() as ctx:
        with pytest.raises(Unavailable) as refused:
            await channel.send(ctx, patient, SUBJECT, TEXT)
    assert "layla" not in str(refused.value)
    post.refuses = False
    async with clinic.context() as ctx:
        await channel.send(ctx, patient, SUBJECT, TEXT)
    assert len(post.letters) == 1


def test_a_way_to_speak_to_the_server_that_there_is_not_is_refused_at_start():
    environment = {"QANUN_STATE_DIR": "/x", "QANUN_DATABASE_URL": "postgresql://x", "QANUN_SMTP_SECURITY": "ssl3"}
    with pytest.raises(ConfigurationError, match="QANUN_SMTP_SECURITY"):
        Config.from_environment(environment)
    assert Config.from_environment({**environment, "QANUN_SMTP_SECURITY": ""}).smtp_security == "starttls"
