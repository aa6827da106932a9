"""How connections were: a sample about every ten seconds, a score, what support sees live, and a report.

The media worker's figures are measured here; freezes, width and the kind of network are a browser's own words, taken
within sensible limits and never used for anything but these pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select

from qanun.api import Context, Patient
from qanun_telemedicine.models import IN_PROGRESS, Consultation, Participant, Presence, QualitySample

#: What a browser may say of its network; anything else is not kept.
NETWORKS = frozenset({"wifi", "cellular", "ethernet", "slow-2g", "2g", "3g", "4g"})
#: Below these a leg is called fair, and poor.
FAIR, POOR = 80, 55
#: A live figure older than this is none.
FRESH = timedelta(seconds=45)
_PENALTY = {"weak": 15, "audio-only": 40, "reconnecting": 60}


def score(*, loss: float | None, rtt_ms: float | None, jitter_ms: float | None, freezes: int | None, state: str) -> int:
    """0 to 100. Loss weighs most (4 points for each per cent, up to 40), then freezes (7 each, up to 20), a way longer than
    150 ms (1 for each 10 ms, up to 25), jitter (1 for each 4 ms, up to 15), and what the worker had to give up."""
    lost = min(40.0, (loss or 0.0) * 400)
    far = min(25.0, max(0.0, (rtt_ms or 0.0) - 150) / 10)
    uneven = min(15.0, (jitter_ms or 0.0) / 4)
    frozen = min(20, (freezes or 0) * 7)
    return max(0, round(100 - lost - far - uneven - frozen - _PENALTY.get(state, 0)))


def sample(
    ctx: Context, consultation_id: uuid.UUID, participant_id: uuid.UUID, figures: Mapping[str, Any],
    told: Mapping[str, Any],
) -> QualitySample:  # fmt: skip
    """Keep one: the worker's `figures` and what the page `told` since the last."""
    state = str(figures.get("state", ""))
    loss, up = _share(figures.get("loss_down")), _share(figures.get("loss_up"))
    # Nothing is known of the way before the first report: the worker says 0 then.
    rtt, jitter = _whole(figures.get("rtt_ms") or None, 60_000), _whole(figures.get("jitter_ms"), 60_000)
    freezes = _whole(told.get("freezes"), 100)
    network = str(told.get("network", ""))
    kept = QualitySample(
        consultation_id=consultation_id, participant_id=participant_id, at=ctx.now, state=state, rtt_ms=rtt, loss=loss,
        jitter_ms=jitter, loss_up=up, budget=_whole(figures.get("budget"), 2_000_000_000), freezes=freezes,
        width=_whole(told.get("width"), 10_000), relayed=told.get("relayed") if isinstance(told.get("relayed"), bool) else None,
        network=network if network in NETWORKS else "",
        score=score(loss=max(loss or 0.0, up or 0.0), rtt_ms=rtt, jitter_ms=jitter, freezes=freezes, state=state),
    )  # fmt: skip
    ctx.db.add(kept)
    return kept


def _whole(value: Any, most: int) -> int | None:
    return max(0, min(most, round(value))) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(value: Any) -> float | None:
    return max(0.0, min(1.0, float(value))) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class LiveLeg:
    """Somebody in a call right now, with their newest figures; None when nothing was heard lately."""

    consultation: Consultation
    patient: Patient
    participant: Participant
    newest: QualitySample | None


async def live_legs(ctx: Context) -> list[LiveLeg]:
    """Everybody in a call that runs, the worst first."""
    statement = (
        select(Consultation, Patient, Participant)
        .join(Patient, Patient.id == Consultation.patient_id)
        .join(Participant, Participant.consultation_id == Consultation.id)
        .join(Presence, (Presence.participant_id == Participant.id) & Presence.left_at.is_(None))
        .where(Consultation.state == IN_PROGRESS, Presence.place == "call")
        .limit(300)
    )
    rows = [(row[0], row[1], row[2]) for row in (await ctx.db.execute(statement)).all()]
    wanted = {person.id for _, _, person in rows}
    newest: dict[uuid.UUID, QualitySample] = {}
    if wanted:
        samples = select(QualitySample).where(
            QualitySample.participant_id.in_(wanted), QualitySample.at > ctx.now - FRESH
        )
        for one in (await ctx.db.execute(samples.order_by(QualitySample.at))).scalars():
            newest[one.participant_id] = one
    legs = [LiveLeg(row, patient, person, newest.get(person.id)) for row, patient, person in rows]
    return sorted(legs, key=lambda leg: leg.newest.score if leg.newest and leg.newest.score is not None else -1)


@dataclass(frozen=True, slots=True)
class Summary:
    """What samples add up to. `label` names what they have in common: a participant, or a kind of network."""

    label: str
    relayed: bool | None
    legs: int
    samples: int
    score: int | None
    poor: float
    loss: float | None
    rtt_ms: int | None
    rtt_p95_ms: int | None
    freezes: int


def _sums() -> tuple[Any, ...]:
    return (
        func.count(func.distinct(QualitySample.participant_id)),
        func.count(),
        func.avg(QualitySample.score),
        func.count().filter(QualitySample.score < POOR),
        func.avg(QualitySample.loss),
        func.avg(QualitySample.rtt_ms),
        func.percentile_cont(0.95).within_group(QualitySample.rtt_ms),
        func.coalesce(func.sum(QualitySample.freezes), 0),
    )


def _summary(label: str, relayed: bool | None, sums: tuple[Any, ...]) -> Summary:
    legs, samples, mean, poor, loss, rtt, p95, freezes = sums
    return Summary(
        label, relayed, legs, samples, None if mean is None else round(mean), poor / max(1, samples),
        None if loss is None else float(loss), None if rtt is None else round(rtt), None if p95 is None else round(p95),
        int(freezes),
    )  # fmt: skip


async def of_consultation(ctx: Context, consultation_id: uuid.UUID) -> list[Summary]:
    """One line for each person of a consultation, by name."""
    statement = (
        select(Participant.name, func.bool_or(QualitySample.relayed), *_sums())
        .join(Participant, Participant.id == QualitySample.participant_id)
        .where(QualitySample.consultation_id == consultation_id)
        .group_by(Participant.id, Participant.name)
        .order_by(Participant.name)
        .limit(50)
    )
    return [_summary(row[0], row[1], tuple(row[2:])) for row in (await ctx.db.execute(statement)).all()]


async def by_network(ctx: Context, days: int) -> list[Summary]:
    """This clinic's connections of the last `days` by the kind of network and the way they took, the worst first."""
    statement = (
        select(QualitySample.network, QualitySample.relayed, *_sums())
        .where(QualitySample.at > ctx.now - timedelta(days=days))
        .group_by(QualitySample.network, QualitySample.relayed)
        .order_by(func.avg(QualitySample.score))
        .limit(50)
    )
    return [_summary(row[0], row[1], tuple(row[2:])) for row in (await ctx.db.execute(statement)).all()]
