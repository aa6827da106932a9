"""Demonstration clinics: two of them, one in English, one in Arabic, with people in every role.

Core makes clinics, staff and patients; plugins add their own through `demo_data`. All people are invented. It refuses to
touch a clinic that exists, but for giving it a day to show when it is opened again later.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import select

from qanun.access import Runtime, open_context
from qanun.app.build import Assembly
from qanun.app.demo_people import ARABIC, LATIN, NameList
from qanun.app.lifespan import DemoClinic, DemoSeeder
from qanun.context import SYSTEM, Context
from qanun.db import new_id
from qanun.i18n import get_locale
from qanun.identity import Membership, Patient, PatientAccount, PatientDraft, Practitioner, User, register_patient
from qanun.identity.passwords import hash_password
from qanun.tenancy import Tenant, TenantInfo, global_session

PASSWORD = "open sesame demo"  # noqa: S105 - of invented people on a demonstration appliance, printed at start
PATIENTS = 200


@dataclass(frozen=True, slots=True)
class SignIn:
    """A line of what `./appliance/try` prints."""

    clinic: str
    role: str
    name: str
    login: str
    path: str


@dataclass(frozen=True, slots=True)
class _Clinic:
    slug: str
    name: str
    name_alt: str
    locale: str
    timezone: str
    currency: str
    country: str
    phone: str
    names: NameList
    staff: tuple[tuple[str, str, str, str, str, str], ...]  # roles, e-mail, name, name_alt, specialty, room


_CLINICS = (
    _Clinic(
        "al-razi", "Al-Razi Family Clinic", "عيادة الرازي لطب الأسرة", "en", "Africa/Casablanca", "MAD", "MA",
        "+212 522 000 000", LATIN,
        (
            ("administrator", "admin@al-razi.example", "Salma Idrissi", "سلمى الإدريسي", "", ""),
            ("doctor", "dr.rahmani@al-razi.example", "Dr Nadia Rahmani", "د. نادية رحماني", "Family medicine", "2"),
            ("doctor", "dr.benali@al-razi.example", "Dr Karim Benali", "د. كريم بنعلي", "Internal medicine", "3"),
            ("nurse", "nurse@al-razi.example", "Amina Toure", "أمينة توري", "", "1"),
            ("reception", "desk@al-razi.example", "Yasmine Fassi", "ياسمين الفاسي", "", ""),
            ("lab-technician", "lab@al-razi.example", "Omar Ziani", "عمر الزياني", "", ""),
        ),
    ),
    _Clinic(
        "ibn-sina", "عيادة ابن سينا", "Ibn Sina Clinic", "ar", "Asia/Amman", "JOD", "JO", "+962 6 500 0000", ARABIC,
        (
            ("administrator", "admin@ibn-sina.example", "هالة المجالي", "Hala Majali", "", ""),
            ("doctor", "dr.khoury@ibn-sina.example", "د. ليلى خوري", "Dr Layla Khoury", "طب الأسرة", "1"),
            ("doctor", "dr.haddad@ibn-sina.example", "د. سامر حداد", "Dr Samer Haddad", "طب الأطفال", "2"),
            ("nurse", "nurse@ibn-sina.example", "رنا العبادي", "Rana Abbadi", "", ""),
            ("reception", "desk@ibn-sina.example", "دانا النابلسي", "Dana Nabulsi", "", ""),
            ("lab-technician", "lab@ibn-sina.example", "أنس الزعبي", "Anas Zoubi", "", ""),
        ),
    ),
)  # fmt: skip


async def seed(assembly: Assembly, say: Callable[[str], None] = print, *, patients: int = PATIENTS) -> list[SignIn]:
    """Make what is missing and return who can sign in. A clinic that exists is kept; its week is brought up to today."""
    runtime = assembly.runtime
    password = await hash_password(PASSWORD)
    sign_ins: list[SignIn] = []
    for number, clinic in enumerate(_CLINICS):
        tenant = await _tenant(runtime, clinic, password)
        if tenant is not None:
            say(f"{clinic.slug}: {len(clinic.staff)} members of staff")
            filled = DemoClinic(random=random.Random(number + 7))
            async with open_context(runtime, tenant, SYSTEM, get_locale(clinic.locale)) as ctx:
                await _patients(ctx, clinic, filled, patients, password)
            say(f"{clinic.slug}: {len(filled.patients)} patients")
            for seeder in assembly.registry.all(DemoSeeder):
                async with open_context(runtime, tenant, SYSTEM, get_locale(clinic.locale)) as ctx:
                    await seeder.seed(ctx, filled)
                say(f"{clinic.slug}: {seeder.id.split('.')[0]}")
        else:
            await _renew(assembly, clinic)
        sign_ins += [SignIn(clinic.name, roles, name, email, "/") for roles, email, name, *_ in clinic.staff]
        sign_ins.append(SignIn(clinic.name, "patient", "", f"patient@{clinic.slug}.example", f"/portal/{clinic.slug}"))
    return sign_ins


async def _renew(assembly: Assembly, clinic: _Clinic) -> None:
    """Opened on another day, a demonstration is to have a day to show."""
    async with global_session(assembly.runtime.database) as session:
        tenant = TenantInfo.of((await session.execute(select(Tenant).where(Tenant.slug == clinic.slug))).scalar_one())
    for seeder in assembly.registry.all(DemoSeeder):
        if seeder.renew is None:
            continue
        async with open_context(assembly.runtime, tenant, SYSTEM, get_locale(clinic.locale)) as ctx:
            listed = select(Patient).where(Patient.voided_at.is_(None), Patient.merged_into.is_(None))
            first = PatientAccount.login == f"patient@{clinic.slug}.example"
            portal = (await ctx.db.execute(select(PatientAccount.patient_id).where(first))).scalar_one_or_none()
            patients = list((await ctx.db.execute(listed.order_by(Patient.id).limit(PATIENTS))).scalars())
            patients.sort(key=lambda person: person.id != portal)  # the one of the portal account comes first
            doctors = list((await ctx.db.execute(select(Practitioner).order_by(Practitioner.id).limit(50))).scalars())
            days = ctx.local(ctx.now).date().toordinal()  # the same day looks the same, another one differs
            await seeder.renew(ctx, DemoClinic(random=random.Random(days), patients=patients, practitioners=doctors))


async def _tenant(runtime: Runtime, clinic: _Clinic, password: str) -> TenantInfo | None:
    async with global_session(runtime.database) as session:
        if (await session.execute(select(Tenant.id).where(Tenant.slug == clinic.slug))).first():
            return None
        tenant = Tenant(
            id=new_id(), slug=clinic.slug, name=clinic.name, name_alt=clinic.name_alt, locale=clinic.locale,
            timezone=clinic.timezone, currency=clinic.currency, country=clinic.country, phone=clinic.phone, active=True,
        )  # fmt: skip
        session.add(tenant)
        await session.flush()
        for roles, email, name, name_alt, specialty, _room in clinic.staff:
            user = User(id=new_id(), email=email, name=name, name_alt=name_alt, password=password, failures=0)
            session.add(user)
            await session.flush()
            practitioner = uuid.uuid5(tenant.id, email) if specialty else None
            session.add(
                Membership(user_id=user.id, tenant_id=tenant.id, roles=roles.split(), practitioner_id=practitioner)
            )
        await session.commit()
        return TenantInfo.of(tenant)


async def _patients(ctx: Context, clinic: _Clinic, filled: DemoClinic, count: int, password: str) -> None:
    users = {email: (name, alt, specialty, room) for _, email, name, alt, specialty, room in clinic.staff if specialty}
    for email, (name, alt, specialty, room) in users.items():
        practitioner = Practitioner(
            id=uuid.uuid5(ctx.tenant.id, email), name=name, name_alt=alt, specialty=specialty, room=room,
            licence=f"{ctx.tenant.country}-{20000 + len(filled.practitioners) * 417}",
        )  # fmt: skip
        ctx.db.add(practitioner)
        filled.practitioners.append(practitioner)
    rng = filled.random
    today = datetime.now(UTC).date()
    for number in range(count):
        sex = "female" if rng.random() < 0.54 else "male"
        given, given_alt = rng.choice(clinic.names.female if sex == "female" else clinic.names.male)
        family, family_alt = rng.choice(clinic.names.family)
        born = today - timedelta(days=int(rng.betavariate(1.6, 2.2) * 92 * 365) + 20)
        draft = PatientDraft(
            given=given, family=family, given_alt=given_alt, family_alt=family_alt, sex=sex,
            birth_date=born.isoformat(), phone=f"{clinic.names.dial} {rng.randrange(10**7, 10**8)}",
            email=f"patient@{clinic.slug}.example" if number == 0 else "", language=clinic.names.language(rng),
        )  # fmt: skip
        if number == 0:
            draft = _first(draft, clinic)
        patient: Patient = await register_patient(ctx, draft)
        filled.patients.append(patient)
        if number == 0:
            ctx.db.add(
                PatientAccount(
                    patient_id=patient.id, login=draft.email, password=password, failures=0,
                    locale="ar",
                )
            )  # fmt: skip


def _first(draft: PatientDraft, clinic: _Clinic) -> PatientDraft:
    """The patient with a portal account: the same invented person as in the pictures."""
    latin, arabic = ("Layla", "Haddad"), ("ليلى", "حداد")
    first, other = (latin, arabic) if clinic.locale == "en" else (arabic, latin)
    return PatientDraft(
        given=first[0], family=first[1], given_alt=other[0], family_alt=other[1], sex="female",
        birth_date=date(1991, 8, 19).isoformat(), phone=draft.phone, email=draft.email, language="ar",
    )  # fmt: skip
