"""Believable records for a demonstration clinic: what family medicine sees most, in the clinic's language."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from qanun.api import Context, DemoClinic, new_id
from qanun_emr.models import AllergyIntolerance, Condition, Encounter, MedicationStatement, Note, Observation

_PROBLEMS = {
    "en": [
        ("Hypertension", "Amlodipine", "5 mg", "1 tablet in the morning"),
        ("Type 2 diabetes", "Metformin", "500 mg", "1 tablet with breakfast and dinner"),
        ("Hypothyroidism", "Levothyroxine", "75 µg", "1 tablet at 07:00, empty stomach"),
        ("Asthma", "Salbutamol inhaler", "100 µg", "as needed"),
        ("Migraine without aura", "Paracetamol", "500 mg", "as needed"),
        ("Iron-deficiency anaemia", "Ferrous sulfate", "200 mg", "1 tablet every other day"),
    ],
    "ar": [
        ("ارتفاع ضغط الدم", "أملوديبين", "5 mg", "قرص واحد صباحاً"),
        ("السكري من النوع الثاني", "ميتفورمين", "500 mg", "قرص مع الفطور وقرص مع العشاء"),
        ("قصور الغدة الدرقية", "ليفوثيروكسين", "75 µg", "قرص واحد صباحاً على معدة فارغة"),
        ("الربو", "بخاخ سالبوتامول", "100 µg", "عند اللزوم"),
        ("شقيقة بدون أورة", "باراسيتامول", "500 mg", "عند اللزوم"),
        ("فقر دم بعوز الحديد", "كبريتات الحديدوز", "200 mg", "قرص واحد يوماً بعد يوم"),
    ],
}
_ALLERGIES = {
    "en": [("Penicillin", "high", "severe", "anaphylaxis"), ("Ibuprofen", "low", "moderate", "wheeze"), ("Peanut", "high", "severe", "urticaria")],
    "ar": [("بنسلين", "high", "severe", "تأق"), ("إيبوبروفين", "low", "moderate", "أزيز"), ("الفول السوداني", "high", "severe", "شرى")],
}  # fmt: skip
_VISITS = {
    "en": [
        ("Blood pressure review", "No complaints.", "Well, no oedema.", "Blood pressure at target.", "Same treatment, three months."),
        ("Cough", "Dry cough for five days, no fever.", "Chest clear.", "Viral upper airway infection.", "Fluids; return if short of breath."),
        ("Tiredness", "Tired for six weeks.", "Pale conjunctivae.", "Anaemia to be confirmed.", "Blood count, ferritin."),
    ],
    "ar": [
        ("متابعة ضغط الدم", "لا شكوى.", "بحالة جيدة، لا وذمة.", "ضغط الدم ضمن الهدف.", "العلاج نفسه، مراجعة بعد ثلاثة أشهر."),
        ("سعال", "سعال جاف منذ خمسة أيام دون حرارة.", "الصدر سليم.", "التهاب فيروسي في الطرق التنفسية العليا.", "سوائل، والعودة عند ضيق النفس."),
        ("إرهاق", "إرهاق منذ ستة أسابيع.", "شحوب الملتحمة.", "اشتباه بفقر الدم.", "تعداد دم وفيريتين."),
    ],
}  # fmt: skip


async def seed(ctx: Context, clinic: DemoClinic) -> None:
    """Problems, medicines, allergies, vital signs over a year and signed visits for every demonstration patient."""
    rng = clinic.random
    language = "ar" if ctx.locale.code == "ar" else "en"
    for number, person in enumerate(clinic.patients):
        age = (ctx.now.date() - person.birth_date).days // 365
        problems = _PROBLEMS[language] if age >= 18 else _PROBLEMS[language][3:4]
        share = 2 if number == 0 else rng.choice((0, 0, 1, 1, 2)) if age >= 18 else rng.choice((0, 0, 1))
        for text, medicine, strength, dosage in rng.sample(problems, min(share, len(problems))):
            onset = str(ctx.now.year - rng.randrange(1, 9))
            ctx.db.add(Condition(patient_id=person.id, text=text, onset=onset, recorded_by=ctx.actor.id))
            ctx.db.add(
                MedicationStatement(
                    patient_id=person.id, text=medicine, strength=strength, dosage=dosage, recorded_by=ctx.actor.id
                )
            )
        if number == 0 or rng.random() < 0.2:
            substance, criticality, severity, reaction = _ALLERGIES[language][0 if number == 0 else rng.randrange(3)]
            ctx.db.add(
                AllergyIntolerance(
                    patient_id=person.id, substance=substance, criticality=criticality, severity=severity,
                    reaction=reaction, recorded_by=ctx.actor.id,
                )
            )  # fmt: skip
        await _visits(ctx, clinic, person, age, rng.randrange(2, 5) if number == 0 else rng.randrange(0, 3), language)
    await ctx.db.flush()


async def _visits(ctx: Context, clinic: DemoClinic, person: Any, age: int, count: int, language: str) -> None:
    rng = clinic.random
    weight = Decimal(rng.randrange(480, 950)) / 10 if age >= 15 else Decimal(max(age, 1) * 28 + 60) / 10
    for visit in range(count):
        start = ctx.now - timedelta(days=40 + visit * rng.randrange(50, 90), hours=rng.randrange(0, 5))
        doctor = rng.choice(clinic.practitioners)
        encounter = Encounter(
            id=new_id(), patient_id=person.id, practitioner_id=doctor.id, status="finished", start=start,
            end=start + timedelta(minutes=18), signed_at=start + timedelta(minutes=25), signed_by=doctor.id,
            signed_name=doctor.name,
        )  # fmt: skip
        encounter.reason, *sections = rng.choice(_VISITS[language])
        ctx.db.add(encounter)
        ctx.db.add(
            Note(
                encounter_id=encounter.id, patient_id=person.id, subjective=sections[0], objective=sections[1],
                assessment=sections[2], plan=sections[3], version=1, saved_at=encounter.signed_at,
                saved_name=doctor.name, signed_at=encounter.signed_at,
            )
        )  # fmt: skip
        pulse = Decimal(rng.randrange(62, 96))
        values = [("8867-4", pulse, None, "/min"), ("29463-7", weight - visit, None, "kg")]
        values.append(("8310-5", Decimal(rng.randrange(362, 374)) / 10, None, "Cel"))
        if age >= 15:
            systolic = Decimal(rng.randrange(108, 148))
            values.append(("85354-9", systolic, systolic - rng.randrange(36, 52), "mm[Hg]"))
            values.append(("59408-5", Decimal(rng.randrange(95, 100)), None, "%"))
        for code, value, value2, unit in values:
            ctx.db.add(
                Observation(
                    patient_id=person.id, encounter_id=encounter.id, code=code, value=value, value2=value2, unit=unit,
                    effective=start + timedelta(minutes=4), recorded_by=ctx.actor.id,
                )
            )  # fmt: skip
