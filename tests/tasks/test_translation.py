"""Training a translator: what its loss is, what validation gives, and that it goes on to the same bits."""

import signal

import pytest
import torch
import torch.nn.functional as F

from seqsru.cells import Stack
from seqsru.data.lines import LineReport, ParallelLines
from seqsru.data.pairs import PairBatches, Pairs
from seqsru.data.vocabulary import Words
from seqsru.decoding import Decoding, ForbiddenTokens
from seqsru.models import Decoder, Translator
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.tasks.translation import TranslationObjective
from seqsru.training import OPTIMIZERS, SCHEDULES, RunDirectory, Trainer, TrainingOptions

LETTERS = "a b c d e f".split()
SOURCE = [" ".join(LETTERS[(i * k + k * k) % 6] for k in range(2 + i % 4)) for i in range(150)]
TARGET = [" ".join(word.upper() for word in reversed(line.split())) for line in SOURCE]


def parallel(count):
    return ParallelLines(
        "pairs", SOURCE[:count], TARGET[:count], range(1, count + 1), LineReport("pairs", count)
    )


def make_objective(batches=None, rules=(), validation=None, **options):
    source, target = Words.train(SOURCE), Words.train(TARGET)
    pairs = PairBatches(Pairs.from_lines(parallel(150), source, target), 128, seed=3)
    return TranslationObjective(
        pairs,
        validation or parallel(20),
        source,
        target,
        Decoding(beam=2, rules=tuple(rules)),
        {"source tokenizer": source.fingerprint, "target tokenizer": target.fingerprint},
        **options,
    )


def make(folder, objective=None, lr=5e-3, **options):
    torch.manual_seed(2)
    options_of_cells = {"backend": "reference"}
    encoder = Stack("sru", 24, 24, 1, bidirectional=True, options=options_of_cells)
    decoder = Decoder("sru", 24, encoder.output_size, 24, 1, dropout=0.1, options=options_of_cells)
    model = Translator(8, 8, encoder, decoder, 24)
    return Trainer(
        model,
        objective or make_objective(label_smoothing=0.1),
        OPTIMIZERS["adam"](model.parameters(), lr),
        SCHEDULES["inverse_sqrt"](lr, warmup=20),
        RunDirectory(folder),
        TrainingOptions(**{"clip": 1.0, "tensorboard": False, **options}),
    )


def test_loss_is_that_of_the_real_target_tokens(tmp_path):
    objective, model = make_objective(label_smoothing=0.2), make(tmp_path, steps=1).model.eval()
    batch = next(objective.batches(1, 0))
    loss, nll, tokens, rows, carried = objective.loss(model, batch, None)
    logits = model.logits(model(batch.source, batch.source_valid, batch.target_in))[batch.target_valid]
    targets = batch.target_out[batch.target_valid]
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, targets, reduction="sum").detach())
    assert (tokens, rows, carried) == (len(targets), batch.source.shape[1], ())


def test_an_epoch_may_be_begun_anywhere():
    objective = make_objective()
    whole = list(objective.batches(4, 0))
    assert len(whole) == objective.epoch_length() > 3
    for late, batch in zip(objective.batches(4, 3), whole[3:], strict=True):
        assert torch.equal(late.source, batch.source) and torch.equal(late.target_out, batch.target_out)
    assert sum(batch.source.shape[1] for batch in whole) == 150


def test_validation_gives_perplexity_and_bleu_of_what_the_pipeline_writes(tmp_path):
    objective, model = make_objective(), make(tmp_path, steps=1).model
    values = objective.validate(model.eval())
    pipeline = TranslationPipeline(model, objective.source_tokenizer, objective.target_tokenizer)
    total = sum(pipeline.score(SOURCE[:20], TARGET[:20]))
    count = sum(len(line.split()) + 1 for line in TARGET[:20])
    assert values["perplexity"] == pytest.approx(torch.tensor(-total / count).exp().item(), rel=1e-5)
    assert 0.0 <= values["bleu"] < 30.0 and (objective.metric, objective.higher_is_better) == ("bleu", True)


def test_validation_may_leave_translating_out(tmp_path):
    objective = make_objective(validation_metric="perplexity")
    assert list(objective.validate(make(tmp_path, steps=1).model.eval())) == ["perplexity"]
    assert (objective.metric, objective.higher_is_better) == ("perplexity", False)


def test_validation_has_its_beam_and_its_rules(tmp_path):
    assert make_objective().decoding.beam == 2 and make_objective(validation_beam=1).decoding.beam == 1
    objective = make_objective(rules=[ForbiddenTokens(list(range(2, 8)))])  # leaves nothing but <unk>
    with torch.no_grad():
        assert objective.validate(make(tmp_path, steps=1).model.eval())["bleu"] == 0.0


def test_it_learns(tmp_path):
    assert make(tmp_path, epochs=12, validate_every=1000).fit().best > 50.0


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    outcome = make(tmp_path / "whole", epochs=2).fit()
    trainer = make(tmp_path / "stopped", epochs=2)
    loss, seen = trainer.objective.loss, []

    def interrupted(*arguments):
        seen.append(1)
        if len(seen) == 12:
            signal.raise_signal(signal.SIGINT)
        return loss(*arguments)

    trainer.objective.loss = interrupted
    assert trainer.fit().reason == "interrupted"
    again = make(tmp_path / "stopped", epochs=2).fit()
    assert (again.best, again.step) == (outcome.best, outcome.step)
    for name in ("model.safetensors", "training.safetensors"):
        assert (again.checkpoint / name).read_bytes() == (outcome.checkpoint / name).read_bytes()


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match=r"label_smoothing: expected .* from 0 to below 1, found 1\.0"):
        make_objective(label_smoothing=1.0)
    with pytest.raises(
        ValueError, match="validation_metric: expected one of bleu, chrf, perplexity, found 'ter'"
    ):
        make_objective(validation_metric="ter")
