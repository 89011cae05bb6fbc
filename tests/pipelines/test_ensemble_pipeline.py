"""Text through an ensemble: what is beside a line changes nothing."""

import random

import pytest
import torch

from seqsru.cells import Stack
from seqsru.data import Words
from seqsru.decoding import Decoding
from seqsru.models import Decoder, Ensemble, Translator
from seqsru.pipelines import TranslationPipeline

WORDS = [f"w{number}" for number in range(29)]


def lines(count, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(count)]


@pytest.fixture(scope="module")
def pipeline():
    torch.manual_seed(0)
    tokenizer, models = Words.train([" ".join(WORDS)]), []
    for cell, attention, layers in (("sru", "dot", 2), ("gru", "additive", 1), ("sru", "additive", 1)):
        encoder = Stack(cell, 24, 20, 2, bidirectional=True)
        decoder = Decoder(cell, 24, 40, 32, layers, attention=attention)
        model = Translator(tokenizer.size, tokenizer.size, encoder, decoder, 24)
        with torch.no_grad():  # untrained models do not end by themselves, nor look at the source much
            model.source_embedding.weight *= 3
            model.output_bias[tokenizer.eos] = 1.5
        models.append(model)
    short = Decoding(length_factor=1.0, length_offset=2)
    return TranslationPipeline(Ensemble(models), tokenizer, tokenizer, decoding=short)


def facts(translation):
    others = [facts(other) for other in translation.alternatives]
    weights = None if translation.attention is None else translation.attention.tolist()
    return translation.text, translation.log_prob, translation.score, weights, others


@pytest.mark.parametrize("options", [{"beam": 1}, {"beam": 4, "n_best": 3, "coverage": 0.3}])
def test_batches_change_nothing(pipeline, options):
    texts = ["", *lines(9, 1), "  ", *lines(4, 2)]
    expected = [facts(one) for one in pipeline.translate(texts, attention=True, **options)]
    assert len({fact[0] for fact in expected}) > 4
    alone = [facts(pipeline.translate([text], attention=True, **options)[0]) for text in texts]
    assert alone == expected
    turned = pipeline.translate(texts[::-1], attention=True, batch_size=3, **options)
    assert [facts(one) for one in turned[::-1]] == expected


def test_scores_do_not_depend_on_the_batch(pipeline):
    sources, targets = lines(9, 3), lines(9, 4)
    expected = pipeline.score(sources, targets)
    assert [pipeline.score([one], [other])[0] for one, other in zip(sources, targets)] == expected


def test_what_the_search_says_is_what_scoring_says(pipeline):
    (found,) = pipeline.translate(lines(1, 5), beam=4, n_best=4)
    every = [found, *found.alternatives]
    scores = pipeline.score(lines(1, 5) * 4, [one.text for one in every])
    assert [one.log_prob for one in every] == pytest.approx(scores, abs=1e-4)
