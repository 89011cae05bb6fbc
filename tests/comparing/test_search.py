"""What is drawn, and who goes on."""

import math
import random

import pytest

from seqsru.comparing.options import Budget
from seqsru.comparing.search import Drawn, Search, best, drawn_from, order, trial_values
from seqsru.errors import Refused
from seqsru.settings import SettingsError
from seqsru.settings.places import parse


def drawn(text):
    return drawn_from("x", parse(text, lambda line: f"s.yaml:{line}"))


def test_rounds_have_ever_fewer_trials_with_ever_more():
    search = Search(Budget(minutes=3), trials=12, keep=0.33)
    assert [(count, round(budget.amount, 2)) for count, budget in search.rungs()] == [(12, 3.0), (4, 9.09)]
    search = Search(Budget(updates=10), trials=27, keep=1 / 3)
    assert [(count, budget.updates) for count, budget in search.rungs()] == [(27, 10), (9, 30), (3, 90)]
    assert Search(Budget(epochs=1), trials=5, method="random").rungs() == [(5, Budget(epochs=1))]
    assert Search(Budget(epochs=1), trials=1).rungs() == [(1, Budget(epochs=1))]
    assert [count for count, _ in Search(Budget(epochs=1), trials=3, keep=0.9).rungs()] == [3, 2]


@pytest.mark.parametrize("higher", [True, False])
def test_the_best_are_those_of_a_plain_sort(higher):
    draw = random.Random(higher)
    for _ in range(50):
        scores = {n: draw.choice([None, draw.randint(0, 4)]) for n in range(1, 10)}
        there = [(score, -n if higher else n) for n, score in scores.items() if score is not None]
        plain = [abs(n) for _, n in sorted(there, reverse=higher)]
        plain += [n for n, score in scores.items() if score is None]
        for count in (1, 3, 9):
            assert best(scores, count, higher) == plain[:count]


def test_a_score_that_is_no_number_is_the_worst():
    assert best({1: math.nan, 2: 5.0, 3: math.inf}, 3, higher_is_better=False) == [2, 3, 1]


def test_what_is_drawn_depends_on_seed_trial_and_name_alone():
    one = drawn("{from: 1e-4, to: 1e-1, scale: log}")
    values = [one.draw("optimizer.lr", 1, n) for n in range(1, 400)]
    assert values == [one.draw("optimizer.lr", 1, n) for n in range(1, 400)]
    assert values[0] != one.draw("optimizer.lr", 2, 1) and values[0] != one.draw("other", 1, 1)
    assert all(1e-4 <= value <= 1e-1 for value in values)
    below = sum(value < math.sqrt(1e-5) for value in values)  # half of them, on a scale of logarithms
    assert 150 < below < 250
    assert {drawn("[1, 2, three]").draw("a", 1, n) for n in range(60)} == {1, 2, "three"}
    assert {drawn("{from: 1, to: 3, whole: true}").draw("a", 1, n) for n in range(60)} == {1, 2, 3}
    assert {drawn("{from: 1, to: 3, whole: true, scale: log}").draw("a", 1, n) for n in range(60)} == {
        1,
        2,
        3,
    }
    assert all(0.1 <= drawn("{from: 0.1, to: 0.5}").draw("a", 1, n) <= 0.5 for n in range(60))


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "expected at least one value, found none; write [1, 2]"),
        ("3", "expected a list of values, or a range, found 3; write [values], or {from: 1, to: 2}"),
        ("{from: 2, to: 1}", "expected more than 2 for to, found 1; raise it"),
        (
            "{from: 0, to: 1, scale: log}",
            "expected more than 0 for from, with scale log, found 0; raise it, or set scale to linear",
        ),
        ("{from: 1.2, to: 1.8, whole: true}", "expected a whole number in the range, found none; widen it"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused_with_its_line(text, message):
    with pytest.raises(SettingsError) as refused:
        drawn(text)
    assert str(refused.value) == f"s.yaml:1: search.settings.x: {message}"


def test_a_search_that_cannot_be_meant_is_refused():
    with pytest.raises(Refused, match=r"^trials: expected at least 1, found 0; raise it$"):
        Search(Budget(epochs=1), trials=0)
    with pytest.raises(
        Refused, match=r"^keep: expected from 0\.01 to 0\.9, found 1\.0; give a number in this"
    ):
        Search(Budget(epochs=1), keep=1.0)
    with pytest.raises(Refused) as refused:
        Budget(minutes=1, epochs=2)
    assert str(refused.value) == (
        "expected one of minutes, processor_minutes, updates, epochs, above 0, found minutes and epochs; "
        "give one of them"
    )


def test_turns():
    assert [order("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert order([], 2) == [] and isinstance(drawn("[1]"), Drawn)


def test_no_two_trials_are_the_same_as_long_as_there_are_others():
    found = {"lr": drawn("[1, 2, 3]"), "depth": drawn("[4, 5]")}
    for seed in range(5):
        trials = [trial_values(found, seed, n) for n in range(1, 7)]
        assert all(one not in trials[:n] for n, one in enumerate(trials))
        assert trial_values(found, seed, 8) in trials  # there are no more
