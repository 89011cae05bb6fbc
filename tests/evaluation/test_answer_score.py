"""Exact match and F1: SQuAD's rules case by case, the published systems to the digit, intervals."""

import json
import random
import re

import numpy
import pytest

from seqsru.data.squad import read_squad
from seqsru.errors import NotFound, Refused
from seqsru.evaluation.answer_score import (
    Asked,
    answer_score,
    normalised,
    paired_answers,
    read_answers,
)


def score(answer, *right, tokens="words"):
    values = answer_score([Asked("q", right)], {"q": answer}, tokens).values()
    return values["exact_match"], round(values["f1"], 4)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("The  Cat's, a-b!", "cats ab"),
        ("a.b c", "ab c"),
        ("th.e an,", ""),  # punctuation goes before articles
        ("Theme and a\tban", "theme and ban"),
        ("“the” 50–0", "“ ” 50–0"),  # other punctuation stays, and is no part of a word
        ("", ""),
    ],
)
def test_normalised(text, expected):
    assert normalised(text) == expected


@pytest.mark.parametrize(
    "answer, right, expected",
    [
        ("The Broncos", ["broncos."], (100.0, 100.0)),
        ("Denver Broncos", ["Broncos", "the Denver team"], (0.0, 66.6667)),
        ("x y", ["z", "y x"], (0.0, 100.0)),  # a bag has no order
        ("to be or not to be", ["to be"], (0.0, 50.0)),
        ("the", ["a"], (100.0, 0.0)),  # empty once normalised: equal, without a token in common
        ("", ["x"], (0.0, 0.0)),
        ("one", ["one two three", "one four"], (0.0, 66.6667)),  # each is the best by itself
    ],
)
def test_scores(answer, right, expected):
    assert score(answer, *right) == expected


def test_characters_are_for_text_without_spaces():
    assert score("東京都", "東京") == (0.0, 0.0)
    assert score("東京都", "東京", tokens="characters") == (0.0, 80.0)
    assert score("a b", "b a c", tokens="characters") == (0.0, 66.6667)  # the article goes before


def test_missing_and_unknown_ids():
    asked = [Asked("a", ("x",)), Asked("b", ("y",)), Asked("c", ("z",))]
    found = answer_score(asked, {"a": "x", "c": "q", "d": "r"})
    assert found.missing == ("b",) and found.unknown == ("d",) and found.total == 3
    assert found.values() == {"exact_match": 100 / 3, "f1": 100 / 3}
    record = found.as_dict()
    assert (record["missing"], record["unknown"], record["questions"]) == (1, 1, 3)
    json.dumps(record)


def test_intervals_are_those_of_resamples():
    draw = random.Random(1)
    asked = [Asked(str(i), ("x",)) for i in range(200)]
    found = answer_score(asked, {one.id: draw.choice("xy") for one in asked})
    (mean, half), value = found.intervals()["exact_match"], found.values()["exact_match"]
    share = value / 100
    assert abs(mean - value) < 0.5 and half == pytest.approx(
        196 * (share * (1 - share) / 200) ** 0.5, rel=0.1
    )
    assert found.intervals() == found.intervals()
    assert re.fullmatch(r"exact_match \d\d\.\d{4} \(95 % \d\d\.\d\d ± \d\.\d\d\)", found.lines()[0])


def test_two_systems_are_compared_by_pairs():
    asked = [Asked(str(i), ("x",)) for i in range(100)]
    worse, better = ({str(i): "x" if i < right else "y" for i in range(100)} for right in (40, 60))
    first, second = answer_score(asked, worse), answer_score(asked, better)
    exact, f1 = paired_answers(first, second)
    assert (exact.baseline, exact.system) == pytest.approx((40.0, 60.0)) and exact.p_value < 0.01
    assert exact.line.startswith(
        "exact_match|questions:100|f1:words|bs:1000|seed:12345: 40.00 -> 60.00 (+20.00, p"
    )
    assert [one.p_value for one in paired_answers(first, first)] == [1.0, 1.0]
    rows = first.by_question[:, 0] - second.by_question[:, 0]
    numbers = numpy.random.default_rng(12345)
    drawn = numpy.array([abs(100 * rows[numbers.integers(100, size=100)].mean()) for _ in range(1000)])
    assert exact.p_value == (1 + (drawn - drawn.mean() >= 20 - 1e-9).sum()) / 1001
    assert f1.name == "f1" and f1.p_value == exact.p_value


def test_mistakes_are_refused(tmp_path):
    with pytest.raises(Refused, match="f1_tokens: expected one of words, characters, found 'bytes'"):
        score("a", "b", tokens="bytes")
    with pytest.raises(Refused, match="asked: expected at least one question to score, found none; check"):
        answer_score([], {})
    path = tmp_path / "answers.json"
    for content, sentence in (
        ("[]", f"expected an object of id to answer in {path}, found a list; check the file"),
        ('{"a": 1}', f"expected text as the answer to 'a' in {path}, found 1; check the file"),
        ('{"a": null}', f"expected text as the answer to 'a' in {path}, found None; check the file"),
        ('{"a"', f"expected an object of id to answer, as JSON in {path}, found Expecting ':' delimiter"),
    ):
        path.write_text(content)
        with pytest.raises(Refused, match=re.escape(sentence)):
            read_answers(path)
    with pytest.raises(NotFound):
        read_answers(tmp_path / "none.json")


@pytest.mark.slow
def test_published_systems_to_the_digit(mirror):
    folder = mirror / "squad-v1.1"
    questions = read_squad([folder / "dev-v1.1.rebuilt.json"]).questions
    asked = [Asked(one.id, tuple(answer.text for answer in one.answers)) for one in questions]
    rows = (folder / "predictions" / "expected.tsv").read_text().splitlines()[1:]
    assert len(rows) == 5
    for row in rows:
        name, *expected = row.split("\t")
        found = answer_score(asked, read_answers(folder / "predictions" / name))
        values = [f"{value:.4f}" for value in found.values().values()]
        assert [found.total, len(found.missing), len(found.unknown)] == list(map(int, expected[:3]))
        assert values == expected[3:]
