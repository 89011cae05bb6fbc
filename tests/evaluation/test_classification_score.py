"""Accuracy and F1 against numbers by hand, and against their definitions on random labels."""

import json
import random

import pytest

from seqsru.errors import Refused
from seqsru.evaluation.classification import ClassificationScore, classification_score

GOLD = "a a a a b b b c c c".split()
FOUND = "a a a b b b c c a a".split()


def test_by_hand():
    score = classification_score(GOLD, FOUND, ["a", "b", "c"])
    assert score.counts == ((3, 1, 0), (0, 2, 1), (2, 0, 1))
    assert (score.total, score.accuracy) == (10, 0.6)
    a, b, c = score.by_label
    assert (a.precision, a.recall, a.f1) == (3 / 5, 3 / 4, 2 / 3)
    assert (b.precision, b.recall, b.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert (c.precision, c.recall, c.f1) == (1 / 2, 1 / 3, 2 / 5)
    assert score.macro_f1 == 26 / 45


def test_labels_on_one_side_count_and_labels_on_neither_do_not():
    score = classification_score(["a", "a", "b"], ["a", "c", "a"], ["a", "b", "c", "d"])
    assert [one.f1 for one in score.by_label] == [0.5, 0.0, 0.0, 0.0]
    assert [one.precision for one in score.by_label] == [0.5, 0.0, 0.0, 0.0]
    assert [one.recall for one in score.by_label] == [0.5, 0.0, 0.0, 0.0]
    assert score.macro_f1 == 0.5 / 3  # a, b and c


@pytest.mark.parametrize("seed", range(5))
def test_the_definitions_of_scikit_learn(seed):
    """accuracy_score, precision_recall_fscore_support and f1_score(average="macro"), zero_division=0."""
    draw = random.Random(seed)
    labels = [f"l{i}" for i in range(7)]
    gold, found = (draw.choices(labels[:6], [30, 9, 9, 5, 1, 0.3], k=60) for _ in range(2))
    score = classification_score(gold, found, labels)
    assert score.accuracy == sum(g == f for g, f in zip(gold, found)) / 60
    expected = {}
    for label in labels:
        true_positive = sum(g == f == label for g, f in zip(gold, found))
        precision = true_positive / found.count(label) if found.count(label) else 0.0
        recall = true_positive / gold.count(label) if gold.count(label) else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        expected[label] = (precision, recall, f1)
    for one in score.by_label:
        assert (one.precision, one.recall) == expected[one.label][:2]
        assert one.f1 == pytest.approx(expected[one.label][2], rel=1e-12)
    present = sorted({*gold, *found})
    assert score.macro_f1 == pytest.approx(sum(expected[label][2] for label in present) / len(present))


def test_as_plain_values():
    plain = classification_score(GOLD, FOUND, ["a", "b", "c"]).as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert list(plain) == ["accuracy", "macro_f1", "lines", "labels", "counts", "by_label"]
    assert plain["counts"] == [[3, 1, 0], [0, 2, 1], [2, 0, 1]] and plain["lines"] == 10
    assert plain["by_label"]["c"] == {
        "precision": 0.5,
        "recall": 1 / 3,
        "f1": 0.4,
        "gold": 3,
        "predicted": 2,
    }


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: classification_score(["a"], [], ["a"]), "predicted: .* each of the 1 lines, found 0"),
        (
            lambda: classification_score([], [], ["a"]),
            "counts: expected at least one line to score, found none",
        ),
        (lambda: classification_score(["aa"], ["a"], ["a", "b"]), "gold: expected one of a, b, found 'aa'"),
        (
            lambda: classification_score(["a"], ["c"], ["a", "b"]),
            "predicted: expected one of a, b, found 'c'",
        ),
        (lambda: classification_score(["a"], ["a"], ["a", "a"]), "labels: expected each label once, found"),
        (lambda: ClassificationScore(("a", "b"), ((1, 2), (3,))), "counts: expected 2 rows of 2 counts"),
        (lambda: ClassificationScore(("a",), ((-1,),)), "counts: expected counts of lines, found"),
    ],
)
def test_impossible_input(call, message):
    with pytest.raises(Refused, match=message):
        call()
