"""What validation of a translator measures: chrF and BLEU, with any tokenizer, against any references."""

import pytest
import sacrebleu
import torch
from torch import nn

from seqsru.cells import Stack
from seqsru.data.lines import LineReport, ParallelLines
from seqsru.data.pairs import PairBatches, Pairs
from seqsru.data.vocabulary import Characters
from seqsru.decoding import Decoding
from seqsru.models import Decoder, Translator
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.tasks.translation import TranslationObjective

SOURCE = ["a b c", "b c a a", "c", "a c b c"]
TARGET = ["甲乙丙", "乙丙甲甲", "丙", "甲丙乙丙"]
OTHER = ["甲乙", "乙丙", "丙丙丙", ""]


@pytest.fixture
def model():
    torch.manual_seed(3)
    options = {"backend": "reference"}
    encoder = Stack("sru", 8, 8, 1, options=options)
    made = Translator(6, 6, encoder, Decoder("sru", 8, encoder.output_size, 8, 1, options=options), 8)
    nn.init.normal_(made.output_bias, std=2.0)
    return made.eval()


def objective(**options):
    source, target = Characters.train(SOURCE), Characters.train(TARGET)
    lines = ParallelLines("pairs", SOURCE, TARGET, range(1, 5), LineReport("pairs", 4))
    return TranslationObjective(
        PairBatches(Pairs.from_lines(lines, source, target), 64, seed=1),
        lines,
        source,
        target,
        Decoding(beam=1, length_offset=5),
        {},
        **options,
    )


@pytest.mark.parametrize("further", [[], [OTHER]])
@pytest.mark.parametrize("metric, tokenize", [("chrf", "13a"), ("bleu", "char"), ("bleu", "zh")])
def test_values_are_sacrebleus(metric, tokenize, further, model):
    made = objective(validation_metric=metric, validation_tokenize=tokenize, further=further)
    assert (made.metric, made.higher_is_better, made.tie_breaker) == (metric, True, "perplexity")
    model = Translator(
        made.source_tokenizer.size, made.target_tokenizer.size, model.encoder, model.decoder, 8
    ).eval()
    pipeline = TranslationPipeline(
        model, made.source_tokenizer, made.target_tokenizer, decoding=made.decoding
    )
    texts = [translation.text for translation in pipeline.translate(SOURCE)]
    references = [TARGET, *further]
    expected = {
        "chrf": lambda: sacrebleu.corpus_chrf(texts, references),
        "bleu": lambda: sacrebleu.corpus_bleu(texts, references, tokenize=tokenize),
    }[metric]()
    values = made.validate(model)
    assert list(values) == ["perplexity", metric] and values[metric] == expected.score
    fields = made.signature_fields()
    assert fields["nrefs"] == len(references) and fields.get("tok", tokenize) == tokenize
    assert fields["lines"] == 4 and fields["tokens"] == sum(map(len, TARGET)) + 4 and fields["beam"] == 1


def test_perplexity_alone_is_signed_without_a_search():
    made = objective(validation_metric="perplexity")
    assert (made.higher_is_better, made.tie_breaker, made.notes) == (False, None, ())
    assert list(made.signature_fields()) == ["lines", "tokens", "unknown"]


def test_unknown_tokens_are_counted():
    made = objective(validation_metric="perplexity")
    made = TranslationObjective(
        made.pairs,
        ParallelLines("pairs", ["a"], ["甲丁丁"], [1], LineReport("pairs", 1)),
        made.source_tokenizer,
        made.target_tokenizer,
        Decoding(),
        {},
    )
    assert made.signature_fields()["unknown"] == 2


def test_a_tokenizer_is_checked_when_it_is_made():
    told = r"^validation_tokenize: expected one of 13a, .*, found 'mecab'; did you mean 'ko-mecab'\?$"
    for metric in ("bleu", "chrf", "perplexity"):
        with pytest.raises(ValueError, match=told):
            objective(validation_tokenize="mecab", validation_metric=metric)
