"""The language pipeline: text in, scores and text out."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy
import pytest
import torch

from seqsru.cells import Stack
from seqsru.data.vocabulary import Words
from seqsru.errors import Refused
from seqsru.evaluation import latency
from seqsru.models import LanguageModel
from seqsru.pipelines.eager import draw
from seqsru.pipelines.language import LanguagePipeline

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


def test_more_lines_are_drawn_after_those_before_them(pipeline):
    alone = pipeline.generate("a b", count=3, max_length=40, seed=3)
    three = pipeline.generate("a b", count=3, max_length=40, seed=3, lines=3)
    five = pipeline.generate("a b", count=3, max_length=40, seed=3, lines=5)
    assert [text.split("\n")[0] for text in five] == alone
    assert [text.split("\n")[:3] for text in five] == [text.split("\n") for text in three]
    assert {len(text.split("\n")) for text in five} == {5} and len(set(five)) == 3
    # The second line, once more with the first one as its prompt.
    eos, encode = pipeline.tokenizer.eos, pipeline.tokenizer.encode
    for number, text in enumerate(three):
        first, second, _ = text.split("\n")
        seed = int(numpy.random.SeedSequence((3, number)).generate_state(1)[0])
        how = {"eos": eos, "max_length": 40, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": seed}
        (again,) = draw(pipeline.model, [eos, *encode(first), eos], 1, **how)
        assert second == pipeline.tokenizer.decode(again.tokens[:-1])


def test_a_line_without_an_end_is_the_last(pipeline):
    for text in pipeline.generate("a", count=20, max_length=2, seed=5, lines=3):
        *ended, last = text.split("\n")
        assert len(ended) == 2 or len(last.split()) == 2 + (not ended)


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
    with pytest.raises(Refused, match="tokenizer: expected a tokenizer of 6 types, found one of 3"):
        LanguagePipeline(pipeline.model, Words.train(["x"]))
    with pytest.raises(Refused, match="count: expected at least 1, found 0"):
        pipeline.generate(count=0)
    with pytest.raises(Refused, match="n_best: expected 1 to the beam's 2, found 3"):
        pipeline.search(beam=2, n_best=3)


def test_nothing_can_be_changed(pipeline):
    for name in ("model", "tokenizer", "other"):
        with pytest.raises(AttributeError):
            setattr(pipeline, name, None)


def test_threads_share_it(pipeline):
    """Each gets what it would alone, to the bit."""

    def work(seed):
        found = pipeline.search("a b", beam=4, n_best=4)
        lines = pipeline.generate("c", count=3, seed=seed)
        return pipeline.score(LINES[seed % 2 :]), lines, [(text, one.score) for text, one in found]

    alone = [work(seed) for seed in range(6)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, list(range(6)) * 4)) == alone * 4


def test_it_is_timed():
    """Prompts are continued by `generate`; the model serves as before afterwards."""
    torch.manual_seed(1)
    tokenizer = Words(["<unk>", "<eos>", "a", "b", "c"])
    pipeline = LanguagePipeline(LanguageModel(5, Stack("sru", 8, 8, 2), 8), tokenizer)
    before = pipeline.generate("a b")
    report = latency.measure([pipeline.timed("sru")], ["a b", "c"], length=6, repeats=2)
    system = report["systems"][0]
    assert (system["name"], system["decoder"], system["steps"]) == ("sru", "sampling", 2 * 2 * 6)
    assert system["first_token"]["n"] == 4 and system["later_tokens"]["n"] == 20
    assert 0 < system["model_steps"]["p50"] <= system["later_tokens"]["max"]
    assert system["sentences"]["mean"] > 6 * system["model_steps"]["percentiles"][0]
    assert pipeline.generate("a b") == before
    natural = latency.measure([pipeline.timed("sru")], ["a b", "c"], repeats=1)
    assert natural["protocol"]["mode"] == "natural" and natural["systems"][0]["steps"] >= 3
