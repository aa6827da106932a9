"""`qanun telemedicine load`: rooms of made-up participants, on each engine."""

import json

import pytest

from qanun_telemedicine.load import measure
from qanun_telemedicine.load.measure import Figures, Load, command

from .engines import ENGINES


@pytest.mark.parametrize("engine", ENGINES)
async def test_everything_that_is_sent_arrives_at_everybody_else(engine: str) -> None:
    figures = await measure.measure(Load(rooms=2, participants=3, bitrate=300, seconds=2, engine=engine))
    assert figures.engine == engine and figures.participants == 6
    assert figures.delivered == 1, "neither lost nor sent to another room or back to its sender"
    assert figures.packets_out == pytest.approx(2 * figures.packets_in)
    assert 0 < figures.core < 2 and figures.per_packet_us > 0
    assert 0 < figures.delay_p50_ms <= figures.delay_p99_ms


def test_the_command_prints_a_table_or_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Load] = []

    async def measured(load: Load) -> Figures:
        asked.append(load)
        return Figures(
            "c", 6, 1000, 2000, 0.98 if load.rooms == 3 else 1.0, 0.25, 12.5, 0.2, 1.5, 300, late=load.rooms == 3
        )

    monkeypatch.setattr(measure, "measure", measured)
    assert command(["--rooms", "2", "--bitrate", "500", "--seconds", "5"]) == 0
    assert asked == [Load(2, 3, 500, 5.0)]
    told = capsys.readouterr().out
    assert "12.50 µs" in told and "100.000%" in told and "too slow" not in told
    assert command(["--rooms", "3"]) == 1, "lost packets are no success"
    assert "too slow" in capsys.readouterr().out
    assert command(["--json"]) == 0
    assert json.loads(capsys.readouterr().out)["packets_out"] == 2000


@pytest.mark.parametrize(
    "wrong", [["--rooms", "0"], ["--participants", "1"], ["--participants", "13"], ["--seconds", "-1"]]
)
def test_what_makes_no_sense_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(wrong)
    assert "2 to 12 participants" in capsys.readouterr().err


async def test_a_worker_that_does_not_come_up_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_own_address", lambda: "192.0.2.77")
    monkeypatch.setattr(measure, "_free_port", lambda address: 9)
    with pytest.raises(RuntimeError, match="assign requested address"):
        await measure.measure(Load(1, 2, 100, 1))
