"""Training a classifier: what its loss is, what validation gives, and that it goes on to the same bits."""

import random
import signal

import pytest
import torch
import torch.nn.functional as F

from seqsru.cells import Stack
from seqsru.data.examples import ExampleBatches, Examples, Labels
from seqsru.data.labelled import LabelledLines
from seqsru.data.lines import LineReport
from seqsru.data.vocabulary import Words
from seqsru.errors import Refused
from seqsru.evaluation.classification import classification_score
from seqsru.models.classifier import Classifier, Convolution
from seqsru.pipelines.classification import ClassificationPipeline
from seqsru.tasks.classification import ClassificationObjective
from seqsru.tasks.classification_answers import matrix, percent
from seqsru.training import OPTIMIZERS, SCHEDULES, RunDirectory, Trainer, TrainingOptions

COLOURS, FILLING = "red green blue".split(), "a b c d e f g h".split()


def labelled(count, seed):
    """Lines whose label is the one colour among other words."""
    draw = random.Random(seed)
    labels, texts = [], []
    for _ in range(count):
        colour, words = draw.choice(COLOURS), draw.choices(FILLING, k=draw.randint(0, 9))
        words.insert(draw.randint(0, len(words)), colour)
        labels.append(f"is {colour}")
        texts.append(" ".join(words))
    return LabelledLines("set", labels, texts, list(range(1, count + 1)), LineReport("set", count))


TRAIN, VALIDATION = labelled(150, 1), labelled(23, 2)
TOKENIZER, LABELS = Words.train(TRAIN.texts), Labels.train(TRAIN)


def make_objective(validation=VALIDATION, **options):
    train, validation = (Examples.from_lines(lines, TOKENIZER, LABELS) for lines in (TRAIN, validation))
    prints = {"tokenizer": TOKENIZER.fingerprint, "labels": LABELS.fingerprint}
    return ClassificationObjective(ExampleBatches(train, 16, seed=3), validation, prints, **options)


def make(folder, objective=None, lr=1e-2, pooling="max", **options):
    torch.manual_seed(2)
    if pooling == "convolution":
        encoder, pooling = Convolution(12, widths=(1, 2), features=8), "max"
    else:
        encoder = Stack("sru", 12, 8, bidirectional=True, options={"backend": "reference"})
    model = Classifier(
        TOKENIZER.size,
        LABELS.size,
        encoder,
        12,
        pooling=pooling,
        embedding_dropout=0.1,
        word_dropout=0.1,
        output_dropout=0.2,
    )
    return Trainer(
        model,
        objective or make_objective(label_smoothing=0.1),
        OPTIMIZERS["adam"](model.parameters(), lr),
        SCHEDULES["constant"](lr),
        RunDirectory(folder),
        TrainingOptions(**{"clip": 5.0, "tensorboard": False, **options}),
    )


def test_loss_is_that_of_the_labels(tmp_path):
    objective, model = make_objective(label_smoothing=0.2), make(tmp_path, steps=1).model.eval()
    batch = next(objective.batches(1, 0))
    loss, nll, tokens, rows, carried = objective.loss(model, batch, None)
    logits = model.output(model(batch.tokens, batch.valid))
    expected = F.cross_entropy(logits, batch.labels, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.cross_entropy(logits, batch.labels, reduction="sum").detach())
    assert (tokens, rows, carried) == (16, 16, ()) and not nll.requires_grad


def test_an_epoch_may_be_begun_anywhere():
    objective = make_objective()
    whole = list(objective.batches(4, 0))
    assert len(whole) == objective.epoch_length() == 10
    for late, batch in zip(objective.batches(4, 3), whole[3:], strict=True):
        assert torch.equal(late.tokens, batch.tokens) and torch.equal(late.labels, batch.labels)
    assert sum(len(batch.labels) for batch in whole) == 150


def test_validation_gives_what_the_pipeline_says(tmp_path):
    objective, model = make_objective(label_smoothing=0.3), make(tmp_path, steps=1).model
    values = objective.validate(model.eval())
    assert list(values) == ["accuracy", "macro_f1", "loss"]
    found = ClassificationPipeline(model, TOKENIZER, LABELS).classify(VALIDATION.texts)
    right = [one.label == label for one, label in zip(found, VALIDATION.labels)]
    assert values["accuracy"] == pytest.approx(100 * sum(right) / 23) and 0 < sum(right) < 23
    losses = [-torch.tensor(one.probabilities[label]).log() for one, label in zip(found, VALIDATION.labels)]
    assert values["loss"] == pytest.approx(float(sum(losses)) / 23, rel=1e-5)  # without the smoothing


def test_validation_by_hand(tmp_path):
    """A model that says what its bias says: everything is the second of blue, green, red."""
    objective, model = make_objective(), make(tmp_path, steps=1).model.eval()
    torch.nn.init.zeros_(model.output.weight)
    with torch.no_grad():
        model.output.bias.copy_(torch.tensor([0.0, 2.0, 1.0]))
    counts = [VALIDATION.labels.count(name) for name in ("is blue", "is green", "is red")]
    assert LABELS.names == ("is blue", "is green", "is red") and min(counts) > 2
    values = objective.validate(model)
    assert values["accuracy"] == pytest.approx(100 * counts[1] / 23)
    f1 = 2 * counts[1] / (23 + counts[1])  # of green; the others were never said
    assert values["macro_f1"] == pytest.approx(100 * f1 / 3)
    log_probs = torch.tensor([0.0, 2.0, 1.0]).log_softmax(-1)
    expected = -sum(count * float(p) for count, p in zip(counts, log_probs)) / 23
    assert values["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric, higher", [("accuracy", True), ("macro_f1", True), ("loss", False)])
def test_the_best_is_the_best_in_a_metric(metric, higher):
    objective = make_objective(validation_metric=metric)
    assert (objective.metric, objective.higher_is_better) == (metric, higher)


@pytest.mark.parametrize("pooling", ["max", "last", "attention", "convolution"])
def test_it_learns(tmp_path, pooling):
    outcome = make(tmp_path, pooling=pooling, epochs=12, lr=2e-2).fit()
    assert outcome.best == 100.0


@pytest.mark.parametrize("pooling", ["max", "last", "mean", "attention", "convolution"])
def test_it_trains_in_bfloat16(tmp_path, pooling):
    outcome = make(
        tmp_path, make_objective(validation_metric="loss"), pooling=pooling, precision="bfloat16", epochs=3
    )
    assert 0.0 < outcome.fit().best < 1.0  # below ln 3 of three labels


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path):
    outcome = make(tmp_path / "whole", epochs=2).fit()
    for stop in (7, 6):  # within the first epoch, and in the second
        trainer = make(tmp_path / "stopped", epochs=2)
        loss, seen = trainer.objective.loss, []

        def interrupted(*arguments, loss=loss, seen=seen, stop=stop):
            seen.append(1)
            if len(seen) == stop:
                signal.raise_signal(signal.SIGINT)
            return loss(*arguments)

        trainer.objective.loss = interrupted
        assert trainer.fit().reason == "interrupted"
    again = make(tmp_path / "stopped", epochs=2).fit()
    assert (again.best, again.step) == (outcome.best, outcome.step) and outcome.step == 20
    for name in ("model.safetensors", "training.safetensors"):
        assert (again.checkpoint / name).read_bytes() == (outcome.checkpoint / name).read_bytes()


def test_patience_ends_it(tmp_path):
    """Nothing is learned at a rate this low, so the first validation is the best."""
    outcome = make(tmp_path, epochs=50, patience=2, lr=1e-30).fit()
    assert (outcome.reason, outcome.step, outcome.best_step) == ("patience", 30, 10)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert "step-00000010" in kept and "step-00000030" in kept


def test_matrix_and_percent():
    score = classification_score("a a b b b".split(), "a b b b a".split(), ["a", "b"])
    assert percent(score) == {"accuracy": 60.0, "macro_f1": pytest.approx(100 * (0.5 + 2 / 3) / 2)}
    assert matrix(score) == [
        "gold \\ predicted  a  b  precision  recall      F1",
        "a                 1  1     0.5000  0.5000  0.5000",
        "b                 1  2     0.6667  0.6667  0.6667",
    ]


def test_mistakes_are_refused():
    with pytest.raises(Refused, match=r"label_smoothing: expected .* from 0 to below 1, found 1\.0"):
        make_objective(label_smoothing=1.0)
    with pytest.raises(
        Refused,
        match="validation_metric: expected one of accuracy, macro_f1, loss, found 'acuracy'; did you mean",
    ):
        make_objective(validation_metric="acuracy")
    with pytest.raises(Refused, match="expected validation examples, found none; check the validation file"):
        make_objective(validation=labelled(0, 1))
