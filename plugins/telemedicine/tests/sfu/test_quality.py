"""Bad afternoons in a moment: what is concluded from loss and delay, on a clock of the test's own."""

import itertools

from qanun_telemedicine.sfu.bandwidth import START, Estimator
from qanun_telemedicine.sfu.quality import (
    AUDIO_ONLY,
    GOOD,
    RECONNECTING,
    WEAK,
    ActiveSpeaker,
    Layer,
    LayerChoice,
    Leg,
)
from qanun_telemedicine.sfu.repeats import Repeats

MS = 1_000_000


class Line:
    """A way with a bottleneck: what is sent faster than `capacity` queues up."""

    def __init__(
        self, capacity: int, *, delay_ms: float = 30, loss_every: int = 0, queue_ms: float | None = None
    ) -> None:
        self.queue = None if queue_ms is None else int(queue_ms * MS)
        self.capacity = capacity
        self.delay = int(delay_ms * MS)
        self.loss_every = loss_every
        self.free = 0
        self.count = 0
        self.now = 0

    def run(self, estimator: Estimator, bitrate: int, seconds: float) -> None:
        for _ in range(int(seconds * 10)):
            packets: list[tuple[int, int, int | None]] = []
            size = 1000
            number = max(1, bitrate // (8 * size * 10))
            for index in range(number):
                sent = self.now + index * 100 * MS // number
                self.count += 1
                if self.loss_every and self.count % self.loss_every == 0:
                    packets.append((sent, size, None))
                    continue
                if self.queue is not None and self.free - sent > self.queue:
                    packets.append((sent, size, None))
                    continue
                self.free = max(self.free, sent) + size * 8 * 1_000_000_000 // self.capacity
                packets.append((sent, size, self.free + self.delay + 555_000_000_000))
            self.now += 100 * MS
            estimator.feedback(packets, self.now)


def test_a_line_that_carries_everything_never_lowers_the_estimate() -> None:
    estimator, line = Estimator(), Line(20_000_000)
    line.run(estimator, 50_000, 20)
    assert estimator.rate >= START, "an idle line is not a slow one"
    line.run(estimator, 1_400_000, 20)
    assert estimator.rate > START


def test_a_bottleneck_is_found_and_kept_to() -> None:
    estimator, line = Estimator(), Line(400_000)
    for _ in range(60):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.5)
    assert 150_000 < estimator.rate < 480_000
    assert estimator.queue_ms < 400


def test_a_line_that_recovers_is_used_again() -> None:
    estimator, line = Estimator(), Line(300_000)
    for _ in range(40):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.5)
    low = estimator.rate
    line.capacity = 5_000_000
    for _ in range(60):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.5)
    assert estimator.rate > 2 * low


def test_a_little_loss_of_a_radio_does_not_lower_the_estimate_and_much_does() -> None:
    estimator, line = Estimator(), Line(20_000_000, loss_every=30)
    line.run(estimator, 1_000_000, 10)
    assert estimator.rate >= START
    line.loss_every = 4
    line.run(estimator, 1_000_000, 10)
    assert estimator.rate < START / 1.5


def test_loss_that_does_not_care_how_much_is_sent_leaves_the_picture() -> None:
    estimator, line = Estimator(), Line(20_000_000, loss_every=8)
    rates = []
    for _ in range(240):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.5)
        rates.append(estimator.rate)
    assert min(rates) > 300_000, "never so low that the picture would be taken away"
    assert sum(rate > 1_000_000 for rate in rates) > 180


def test_loss_of_a_line_that_drops_instead_of_queueing_lowers_the_estimate() -> None:
    estimator, line = Estimator(), Line(400_000, queue_ms=30)
    rates = []
    for _ in range(120):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.5)
        rates.append(estimator.rate)
    assert sorted(rates[20:])[len(rates[20:]) // 2] < 600_000
    assert estimator.own_loss == 0


def test_near_what_a_line_carried_when_it_was_full_the_queue_in_front_of_the_sound_stays_short() -> None:
    estimator, line = Estimator(), Line(150_000, queue_ms=300)
    waited: list[float] = []
    for step in range(900):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.1)
        if step > 300:
            waited.append(estimator.queue_ms)
    assert max(waited) < 180
    assert sum(one > 110 for one in waited) < len(waited) / 10
    assert 100_000 < estimator.rate < 170_000
    line.capacity = 5_000_000
    for _ in range(300):
        line.run(estimator, int(min(1_500_000, estimator.rate)), 0.1)
    assert estimator.rate > 400_000, "what carries more is another line"


def test_a_key_frame_after_silence_does_not_make_a_line_look_as_narrow_as_the_silence() -> None:
    estimator, second = Estimator(), 1_000 * MS
    for step in range(50):
        estimator.feedback([(step * 100 * MS, 500, step * 100 * MS + 30 * MS)], step * 100 * MS + 50 * MS)
    estimator.resume(150_000)
    # 8 kB at once, into a line of 150 kbit/s: each packet waits for those before it.
    burst = [(5 * second, 1000, 5 * second + 30 * MS + number * 8_000 * second // 150_000) for number in range(8)]
    for step in range(1, 5):
        since, until = 5 * second + (step - 1) * 100 * MS, 5 * second + step * 100 * MS
        if arrived := [one for one in burst if since <= one[2] < until]:
            estimator.feedback(arrived, until)
    assert estimator.queue_ms > 110 and 110_000 < estimator.rate < 150_000, "lowered, to what the line showed to carry"


def test_the_picture_is_tried_again_with_little_whatever_the_estimate_grew_to_meanwhile() -> None:
    leg = Leg(0.0)
    leg.heard, leg.estimator.rate = 20.0, 60_000.0
    leg.decide(20.0, has_video=True)
    leg.estimator.rate = 1_500_000.0
    for second in range(21, 40):
        leg.heard = second
        leg.report(0.0, 3, 80, second)
        if leg.decide(second, has_video=True) != AUDIO_ONLY:
            break
    assert not leg.paused and 100_000 < leg.budget() < 150_000


def test_without_transport_feedback_loss_reports_decide() -> None:
    estimator = Estimator()
    for second in range(10):
        estimator.loss_report(0.3, second * 1000 * MS)
    low = estimator.rate
    assert low < START / 2
    for second in range(10, 40):
        estimator.loss_report(0.0, second * 1000 * MS)
    assert estimator.rate > low


def test_audio_only_comes_at_once_and_the_picture_only_after_three_good_reports() -> None:
    leg = Leg(0.0)
    leg.heard = 20.0
    leg.estimator.rate = 80_000.0
    assert leg.decide(20.0, has_video=True) == AUDIO_ONLY and leg.paused
    leg.estimator.rate = 90_000.0
    for second in range(21, 29):
        leg.heard = second
        leg.report(0.0 if second > 26 else 0.05, 3, 80, second)
        assert leg.decide(second, has_video=True) == AUDIO_ONLY
    leg.report(0.0, 3, 80, 29.0)
    leg.heard = 29.0
    assert leg.decide(29.0, has_video=True) != AUDIO_ONLY and not leg.paused


def test_another_way_is_not_judged_by_what_the_one_before_carried_or_lost() -> None:
    leg, line = Leg(0.0), Line(60_000)
    for second in range(1, 30):
        line.run(leg.estimator, 100_000, 1)
        leg.heard = second
        state = leg.decide(second, has_video=True)
    assert state == AUDIO_ONLY and leg.budget() < START / 10
    leg.moved(30.0)
    assert leg.budget() == START and not leg.paused
    lost = [(29_900 * MS + index * MS, 1000, None) for index in range(60)]
    leg.estimator.feedback(lost, 30_100 * MS)
    assert leg.budget() == START, "it was sent the old way"
    line = Line(5_000_000, delay_ms=130)
    line.now = line.free = 30_000 * MS
    for second in range(30, 40):
        line.run(leg.estimator, 600_000, 1)
        leg.heard = second
        assert leg.decide(second, has_video=True) == GOOD, "a longer way is no queue"
    assert leg.budget() >= START


def test_to_and_fro_between_two_ways_hides_no_bad_one() -> None:
    leg, line = Leg(0.0), Line(60_000)
    for second in range(1, 40):
        leg.moved(float(second))
        line.run(leg.estimator, 100_000, 1)
        leg.heard = second
        leg.decide(second, has_video=True)
        if second % 11 == 10:
            assert leg.paused and leg.budget() < START / 2


def test_the_first_seconds_of_a_call_are_not_judged() -> None:
    leg = Leg(100.0)
    leg.heard = 102.0
    leg.estimator.rate = 40_000.0
    assert leg.decide(102.0, has_video=True) == GOOD and not leg.paused


def test_each_failed_attempt_to_show_the_picture_waits_longer() -> None:
    leg, now, waits = Leg(0.0), 10.0, []
    for _ in range(4):
        leg.estimator.rate = 50_000.0
        while not leg.paused:
            leg.heard = now
            leg.decide(now, has_video=True)
            now += 1
        began = now
        while leg.paused:
            leg.heard = now
            leg.report(0.0, 1, 50, now)
            leg.decide(now, has_video=True)
            now += 1
        waits.append(now - began)
    assert waits == sorted(waits) and waits[-1] > 2 * waits[0]


def test_an_attempt_that_the_way_does_not_carry_is_given_up_within_seconds() -> None:
    leg, now = Leg(0.0), 10.0
    leg.estimator.rate = 50_000.0
    while not leg.paused or now < 11:
        leg.heard = now
        leg.decide(now, has_video=True)
        now += 1
    while leg.paused:
        leg.heard = now
        leg.report(0.0, 1, 50, now)
        leg.decide(now, has_video=True)
        now += 1
    leg.estimator.rate = 60_000.0
    tried = 0
    while not leg.paused:
        leg.heard = now
        leg.decide(now, has_video=True)
        now, tried = now + 1, tried + 1
    assert tried <= 3


def test_a_packet_is_repeated_once_per_round_trip_and_not_for_ever() -> None:
    repeats = Repeats()
    asked = [repeats.of(7, [41, 42], step * 20 * MS, round_trip_ms=100, budget=1_500_000) for step in range(50)]
    assert [step for step, chosen in enumerate(asked) if chosen] == [0, 5, 10, 15]
    assert all(chosen in ([], [41, 42]) for chosen in asked)
    assert repeats.of(8, [41], 1000 * MS, round_trip_ms=100, budget=1_500_000) == [41], (
        "another stream is another packet"
    )
    assert repeats.of(7, [41], 4000 * MS, round_trip_ms=100, budget=1_500_000) == [41], "the numbers come round"


def test_repetitions_leave_most_of_a_narrow_way_to_what_is_new() -> None:
    repeats, sent = Repeats(), 0
    for step in range(1000):
        asked = [number & 0xFFFF for number in range(step * 20, step * 20 + 200)]
        sent += len(repeats.of(7, asked, step * 10 * MS, round_trip_ms=50, budget=300_000))
    assert 0 < sent * 1200 * 8 / 10 < 300_000 * 0.3
    starved = Repeats()
    starved.of(7, list(range(50)), 0, round_trip_ms=50, budget=30_000)
    later = [
        starved.of(7, [1000 + second], second * 1000 * MS, round_trip_ms=50, budget=30_000) for second in range(1, 9)
    ]
    assert any(later), "but never nothing at all"
    assert len(repeats._done) < 3000


def test_a_burst_that_cannot_be_repaired_soon_is_given_up_for_a_key_frame() -> None:
    repeats = Repeats()
    few = list(range(65_530, 65_536))
    chosen = repeats.of(7, few, 0, round_trip_ms=50, budget=100_000)
    assert chosen[:2] == few[:2]
    assert not repeats.hopeless(7, few, chosen, 0), "what is lost now and then is repaired"
    many = [number & 0xFFFF for number in range(65_530, 65_530 + 40)]
    chosen = repeats.of(7, many, 10 * MS, round_trip_ms=50, budget=100_000)
    assert repeats.hopeless(7, many, chosen, 10 * MS)
    assert not repeats.hopeless(7, many, [], 20 * MS), "it is asked for once"
    assert repeats.of(7, many, 1000 * MS, round_trip_ms=50, budget=100_000) == [], "nothing from before it comes again"
    assert repeats.of(7, [40], 1000 * MS, round_trip_ms=50, budget=100_000) == [40], "what is lost of it does"
    assert repeats.of(8, many, 1500 * MS, round_trip_ms=50, budget=100_000), "another picture has lost nothing"


def test_silence_is_called_reconnecting_and_ends_by_itself() -> None:
    leg = Leg(0.0)
    leg.heard = 10.0
    assert leg.decide(11.0, has_video=True) == GOOD
    assert leg.decide(14.0, has_video=True) == RECONNECTING
    leg.heard = 15.0
    assert leg.decide(15.0, has_video=True) == GOOD


def test_weak_needs_two_bad_seconds_and_two_good_ones_to_end() -> None:
    leg = Leg(0.0)
    states = []
    for second, loss in enumerate([0.2, 0.0, 0.2, 0.2, 0.0, 0.0, 0.0], 10):
        leg.heard = second
        leg.report(loss, 1, 50, second)
        states.append(leg.decide(second, has_video=True))
    assert states == [GOOD, GOOD, GOOD, WEAK, WEAK, GOOD, GOOD]


LAYERS = [Layer("f", 1280, 1_500_000), Layer("q", 320, 120_000), Layer("h", 640, 450_000)]


def test_a_narrow_way_gets_a_narrow_layer_at_once_and_a_wide_one_step_by_step() -> None:
    choice = LayerChoice()
    assert choice.choose(LAYERS, 3_000_000) == "f"
    assert choice.choose(LAYERS, 200_000) == "q"
    assert [choice.choose(LAYERS, 3_000_000) for _ in range(7)] == ["q", "q", "h", "h", "h", "f", "f"]


def test_between_two_decisions_a_layer_that_no_longer_fits_is_left_and_nothing_else_changes() -> None:
    choice = LayerChoice()
    choice.choose(LAYERS, 3_000_000)
    assert choice.lower(LAYERS, 500_000) == "h"
    for _ in range(20):
        assert choice.lower(LAYERS, 3_000_000) == "h", "up is for the clock to decide"
    assert choice.choose(LAYERS, 3_000_000) == "h"


def test_where_even_the_sound_does_not_fit_it_takes_less_and_is_tried_in_full_less_and_less_often() -> None:
    leg, tight = Leg(0.0), []
    for second in range(10, 400):
        leg.heard = second
        # As much as fits while the sound is narrow, and too little for it in full.
        leg.estimator.rate = 115_000.0 if leg.tight else 60_000.0
        leg.decide(second, has_video=False)
        tight.append(leg.tight)
    lasted = [len(list(run)) for narrow, run in itertools.groupby(tight) if narrow]
    assert lasted == sorted(lasted[:-1]) + lasted[-1:] and lasted[-2] >= 60, "less and less often"
    assert sum(tight) > 0.95 * len(tight)
    for second in range(400, 600):
        leg.heard, leg.estimator.rate = second, 1_500_000.0
        leg.decide(second, has_video=False)
    assert not leg.tight


def test_the_sound_in_full_is_tried_before_the_picture_is() -> None:
    leg, seen = Leg(0.0), []
    for second in range(10, 300):
        leg.heard = second
        leg.report(0.0, 1, 50, second)
        # Sound in full is too much as long as it is tried.
        leg.estimator.rate = 115_000.0 if leg.tight else 60_000.0
        leg.decide(second, has_video=True)
        seen.append((leg.paused, leg.tight))
    assert all(paused for paused, _ in seen), "no picture is sent to who cannot even hear"
    assert sum(tight for _, tight in seen) > 0.9 * len(seen)
    for second in range(300, 400):
        leg.heard, leg.estimator.rate = second, 500_000.0
        leg.report(0.0, 1, 50, second)
        leg.decide(second, has_video=True)
        seen.append((leg.paused, leg.tight))
    assert seen.index((True, False)) < seen.index((False, False)) and not leg.paused


def test_a_way_that_carries_sound_in_full_is_not_asked_for_less() -> None:
    leg = Leg(0.0)
    for second in range(10, 60):
        leg.heard, leg.estimator.rate = second, 80_000.0
        leg.decide(second, has_video=True)
    assert leg.paused and not leg.tight
    leg.estimator.rate = 60_000.0
    leg.decide(60.0, has_video=True)
    assert leg.tight
    leg.moved(80.0)
    assert not leg.tight, "another way is another way"


def test_the_smallest_layer_is_better_than_none_and_a_lost_layer_is_replaced() -> None:
    choice = LayerChoice()
    assert choice.choose(LAYERS, 10_000) == "q"
    assert choice.choose([Layer("h", 640, 450_000)], 10_000) == "h"
    assert choice.choose([], 10_000) is None


def test_the_speaker_changes_after_a_moment_and_not_for_a_cough() -> None:
    speaker = ActiveSpeaker()
    assert not speaker.hear([("doctor", 90), ("patient", 10)], 0.0)
    assert speaker.hear([("doctor", 90), ("patient", 10)], 1.0) and speaker.current == "doctor"
    assert not speaker.hear([("doctor", 10), ("patient", 99)], 1.2)
    assert not speaker.hear([("doctor", 90), ("patient", 10)], 1.4)
    assert not speaker.hear([("doctor", 20), ("patient", 20)], 9.0), "silence changes nothing"
    assert speaker.current == "doctor"
