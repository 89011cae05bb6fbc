"""Answers: the best span of all, found by looking at every one; windows; paragraphs ranked; companions."""

import math
import re

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data import Characters, Pieces, Words
from seqsru.data.excerpts import Excerpt, TextReader, collate, feature_count
from seqsru.data.spans import Reading
from seqsru.errors import Refused
from seqsru.models.reader import Reader, paragraph_features
from seqsru.pipelines import AnsweringPipeline, Answers, answering

TEXT = "one two three, four five six seven; one four seven. Two\tthree\n six!"
QUESTION = "four seven?"
WORDS = Words.train(["one two three four five six seven , ; . ? !"])


def pipeline(tokenizer=WORDS, cell="sru", **reading):
    torch.manual_seed(3)
    reading = Reading(**{"max_answer": 3, **reading})
    features = feature_count(reading)
    stacks = (
        Stack(cell, size, 6, 2, bidirectional=True) for size in (paragraph_features(5, features, True), 5)
    )
    model = Reader(tokenizer.size, features, *stacks, 5)
    torch.nn.init.normal_(model.embedding.weight)
    return AnsweringPipeline(model, tokenizer, reading)


def every_span(pipe, question, paragraph):
    """The score of each span (first, last), of all windows that hold it."""
    reader = TextReader(pipe.tokenizer, pipe.reading)
    text, asked = reader.read(paragraph), reader.read(question)
    scores, length = {}, min(len(text), pipe.reading.max_paragraph)
    for at in pipe.reading.windows(len(text)):
        batch = collate([Excerpt(text, asked, at, length)], pipe.tokenizer.pad, pipe.reading.matched_run)
        with torch.no_grad():
            start, end = pipe.model(
                batch.tokens, batch.valid, batch.features, batch.question, batch.question_valid
            )
        for first in range(length):
            for last in range(first, min(first + pipe.reading.max_answer, length)):
                value = (start[first, 0] + end[last, 0]).item()
                span = at + first, at + last
                scores[span] = max(value, scores.get(span, -math.inf))
    return text.tokens, scores


@pytest.mark.parametrize("cell", ["sru", "lstm"])
@pytest.mark.parametrize(
    "reading",
    [{}, {"max_paragraph": 7}, {"max_paragraph": 5, "stride": 1}, {"max_paragraph": 3}, {"max_answer": 1}],
)
def test_answers_are_the_best_of_all_spans(reading, cell):
    pipe = pipeline(cell=cell, **reading)
    tokens, scores = every_span(pipe, QUESTION, TEXT)
    (found,) = pipe.answer([QUESTION], [[TEXT]], n_best=len(scores) + 5)
    assert len(found.found) == len(scores)
    total = sum(map(math.exp, scores.values()))
    ordered = sorted(scores.values(), reverse=True)
    for one, expected in zip(found.found, ordered):
        assert one.text == TEXT[one.start : one.end] and one.paragraph == 0
        span = tokens.starts.index(one.start), tokens.ends.index(one.end)
        assert one.score == pytest.approx(scores[span], abs=1e-4) and one.score == pytest.approx(
            expected, abs=1e-4
        )
        assert one.probability == pytest.approx(math.exp(one.score) / total, rel=1e-3)
    assert sum(one.probability for one in found.found) == pytest.approx(1)
    (best,) = pipe.answer([QUESTION], [[TEXT]])
    assert best.found == found.found[:1] and best.text == found.found[0].text


def test_paragraphs_are_ranked_by_what_they_answer():
    pipe = pipeline()
    parts = ["two three. five", " ", "seven one, four", "six"]
    scores = {}
    for place, part in enumerate(parts):
        if part.strip():
            tokens, every = every_span(pipe, QUESTION, part)
            scores |= {(place, tokens.span(*span), value): value for span, value in every.items()}
    place, text, value = max(scores, key=scores.__getitem__)
    (found,) = pipe.answer([QUESTION], [parts], n_best=3)
    assert (found.found[0].paragraph, found.text) == (place, text)
    assert found.found[0].score == pytest.approx(value, abs=1e-4)
    assert {one.paragraph for one in pipe.answer([QUESTION], [parts], n_best=99)[0].found} == {0, 2, 3}
    total = sum(map(math.exp, scores.values()))
    assert found.found[0].probability == pytest.approx(math.exp(value) / total, rel=1e-3)


@pytest.mark.parametrize("cell", ["sru", "lstm", "gru", "qrnn"])
def test_an_answer_does_not_depend_on_what_else_is_asked(cell):
    pipe = pipeline(cell=cell, max_paragraph=6)
    questions = ["four?", QUESTION, "six seven one two three four five six seven?", "four seven one?"]
    paragraphs = [[TEXT], [TEXT, "one two"], ["six"], [TEXT[:20]]]
    together = pipe.answer(questions, paragraphs)
    assert together == pipe.answer(questions, paragraphs)
    for question, given, found in zip(questions, paragraphs, together):
        (alone,) = pipe.answer([question], [given])
        assert alone == found  # to the last bit of the score


def test_questions_are_worked_on_in_portions(monkeypatch):
    pipe = pipeline(max_answer=2)
    questions, paragraphs = (
        ["six?", "one?", "two", "four?"],
        [["one two"], [TEXT, TEXT], ["six"], ["", "one"]],
    )
    whole = pipe.answer(questions, paragraphs)
    monkeypatch.setattr(answering, "SPANS_AT_ONCE", 6)
    asked = [(None, [text.split() for text in texts]) for texts in paragraphs]
    assert [len(portion) for portion in pipe._portions(asked)] == [1, 1, 2]
    assert pipe.answer(questions, paragraphs) == whole and list(pipe._portions([])) == [[]]


def test_the_order_of_equals_is_that_of_the_text():
    pipe = pipeline(max_answer=2)
    for layer in (pipe.model.start, pipe.model.end):
        torch.nn.init.zeros_(layer.weight), torch.nn.init.zeros_(layer.bias)
    (found,) = pipe.answer(["six?"], [["one two", "three"]], n_best=9)
    assert [(one.paragraph, one.text) for one in found.found] == [
        (0, "one"),
        (0, "one two"),
        (0, "two"),
        (1, "three"),
    ]


def test_what_is_empty_has_no_answer():
    found = pipeline().answer(["", "who?", " ", "who?"], [["one"], [], ["one"], ["", " \n"]])
    assert found == [Answers()] * 4 and found[0].text == found[0].line() == ""
    assert found[0].as_dict() == {"text": "", "alternatives": []}
    assert pipeline().answer([], []) == []


def test_lines_and_dictionaries():
    pipe = pipeline()
    (found,) = pipe.answer([QUESTION], [["Two\tthree\n six!"]], n_best=2)
    text, *more = found.line().split("\t")
    assert text == " ".join(found.text.split())
    assert re.fullmatch(r"probability=0\.\d{4}\|score=-?\d+\.\d{4}\|paragraph=0", "|".join(more))
    record = found.as_dict()
    assert record["text"] == found.text and record["alternatives"] == [found.found[1].as_dict()]
    assert set(record) == {"text", "score", "probability", "paragraph", "start", "end", "alternatives"}


def test_characters():
    tokenizer = Characters.train(["東京は日本の首都である。"])
    pipe = pipeline(tokenizer, matched_run=3, max_paragraph=5)
    (found,) = pipe.answer(["首都は?"], [["東京は 日本の首都である。大阪"]])
    assert 0 < len(found.text) <= 4 and found.text in "東京は 日本の首都である。大阪"


def test_mistakes_are_refused():
    pipe = pipeline()

    def says(sentence, *arguments, **named):
        with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
            pipe.answer(*arguments, **named)

    lists = (
        "paragraphs: expected a list of paragraphs for each question, found {}; put the paragraphs of each "
        "question into a list"
    )
    says(lists.format("'one'"), ["a"], "one")
    says(lists.format("'one' for question 1"), ["a"], ["one"])
    says(lists.format("5"), ["a"], 5)
    says("questions: expected lines of text, found one text, 'a'; put it into a list", "a", [["one"]])
    ends = "give each line by itself, without its end"
    sentence = f"questions: expected one line in line 1, found a line end in 'a\\nb'; {ends}"
    says(sentence, ["a\nb"], [["b"]])
    do = "give a list of paragraphs a question"
    says(f"paragraphs: expected paragraphs for each of the 2 questions, found 1; {do}", ["a", "b"], [["b"]])
    of = "in the paragraphs of question 1"
    sentence = f"paragraphs: expected text {of}, found None; give text for each paragraph"
    says(sentence, ["a"], [[None]])
    found = "half a character, '\\ud800'; read the text as UTF-8"
    says(f"paragraphs: expected whole characters {of}, found {found}", ["a"], [["\ud800"]])
    says("n_best: expected at least 1, found 0; raise it", ["a"], [["b"]], n_best=0)
    says("n_best: expected a whole number, found '2'; change it", ["a"], [["b"]], n_best="2")
    model = pipe.model
    with pytest.raises(
        Refused, match="tokenizer: expected a tokenizer of 14 types, found 3; use what the model"
    ):
        AnsweringPipeline(model, Words.train(["a"]), pipe.reading)
    with pytest.raises(
        Refused, match="reading: expected a reading of 3 features, found 5; use what the model was"
    ):
        AnsweringPipeline(model, WORDS, Reading(matched_run=2))
    pieces = Pieces.train(["one two three four five six"] * 9, vocabulary_size=20, algorithm="bpe")
    with pytest.raises(
        Refused, match="tokenizer: expected a tokenizer of words or characters, found sentence"
    ):
        AnsweringPipeline(model, pieces, pipe.reading)
