"""Tokens keep their places, and windows leave no answer of the longest kind out."""

import re

import pytest

from seqsru.data import Characters, Pieces, Words
from seqsru.data.spans import Reading, check_kind, lowered, text_tokens, token_ids, trained_on
from seqsru.errors import Refused

TEXTS = [
    "",
    " \n\t",
    "Super Bowl 50 (NFL)'s 24–10 win, $1,234.50.",
    "cafe\u0301 naïve हिन्दी עִבְרִית \u200d👩‍👩‍👧",
    "第50回のスーパーボウルは、2016年に開催された。ｶﾞｷﾞ ภาษาไทย",
    "a\u00a0b\u2028c\u0085d\x1ce\x00f <eos> <unk> _x_",
]


@pytest.mark.parametrize("kind", ["words", "characters"])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_the_text_but_for_white_space(text, kind):
    found = text_tokens(text, kind)
    assert "".join(found.tokens()) == "".join(text.split())
    assert list(found.starts) == sorted(found.starts) and all(a < b for a, b in zip(found.starts, found.ends))
    assert len(found) == len(found.tokens())
    if kind == "characters":
        assert all(len(token) == 1 for token in found.tokens())


def test_words():
    assert text_tokens(TEXTS[2], "words").tokens() == (
        "Super Bowl 50 ( NFL ) ' s 24 – 10 win , $ 1 , 234 . 50 .".split()
    )
    assert text_tokens(TEXTS[3], "words").tokens()[:4] == ["cafe\u0301", "naïve", "हिन्दी", "עִבְרִית"]
    assert text_tokens("第50回のスーパー", "words").tokens() == [
        "第",
        "50",
        "回",
        "の",
        "ス",
        "ー",
        "パ",
        "ー",
    ]


def test_spans_are_as_they_are_written():
    found = text_tokens("The  Big\nApple, once.", "words")
    assert found.span(1, 2) == "Big\nApple" and found.covering(5, 6) == (1, 1)
    assert found.covering(7, 12) == (1, 2)  # inside of two tokens
    assert found.covering(3, 5) is None  # white space


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", [Words, Characters])
def test_each_token_has_one_id(text, kind, lowercase):
    lines = [trained_on(one, kind.kind, lowercase) for one in (*TEXTS, "İI ẞ")]
    tokenizer = kind.train(lines)
    for one in (text, "İI ẞ never seen"):
        tokens = text_tokens(one, kind.kind).tokens()
        ids = token_ids(tokens, tokenizer, lowercase)
        assert len(ids) == len(tokens)
        if one is text:
            assert tokenizer.unk not in ids


def test_lower_case_of_one_character_is_one():
    assert lowered(["İ", "A", "İA"]) == ["İ", "a", "i̇a"]


@pytest.mark.parametrize("size, stride, answer", [(10, None, 3), (10, 8, 3), (5, 1, 5), (7, 3, 2), (1, 1, 1)])
def test_every_answer_is_whole_in_a_window(size, stride, answer):
    reading = Reading(max_paragraph=size, stride=stride, max_answer=answer)
    for length in range(1, 60):
        windows = reading.windows(length)
        assert windows == sorted(set(windows)) and all(
            0 <= start <= max(0, length - size) for start in windows
        )
        for first in range(length):
            last = min(first + answer, length) - 1
            assert any(start <= first and last < start + size for start in windows), (length, first)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"max_paragraph": 0}, "max_paragraph: expected at least 1, found 0; raise it"),
        ({"max_answer": 0}, "max_answer: expected at least 1, found 0; raise it"),
        ({"matched_run": 17}, "matched_run: expected at most 16, found 17; lower it"),
        (
            {"max_paragraph": 20},
            "max_answer: expected at most max_paragraph = 20 tokens, found 30; lower it, or raise "
            "max_paragraph",
        ),
        (
            {"stride": 372},
            "stride: expected at most 371 tokens, so that a window of max_paragraph holds max_answer whole, "
            "found 372; lower it, or leave it out",
        ),
        ({"stride": 0}, "stride: expected at least 1, found 0; raise it"),
    ],
)
def test_windows_that_would_lose_answers_are_refused(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        Reading(**options)


def test_pieces_have_no_places():
    pieces = Pieces.train(["one two three four five six"] * 9, vocabulary_size=20, algorithm="bpe")
    with pytest.raises(
        Refused, match="^run: expected a tokenizer of words or characters, found sentencepiece; train one of"
    ):
        check_kind(pieces, "run")
