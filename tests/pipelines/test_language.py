"""The language pipeline: text in, scores and text out."""

import math

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data.vocabulary import Words
from seqsru.pipelines.language import LanguagePipeline
from seqsru.models import LanguageModel

LINES = ["a b c d", "b c", "d d a", ""]


def first_word(pipeline):
    """Log probabilities of the first token of a line."""
    return pipeline.model.step(torch.tensor([pipeline.tokenizer.eos]), (), pipeline.model.initial_state(1))[0]


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    words = Words.train(LINES)
    return LanguagePipeline(LanguageModel(words.size, Stack("sru", 8, 8), 8, output_dropout=0.5), words)


def test_scores_are_log_probabilities_in_input_order(pipeline):
    scores = pipeline.score(LINES)
    assert -sum(scores) == pytest.approx(pipeline.perplexity(LINES, carried=False).nll, rel=1e-12)
    assert scores == [pipeline.score([line])[0] for line in LINES] and max(scores) < 0
    assert pipeline.score([]) == []


def test_scores_of_all_continuations_sum_to_one(pipeline):
    words = ["", *(f" {w}" for w in "a b c d".split())]
    ended = sum(math.exp(s) for s in pipeline.score([w.strip() for w in words[:1]]))
    first = first_word(pipeline)
    assert ended == pytest.approx(first[0, pipeline.tokenizer.eos].exp().item(), rel=1e-5)


def test_drawing_repeats_with_the_seed_and_keeps_the_prompt(pipeline):
    texts = pipeline.generate("a b", count=5, max_length=6, seed=3)
    assert texts == pipeline.generate("a b", count=5, max_length=6, seed=3)
    assert texts != pipeline.generate("a b", count=5, max_length=6, seed=4)
    assert len(set(texts)) > 1 and all(text.startswith("a b") for text in texts)
    assert all(len(text.split()) <= 8 for text in texts)


def test_the_likeliest_token_each_time_is_greedy_search(pipeline):
    drawn = pipeline.generate("c", max_length=9, top_k=1)
    found = pipeline.search("c", beam=1, max_length=10, alpha=0.0)
    assert found[0][0].startswith(drawn[0]) or drawn[0].startswith(found[0][0])


def test_search_finds_what_score_says(pipeline):
    found = pipeline.search("a", beam=6, n_best=6, max_length=4)
    assert len(found) == 6
    before = -pipeline.score(["a"])[0]
    for text, hypothesis in found:
        whole = first_word(pipeline)[0, pipeline.tokenizer.encode("a")[0]].item() + hypothesis.log_prob
        assert whole == pytest.approx(pipeline.score([text])[0], rel=1e-5)
    assert before > 0


def test_mistakes_are_refused(pipeline):
    with pytest.raises(ValueError, match="expected a tokenizer of 6 types, found one of 3"):
        LanguagePipeline(pipeline.model, Words.train(["x"]))
    with pytest.raises(ValueError, match="count should be at least 1, not 0"):
        pipeline.generate(count=0)
