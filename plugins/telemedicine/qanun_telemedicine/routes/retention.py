"""The administrator's pages about recordings: the rule, what waits for a decision, holds, what was destroyed and the proof.

None of them shows a recording; who manages how long it is kept need not be who may watch it.
"""

from __future__ import annotations

import base64
import json
from datetime import date
from typing import Any
from uuid import UUID

from litestar import Controller, Response
from sqlalchemy import select

from qanun.api import N_, Conflict, Context, Form, Invalid, Patient, get, page, post, redirect
from qanun_telemedicine import service
from qanun_telemedicine.models import Recording
from qanun_telemedicine.permissions import Telemedicine
from qanun_telemedicine.service import deletion, jurisdictions, pictures, retention, reviews, transcripts

_IS_HELD = N_("A legal hold stands on it. It has to be lifted first.")
_HOME = "/telemedicine/retention"
_RULE = ("jurisdiction", "adult_years", "minor_age", "minor_years", "counted_from", "review", "basis")


class RetentionController(Controller):
    path = "/telemedicine"

    @get("/retention", permission=Telemedicine.RETENTION_MANAGE)
    async def home(self, ctx: Context, preset: str = "") -> Response[str]:
        return await _home(ctx, preset=preset)

    @post("/retention", permission=Telemedicine.RETENTION_MANAGE)
    async def set_rule(self, ctx: Context, form: Form) -> Response[str]:
        values = {name: form.text(name) for name in _RULE}
        try:
            await retention.set_policy(ctx, values)
        except Invalid as error:
            return await _home(ctx, values=values, errors=error.fields, status=422)
        return redirect(ctx, _HOME)

    @post("/retention/reviews/{review_id:uuid}", permission=Telemedicine.RETENTION_MANAGE)
    async def decide(self, ctx: Context, review_id: UUID, form: Form) -> Response[str]:
        review, record = await reviews.review_of(ctx, review_id)
        decision, note = form.text("decision"), form.text("note")
        try:
            made = await deletion.decide_review(ctx, review, record, decision, note, _date(form.text("again_on")))
        except Invalid as error:
            kept = {"note": note, "again_on": form.text("again_on")}
            return await _home(ctx, deciding=review_id, values=kept, errors=error.fields, status=422)
        except Conflict as error:
            if error.message != deletion.HELD:
                raise
            held = {"decision": _IS_HELD}
            return await _home(ctx, deciding=review_id, values={"note": note}, errors=held, status=409)
        return redirect(ctx, f"/telemedicine/certificates/{made.id}" if made else _HOME)

    @post("/retention/recordings/{recording_id:uuid}/hold", permission=Telemedicine.RETENTION_MANAGE)
    async def hold(self, ctx: Context, recording_id: UUID, form: Form) -> Response[str]:
        record = await service.recording(ctx, recording_id)
        try:
            await retention.place_hold(ctx, record, form.text("reason"), whole_patient=form.flag("whole_patient"))
        except Invalid as error:
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=recording_id, values=values, errors=error.fields, status=422)
        return redirect(ctx, _HOME)

    @post("/retention/holds/{hold_id:uuid}/release", permission=Telemedicine.RETENTION_MANAGE)
    async def release(self, ctx: Context, hold_id: UUID, form: Form) -> Response[str]:
        try:
            await retention.release_hold(ctx, hold_id, form.text("reason"))
        except Invalid as error:
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=hold_id, values=values, errors=error.fields, status=422)
        return redirect(ctx, _HOME)

    @post("/retention/pictures/{picture_id:uuid}/destroy", permission=Telemedicine.RETENTION_MANAGE)
    async def destroy_picture(self, ctx: Context, picture_id: UUID, form: Form) -> Response[str]:
        try:
            await pictures.destroy_picture(ctx, picture_id, form.text("reason"))
        except Invalid as error:
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=picture_id, values=values, errors=error.fields, status=422)
        except Conflict:
            held = {"reason": _IS_HELD}
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=picture_id, values=values, errors=held, status=409)
        return redirect(ctx, _HOME)

    @post("/retention/transcripts/{transcript_id:uuid}/destroy", permission=Telemedicine.RETENTION_MANAGE)
    async def destroy_transcript(self, ctx: Context, transcript_id: UUID, form: Form) -> Response[str]:
        try:
            await transcripts.destroy(ctx, transcript_id, form.text("reason"))
        except Invalid as error:
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=transcript_id, values=values, errors=error.fields, status=422)
        except Conflict:
            held = {"reason": _IS_HELD}
            values = {"reason": form.text("reason")}
            return await _home(ctx, holding=transcript_id, values=values, errors=held, status=409)
        return redirect(ctx, _HOME)

    @get("/certificates/{certificate_id:uuid}", permission=Telemedicine.RETENTION_MANAGE)
    async def certificate(self, ctx: Context, certificate_id: UUID) -> Response[str]:
        """A deletion's certificate, and whether it holds right now."""
        found = await deletion.proof(ctx, certificate_id)
        return page(
            ctx, "telemedicine/certificate.html", proof=found, record=found.record, body=json.loads(found.certificate.body),
            reviews=await reviews.reviews_of(ctx, found.record.id), public_key=found.certificate.public_key.hex(),
        )  # fmt: skip

    @get("/certificates/{certificate_id:uuid}/file", permission=Telemedicine.RETENTION_MANAGE)
    async def certificate_file(self, ctx: Context, certificate_id: UUID) -> Response[bytes]:
        """The same as a file that anybody can check with `qanun telemedicine verify-certificate`, or with Ed25519 by hand."""
        made = (await deletion.proof(ctx, certificate_id)).certificate
        file = {
            "body": made.body,
            "signature": base64.b64encode(made.signature).decode(),
            "public_key": base64.b64encode(made.public_key).decode(),
        }
        name = f"deletion-{made.recording_id}.json"
        return Response(
            json.dumps(file, indent=1, ensure_ascii=False).encode(), media_type="application/json",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )  # fmt: skip


async def _home(
    ctx: Context, *, preset: str = "", values: dict[str, Any] | None = None, errors: Any = None, status: int = 200,
    deciding: UUID | None = None, holding: UUID | None = None,
) -> Response[str]:  # fmt: skip
    policy = await retention.current_policy(ctx)
    asked = await reviews.open_reviews(ctx)
    names = select(Patient).where(Patient.id.in_({review.patient_id for review, _ in asked} or {UUID(int=0)}))
    known = {person.id: person for person in (await ctx.db.execute(names)).scalars()}
    waiting = [
        (review, record, known[review.patient_id], await retention.held(ctx, record)) for review, record in asked
    ]
    ruling = values is not None and deciding is None and holding is None
    made = await deletion.certificates(ctx)
    of = select(Recording).where(Recording.id.in_({one.recording_id for one in made} or {UUID(int=0)}))
    records = {record.id: record for record in (await ctx.db.execute(of)).scalars()}
    return page(
        ctx, "telemedicine/retention.html", status=status, policy=policy, policies=await retention.policies(ctx),
        jurisdictions=jurisdictions.JURISDICTIONS, by_code=jurisdictions.BY_CODE, whole_record=jurisdictions.WHOLE_RECORD,
        rule=values if ruling else _rule(policy, preset), rule_errors=errors if ruling else {}, waiting=waiting,
        editing=ruling or bool(preset) or policy is None,
        recordings=await retention.kept(ctx), limit=retention.LIMIT, holds=await retention.standing_holds(ctx),
        taken_back=await pictures.pictures_taken_back(ctx),
        transcripts=await transcripts.taken_back(ctx),
        certificates=[(one, records[one.recording_id]) for one in made], deciding=deciding, holding=holding,
        act_values={} if ruling else values or {}, act_errors={} if ruling else errors or {},
        next_year=retention.years_later(ctx.local(ctx.now).date(), 1), now=ctx.now,
    )  # fmt: skip


def _rule(policy: Any, preset: str) -> dict[str, str]:
    """What the form shows: a preset that was chosen, else the rule that counts, else the cautious one."""
    if preset not in jurisdictions.BY_CODE and policy is not None:
        rule = {name: str(getattr(policy, name)) for name in _RULE if name != "review"}
        return {**rule, "review": "1" if policy.review else ""}
    chosen = jurisdictions.BY_CODE.get(preset, jurisdictions.BY_CODE[jurisdictions.OWN])
    return {
        "jurisdiction": chosen.code, "adult_years": str(chosen.adult_years), "minor_age": str(chosen.minor_age),
        "minor_years": str(chosen.minor_years), "counted_from": chosen.counted_from, "review": "1", "basis": chosen.source,
    }  # fmt: skip


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
