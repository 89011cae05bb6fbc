"""What a reader is given: matches against a loop, windows with the most around an answer, batches."""

import random

import numpy
import pytest
import torch

from seqsru.data import Words
from seqsru.data.excerpts import (
    Excerpt,
    ExcerptBatches,
    Excerpts,
    TextReader,
    collate,
    feature_count,
    matches,
)
from seqsru.data.spans import Reading
from seqsru.data.squad import Answer, Question, QuestionReport, QuestionSet
from seqsru.errors import Refused

WORDS = Words.train(["a b c d e f g h"])


def matched_by_hand(text, question, length):
    runs = {tuple(question[i : i + length]) for i in range(len(question) - length + 1)}
    found = [False] * len(text)
    for at in range(len(text) - length + 1):
        if tuple(text[at : at + length]) in runs:
            found[at : at + length] = [True] * length
    return found


@pytest.mark.parametrize("longest", [1, 3, 7])
def test_matches_equal_a_loop(longest):
    draw = random.Random(longest)
    for _ in range(30):
        texts = [[draw.randrange(4) for _ in range(draw.randint(1, 12))] for _ in range(3)]
        asked = [[draw.randrange(4) for _ in range(draw.randint(1, 6))] for _ in range(3)]
        sides = []
        for rows, fill in ((texts, -1), (asked, -2)):
            size = max(map(len, rows))
            sides.append(torch.tensor([row + [fill] * (size - len(row)) for row in rows]).t())
        found = matches(*sides, longest)
        for column, (text, question) in enumerate(zip(texts, asked)):
            for length, told in enumerate(found, 1):
                assert told[: len(text), column].tolist() == matched_by_hand(text, question, length)
                assert not told[len(text) :, column].any()


def test_features_of_a_token():
    reader = TextReader(WORDS, Reading(matched_run=2, lowercase=True))
    paragraph, question = reader.read("A b, a B c"), reader.read("a b?")
    batch = collate([Excerpt(paragraph, question, 0, 6)], 1, 2, multiple=4)
    assert batch.features.shape == (8, 1, feature_count(reader.reading)) == (8, 1, 5)
    frequency, *told = batch.features[:6, 0].t()
    torch.testing.assert_close(frequency, torch.tensor([2, 2, 1, 2, 2, 1]) / 6)
    assert [one.int().tolist() for one in told] == [
        [0, 1, 0, 1, 0, 0],  # as written
        [0, 0, 0, 0, 0, 0],
        [1, 1, 0, 1, 1, 0],  # in lower case
        [1, 1, 0, 1, 1, 0],
    ]
    assert not batch.features[6:].any() and batch.valid[:, 0].tolist() == [True] * 6 + [False] * 2
    assert batch.tokens[:6, 0].tolist() == [*WORDS.encode("a b"), 0, *WORDS.encode("a b c")]


def questions(*asked):
    """A set of (paragraph, answer, offset)."""
    made = [
        Question(f"q{i}", "a b", i, (Answer(text, start),), i + 1) for i, (_, text, start) in enumerate(asked)
    ]
    return QuestionSet("set", [text for text, *_ in asked], made, QuestionReport("set"))


def test_windows_have_the_answer_with_the_most_around_it():
    reader = TextReader(WORDS, Reading(max_paragraph=10, stride=4, max_answer=3))
    text = " ".join("abcdefgh"[i % 8] for i in range(30))
    for first in range(30):
        for last in range(first, min(first + 3, 30)):
            given = questions((text, text[2 * first : 2 * last + 1], 2 * first))
            (one,) = Excerpts.from_questions(given, reader).excerpts
            start, end = one.answer
            assert (one.start + start, one.start + end) == (first, last) and one.length == 10
            around = [
                min(first - at, at + 9 - last)
                for at in reader.reading.windows(30)
                if at <= first and last < at + 10
            ]
            assert min(start, 9 - end) == max(around)


def test_what_is_not_learned_as_it_is_is_told():
    reader = TextReader(WORDS, Reading(max_paragraph=4, max_answer=2))
    made = Excerpts.from_questions(
        questions(
            ("a b c d e f g h", "c d e f g", 4),
            ("a b c", "a b c", 0),
            ("a bcd", "bc", 2),
            ("a b", "b", 2),
            ("a b", " b", 1),
        ),
        reader,
    )
    assert [(one.start, one.answer) for one in made.excerpts] == [
        (0, (0, 2)),
        (0, (1, 1)),
        (0, (1, 1)),
        (0, (1, 1)),
    ]
    assert str(made.report) == (
        "set: 5 questions; 1 about a paragraph of more than 4 tokens, read in windows (q0); 1 whose "
        "answer is "
        "longer than a window, not learned from (q0); 1 whose answer has more than max_answer = 2 "
        "tokens (q1); "
        "1 whose answer ends inside a token, learned as whole tokens (q2)"
    )


def test_batches_are_every_question_once_and_the_same_again():
    given = questions(*((" ".join("abcdefgh"[: i % 8 + 1]), "a", 0) for i in range(50)))
    made = Excerpts.from_questions(given, TextReader(WORDS, Reading()))
    batches = ExcerptBatches(made, 8, seed=3)
    orders = [batches.epoch(epoch) for epoch in (1, 2)]
    for order in orders:
        assert sorted(sum(order, [])) == list(range(50)) and len(order) == len(batches) == 7
    assert orders[0] != orders[1] and batches.epoch(1) == orders[0]
    batch = batches.collate(orders[0][0])
    assert batch.answers.tolist() == [[0] * 8] * 2 and batch.tokens.shape == batch.valid.shape
    with pytest.raises(
        Refused, match="expected questions to make batches of, found none; check the training"
    ):
        ExcerptBatches(Excerpts([], [], 1, 1, QuestionReport("set")), seed=1)
    with pytest.raises(Refused, match="batch_size: expected at least 1, found 0"):
        ExcerptBatches(made, 0, seed=1)


def test_forms_are_compared_within_a_reader():
    reader = TextReader(WORDS, Reading())
    first, second = reader.read("Zebra a"), reader.read("zebra Zebra")
    assert first.written[0] == second.written[1] != second.written[0]
    assert first.lower[0] == second.lower[0] == second.lower[1]
    empty = reader.read("  ")
    assert len(empty) == 0 and empty.frequency.shape == (0,) and empty.ids.dtype == numpy.int64
