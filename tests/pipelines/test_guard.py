"""The guards of a translation: odd lines in, sane lines out, and ordinary translations untouched."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqsru.cells import Stack
from seqsru.data import Words
from seqsru.data.subwords import Pieces
from seqsru.decoding import Decoding
from seqsru.errors import Refused
from seqsru.models import Decoder, Translator
from seqsru.pipelines.guard import Guarded, copied
from seqsru.pipelines.translation import Translation, TranslationPipeline

ALL = "tidy,repeats,numbers"
TEXT = [
    "Ein Hund läuft über die Wiese.", "Zwei Hunde laufen 3 Tage.", "Tom sah 10 Vögel.", "ein Haus am See.",
    "Der Mann heißt Tom.", "Es gibt 20 Häuser.", "Das Haus, das Tom baut.", "Hunde und Vögel und Tom.",
    "es gibt nichts x Häuser gibt", "4711 12:30 3 10 https://example.org/a1",
]  # fmt: skip


def words(lines):
    return Words.train(lines)


class Scripted:
    """A search that answers from a table, and notes what it was asked."""

    def __init__(self, target, answers, attention=None):
        self.target, self.answers, self.attention, self.asked = target, answers, attention, []

    def __call__(self, lines, decoding, attention):
        found = []
        for line in lines:
            self.asked.append((line, decoding))
            texts = self.answers(line, decoding) if line else [""]
            made = [
                Translation(text, self.target.encode(text), -1.0, -0.5,
                            self.attention if attention else None, [], [], 0, ())
                for text in texts[: decoding.n_best]
            ]  # fmt: skip
            found.append(replace(made[0], alternatives=tuple(made[1:])))
        return found


def guarded(answers, guard, lines, *, beam=2, attention=None, vocabulary=TEXT):
    tokenizer = words([*vocabulary, *lines])
    search = Scripted(tokenizer, answers, attention)
    found = Guarded(search, tokenizer, tokenizer, Decoding(beam=beam, guard=guard))(lines, False)
    return [one.text for one in found], search.asked


def size_of(decoding):
    return next((rule.size for rule in decoding.rules), None)


def test_what_is_copied():
    text = "Am 3.4.2024 um 12:30 zahlte (er) 1,000.50 $ und 7% an a.b@c-d.org, s. https://x.org/a?b=1&c=2."
    assert copied(text) == ["3.4.2024", "12:30", "1,000.50", "7", "a.b@c-d.org", "https://x.org/a?b=1&c=2"]
    assert copied("5-jährig, B2B, 1990er, ٣٤, www.x.de") == ["5", "2", "1990", "٣٤", "www.x.de"]
    assert copied("nothing at all") == []


def test_what_passes_is_what_it_is_without_guards():
    lines = ["Tom sah 10 Vögel.", "ein Haus am See."]
    answers = {lines[0]: "Vögel sah Tom 10", lines[1]: "Das Haus und nichts"}
    texts, asked = guarded(lambda line, _: [answers[line]], "repeats,numbers", lines)
    assert texts == [*answers.values()]
    assert len(asked) == 2


def test_a_translation_that_repeats_itself_gives_way_to_the_next_best():
    lines = ["Tom sah Vögel."]
    texts, asked = guarded(lambda *_: ["und und und und Tom", "Vögel und Tom"], "repeats", lines)
    assert texts == ["Vögel und Tom"]
    assert [(decoding.n_best, size_of(decoding)) for _, decoding in asked] == [(1, None), (2, None)]


def test_then_to_a_search_in_which_fewer_tokens_may_repeat():
    def answers(line, decoding):
        return {None: ["und und und und"], 3: ["und und und Tom und"], 2: ["und Tom"]}[size_of(decoding)]

    texts, asked = guarded(answers, "repeats", ["Tom sah Vögel."])
    assert texts == ["und Tom"]
    assert [size_of(decoding) for _, decoding in asked] == [None, None, 3, 2]


def test_and_at_last_to_the_line_itself():
    texts, _ = guarded(lambda *_: ["und und und und"], "repeats", ["Tom sah Vögel."])
    assert texts == ["Tom sah Vögel."]


def test_how_often_is_too_often_follows_from_the_source():
    for line, passes in (("Tom Tom sah", True), ("Tom sah", False)):
        text = guarded(lambda *_: ["und und und und"], "repeats", [line])[0][0]
        assert (text == "und und und und") == passes


@pytest.mark.parametrize("length, passes", [(16, True), (17, False)])
def test_the_longest_translation_counts_no_end_on_either_side(length, passes):
    target = [f"w{n}" for n in range(length)]
    texts, _ = guarded(
        lambda *_: [" ".join(target)], "repeats", ["Tom sah Vögel"], vocabulary=[*TEXT, " ".join(target)]
    )
    assert (texts == [" ".join(target)]) == passes


def test_a_lost_number_comes_back_by_way_of_one_that_the_model_knows():
    def answers(line, _):
        return ["Häuser gibt es"] if "4711" in line else [f"Häuser gibt es {copied(line)[0]}"]

    texts, asked = guarded(answers, "numbers", ["Es gibt 4711 Häuser."])
    assert texts == ["Häuser gibt es 4711"]
    assert "Es gibt 3 Häuser." in [line for line, _ in asked]


def test_two_numbers_keep_their_places():
    def answers(line, _):
        return ["nichts"] if "4711" in line else [" x ".join(copied(line)[::-1])]

    assert guarded(answers, "numbers", ["Tom sah 4711 Vögel 12:30"])[0] == ["12:30 x 4711"]


@pytest.mark.parametrize(
    "answer, text",
    [
        ("gibt es Häuser", "gibt 4711 es Häuser"),  # in front of the word
        ("gibt 20 Häuser", "gibt 4711 Häuser"),  # in place of a number that the line has not
    ],
)
def test_else_it_is_put_where_attention_to_it_was_greatest(answer, text):
    attention = np.zeros((4, 5), np.float32)
    attention[1, 2], attention[0, 1] = 0.9, 1.0  # the second word looks at the third
    assert guarded(lambda *_: [answer], "numbers", ["Es gibt 4711 Häuser"], attention=attention)[0] == [text]


def test_addresses_are_copied_too():
    line = "Tom sah https://example.org/a1"
    text = guarded(lambda *_: ["Vögel und Tom"], "numbers", [line], attention=np.eye(4, dtype=np.float32))[0][
        0
    ]
    assert sorted(text.split()) == sorted(["Vögel", "und", "Tom", "https://example.org/a1"])


@pytest.mark.parametrize("line", ["...", "4711", "😀 🎉", " 12:30 ! ", "—"])
def test_a_line_without_letters_is_its_own_translation(line):
    assert guarded(lambda *_: ["Tom"], ALL, [line])[0] == [line.strip()]


@pytest.mark.parametrize("line", ["", "   ", "\t"])
def test_an_empty_line_stays_empty(line):
    assert guarded(lambda *_: ["Tom"], ALL, [line])[0] == [""]


@pytest.fixture(scope="module")
def pieces():
    return Pieces.train(TEXT * 30, vocabulary_size=120, algorithm="bpe")


@pytest.mark.parametrize(
    "line, asked",
    [
        ("TOM SAH DAS HAUS", "Tom sah das Haus."),
        ("tom sah das haus", "Tom sah das Haus."),
        ("Tom  sah \t das Haus", "Tom sah das Haus."),
        ("Tom sah das Haus.", "Tom sah das Haus."),
        ("Tom sah das Haus!", "Tom sah das Haus!"),
        ("Tom SAH das Haus.", "Tom SAH das Haus."),  # whoever mixes them means it
    ],
)
def test_a_line_is_written_as_a_sentence(pieces, line, asked):
    search = Scripted(pieces, lambda line, _: [line])
    found = Guarded(search, pieces, pieces, Decoding(guard="tidy"))([line], False)
    assert [line for line, _ in search.asked] == [asked]
    assert found[0].text == (asked if line[-1] in ".!" else asked[:-1])


def test_the_next_best_lose_the_full_stop_too(pieces):
    search = Scripted(pieces, lambda *_: ["Das Haus.", "Tom sah das Haus.", "das Haus"])
    decoding = Decoding(guard="tidy", n_best=3)
    (best,) = Guarded(search, pieces, pieces, decoding)(["Tom sah das Haus"], False)
    assert [one.text for one in (best, *best.alternatives)] == ["Das Haus", "Tom sah das Haus", "das Haus"]
    assert best.tokens == pieces.encode("Das Haus")


def test_a_tokenizer_without_capitals_or_stops_keeps_the_line():
    tokenizer = words(["tom sah das haus"])
    search = Scripted(tokenizer, lambda line, _: [line])
    assert (
        Guarded(search, tokenizer, tokenizer, Decoding(guard="tidy"))(["TOM SAH"], False)[0].text == "tom sah"
    )


@pytest.mark.parametrize("guard", ["tidi", "tidy,", "numbers;tidy", ""])
def test_an_unknown_guard_is_refused(guard):
    with pytest.raises(Refused) as error:
        Decoding(guard=guard)
    assert str(error.value).startswith("guard: expected one of tidy, repeats, numbers, none, found")


def odd(draw):
    letters, parts = "abcdefghijklmnopqrstuvwxyzäöüß", []
    for _ in range(draw.randint(1, 8)):
        parts.append(
            draw.choice(
                [
                    draw.choice(TEXT).split()[0],
                    draw.choice(TEXT).upper(),
                    str(draw.randint(0, 10**6)),
                    "12:30",
                    "x@example.org",
                    "😀",
                    "".join(draw.choices(letters, k=9)),
                    "Tom Tom Tom",
                ]
            )
        )
    return "  ".join(parts)


def most(units):
    return max(Counter(units).values(), default=0)


@pytest.mark.parametrize("beam", [1, 4])
def test_whatever_a_model_says_the_promises_hold_and_no_line_depends_on_another(pieces, beam):
    torch.manual_seed(0)
    model = Translator(
        pieces.size,
        pieces.size,
        Stack("sru", 24, 20, 1, bidirectional=True),
        Decoder("sru", 24, 40, 32, 1),
        24,
    )
    pipeline = TranslationPipeline(model, pieces, pieces, decoding=Decoding(beam=beam))
    draw = random.Random(1)
    lines = [odd(draw) for _ in range(8)]
    found = pipeline.translate(lines, guard=ALL)
    bad = [
        one
        for one, line in zip(pipeline.translate(lines), lines)
        if not set(copied(line)) <= set(copied(one.text))
    ]
    assert bad  # what an untrained model says, without guards
    for line, one in zip(lines, found):
        source = pieces.encode(line)
        assert not Counter(copied(line)) - Counter(copied(one.text))
        assert len(pieces.encode(one.text)) <= 2 * len(source) + 10
        assert most(one.text.split()) <= most(line.split()) + 2
        assert most(pieces.encode(one.text)) <= most(source) + 2
    assert [pipeline.translate([line], guard=ALL)[0] for line in lines[:2]] == found[:2]


def test_alternatives_that_fail_are_left_out():
    """Who takes another of the n best than the first, as distillation does, gets what was promised."""
    answers = ["Tom sah 10 Vögel.", "Tom sah Vögel.", "Vögel und Tom 10", "und und und und 10"]
    tokenizer = words([*TEXT, *answers])
    guard, decoding = "numbers,repeats", Decoding(beam=4, n_best=4)
    for asked, kept in ((guard, [2]), ("numbers", [2, 3]), ("none", [1, 2, 3])):
        search = Scripted(tokenizer, lambda *_: answers)
        guarded = Guarded(search, tokenizer, tokenizer, replace(decoding, guard=asked))
        (found,) = guarded(["Tom sah 10 Vögel."], False)
        assert found.text == answers[0]
        assert [one.text for one in found.alternatives] == [answers[n] for n in kept]
