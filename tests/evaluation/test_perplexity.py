"""Perplexity: what is counted, and what it must not depend on."""

import json
import math

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data.stream import StreamBatches, TokenStream
from seqsru.data.subwords import Pieces
from seqsru.data.vocabulary import Characters, Words
from seqsru.errors import Refused
from seqsru.evaluation import perplexity as module
from seqsru.evaluation.perplexity import TextScore, perplexity, sentence_nlls
from seqsru.models import LanguageModel

LINES = [" ".join("abcde"[(i * j + j) % 5] for j in range(1 + i % 7)) for i in range(30)] + ["", "a z"]


@pytest.fixture(scope="module")
def words():
    return Words.train(LINES[:30])


def build(tokenizer, cell="sru"):
    torch.manual_seed(0)
    return LanguageModel(tokenizer.size, Stack(cell, 10, 10, 2), 10).eval()


def by_hand(model, sentences, eos, carried):
    """One token at a time, with the step that decoding uses."""
    total, state, last = 0.0, model.initial_state(1), eos
    for sentence in sentences:
        if not carried:
            state, last = model.initial_state(1), eos
        for token in sentence:
            log_probs, _, state = model.step(torch.tensor([last]), (), state)
            total -= log_probs[0, token].item()
            last = token
    return total


@pytest.mark.parametrize("cell", ["sru", "lstm"])
@pytest.mark.parametrize("carried", [True, False])
def test_every_token_and_every_end_of_line_counts(words, carried, cell):
    model = build(words, cell)
    score = perplexity(model, TokenStream.from_lines(LINES, words), carried=carried)
    sentences = [[*words.encode(line), words.eos] for line in LINES]
    with torch.no_grad():
        assert score.nll == pytest.approx(by_hand(model, sentences, words.eos, carried), rel=1e-5)
    assert score.tokens == sum(len(line.split()) + 1 for line in LINES) == score.words + score.lines
    assert (score.lines, score.unknown, score.state) == (32, 1, "carried" if carried else "separate")
    assert score.perplexity == score.token_perplexity == math.exp(score.nll / score.tokens)


def test_the_window_does_not_matter(words):
    model, text = build(words), TokenStream.from_lines(LINES, words)
    values = [perplexity(model, text, window=w).nll for w in (1, 7, 64, len(text.tokens), 10_000)]
    assert values == pytest.approx([values[0]] * 5, rel=1e-6)


def test_carried_and_separate_differ(words):
    text = TokenStream.from_lines(LINES, words)
    carried, separate = (perplexity(build(words), text, carried=c).nll for c in (True, False))
    assert abs(carried - separate) > 1e-2


def test_sentences_alone_do_not_depend_on_the_batch_to_the_bit(words, monkeypatch):
    model = build(words)
    sentences = [[*words.encode(line), words.eos] for line in LINES]
    together = sentence_nlls(model, sentences, words.eos)
    assert sentence_nlls(model, sentences[::-1], words.eos) == together[::-1]
    for room in (1, 30):
        monkeypatch.setattr(module, "ROOM", room)
        assert sentence_nlls(model, sentences, words.eos) == together


def test_training_windows_cover_what_is_measured(words):
    """The loss over all windows of one row is the carried nll: nothing is dropped at the end of the file."""
    model, text = build(words), TokenStream.from_lines(LINES, words)
    state, total, count = None, 0.0, 0
    for window in StreamBatches(text.tokens, 1, 7, words.eos):
        features, state = model(window.inputs, state, window.valid)
        total += model.cross_entropy(features, window.targets, window.valid)[0].item()
        count += window.count
    assert count == len(text.tokens)
    assert total == pytest.approx(perplexity(model, text).nll, rel=1e-5)


def test_subwords_are_counted_by_the_word_and_by_the_byte():
    kinds = [(a, b) for a in ("old", "new", "big") for b in ("stone", "wood", "brick")]
    lines = [f"the {a} house of {b} is größer" for a, b in kinds] * 4
    pieces = Pieces.train(lines, vocabulary_size=24)
    score = perplexity(build(pieces), TokenStream.from_lines(lines, pieces))
    assert score.words == 7 * 36 and score.lines == 36 and score.tokens > score.words + score.lines
    assert score.bytes == sum(len(line.encode()) + 1 for line in lines)
    assert score.perplexity == pytest.approx(math.exp(score.nll / (8 * 36)))
    assert score.bits_per_byte == pytest.approx(score.nll / math.log(2) / score.bytes)


def test_characters_give_bits_per_character():
    lines = ["größer als", "x"]
    characters = Characters.train(lines)
    score = perplexity(build(characters), TokenStream.from_lines(lines, characters))
    assert score.tokens == 13 and score.bits_per_token == pytest.approx(score.nll / math.log(2) / 13)


def test_a_uniform_model_has_the_vocabulary_for_perplexity(words):
    model = build(words)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for carried in (True, False):
        score = perplexity(model, TokenStream.from_lines(LINES, words), carried=carried)
        assert score.perplexity == pytest.approx(words.size, rel=1e-6)
        assert score.bits_per_token == pytest.approx(math.log2(words.size), rel=1e-6)


def test_a_hopeless_model_has_infinite_perplexity_not_an_error():
    score = TextScore(nll=1e6, tokens=10, words=9, lines=1, bytes=50, unknown=0, state="carried")
    assert score.perplexity == math.inf and math.isfinite(score.bits_per_byte)
    assert list(score.values()) == ["perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"]


def test_as_plain_values():
    score = TextScore(nll=20.0, tokens=10, words=9, lines=1, bytes=50, unknown=2, state="separate")
    assert json.loads(json.dumps(score.as_dict())) == {
        **score.values(),
        "nll": 20.0,
        "tokens": 10,
        "words": 9,
        "lines": 1,
        "bytes": 50,
        "unknown": 2,
        "state": "separate",
    }


def test_no_text_is_an_error(words):
    with pytest.raises(Refused, match="text: expected at least one line of text, found none"):
        perplexity(build(words), TokenStream.from_lines([], words))
