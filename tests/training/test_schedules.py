"""Each schedule against its formula, written out again."""

import math

import pytest

from seqsru.errors import Refused
from seqsru.training.schedules import SCHEDULES, Position


def rates(schedule, steps, total=0, epoch=1):
    return [schedule.rate(Position(t, epoch, total)) for t in steps]


def test_constant_rises_then_stays():
    assert rates(SCHEDULES["constant"](0.5), [1, 10, 1000]) == [0.5, 0.5, 0.5]
    assert rates(SCHEDULES["constant"](0.5, warmup=4), [1, 2, 4, 5]) == [0.125, 0.25, 0.5, 0.5]


def test_inverse_sqrt_peaks_at_the_end_of_the_rise():
    schedule = SCHEDULES["inverse_sqrt"](2e-3, warmup=100)
    expected = [2e-3 * t / 100 if t <= 100 else 2e-3 * math.sqrt(100 / t) for t in (1, 50, 100, 101, 400)]
    assert rates(schedule, [1, 50, 100, 101, 400]) == pytest.approx(expected, rel=1e-15)
    assert rates(schedule, [400]) == [1e-3]


def test_noam_is_the_formula_of_the_paper():
    schedule = SCHEDULES["noam"](2.0, warmup=4000, width=256)
    steps = [1, 100, 4000, 4001, 100000]
    expected = [2.0 * 256**-0.5 * min(t**-0.5, t * 4000**-1.5) for t in steps]
    assert rates(schedule, steps) == pytest.approx(expected, rel=1e-15)


def test_cosine_ends_at_the_floor():
    schedule = SCHEDULES["cosine"](1.0, warmup=10, floor=0.1)
    steps = [1, 10, 11, 60, 110]
    expected = [0.1, 1.0] + [0.1 + 0.9 * (1 + math.cos(math.pi * (t - 10) / 100)) / 2 for t in steps[2:]]
    assert rates(schedule, steps, total=110) == pytest.approx(expected, rel=1e-14)
    found = rates(SCHEDULES["cosine"](1.0), [50, 100, 101], total=100)
    assert found == pytest.approx([0.5, 0.0, 0.0], abs=1e-15)


def test_cosine_over_the_time_ends_with_it():
    schedule = SCHEDULES["cosine"](2.0, warmup=10, floor=0.1, over="time")
    for step, share in ((1, 0.0), (5, 0.25), (10, 0.25), (900, 0.5), (901, 0.5), (1000, 1.0)):
        expected = 2.0 * min(1.0, step / 10) * (0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2)
        found = {schedule.rate(Position(step, 3, total, share)) for total in (0, 7, 10**6)}
        assert list(found) == [pytest.approx(expected, rel=1e-14)]


def test_exponential_falls_from_its_epoch_on():
    schedule = SCHEDULES["exponential"](1.0, decay=0.98, start=175)
    found = [schedule.rate(Position(1, epoch, 0)) for epoch in (1, 174, 175, 176, 300)]
    assert found == pytest.approx([1.0, 1.0, 0.98, 0.98**2, 0.98**126], rel=1e-15)


def test_plateau_waits_then_falls_to_its_floor():
    schedule = SCHEDULES["plateau"](0.8, factor=0.5, patience=1, floor=0.2)
    found = []
    for improved in (True, False, True, False, False, False, False, False, False, False):
        schedule.observe(improved)
        found += rates(schedule, [7])
    assert found == pytest.approx([0.8, 0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.16, 0.16])


def test_plateau_goes_on_where_its_record_was_saved():
    first, second = SCHEDULES["plateau"](1.0, patience=2), SCHEDULES["plateau"](1.0, patience=2)
    for improved in (False, False):
        first.observe(improved)
    second.load_record(first.record())
    for schedule in (first, second):
        schedule.observe(False)
    assert rates(first, [1]) == rates(second, [1]) == [0.5]


@pytest.mark.parametrize(
    "name, option, value, message",
    [
        ("inverse_sqrt", "warmup", 0, "expected at least 1, found 0"),
        ("cosine", "warmup", -1, "expected at least 0, found -1"),
        ("cosine", "floor", 2.0, r"expected a number from 0 to 1, found 2\.0"),
        ("cosine", "over", "epochs", "expected one of updates, time, found 'epochs'"),
        ("plateau", "factor", -0.5, "expected a number from 0 to 1, found"),
        ("exponential", "start", 0, "expected at least 1, found 0"),
        ("constant", "warmup", -1, "expected at least 0, found -1"),
        ("noam", "width", 0, "expected at least 1, found 0"),
    ],
)
def test_impossible_options_are_refused(name, option, value, message):
    with pytest.raises(Refused, match=f"^{option}: {message}"):
        SCHEDULES[name](1.0, **{option: value})
