"""Training a reader: its loss, what validation gives, and that it goes on to the same bits."""

import json
import signal

import fake_graphs
import pytest
import torch
from tiny_runs import questions

from seqsru.cells import CELLS, Stack
from seqsru.data import Words
from seqsru.data.excerpts import ExcerptBatches, Excerpts, TextReader, feature_count
from seqsru.data.spans import Reading, trained_on
from seqsru.data.squad import read_squad
from seqsru.errors import Refused
from seqsru.models.reader import Reader, paragraph_features
from seqsru.pipelines import AnsweringPipeline
from seqsru.tasks.question_answering import QuestionObjective
from seqsru.training import OPTIMIZERS, SCHEDULES, RunDirectory, Trainer, TrainingOptions

READING = Reading(max_paragraph=8, max_answer=3)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Questions to learn from and to validate with, and a tokenizer of the first."""
    folder, found = tmp_path_factory.mktemp("sets"), []
    for seed, count in ((1, 150), (2, 20)):
        path = folder / f"{seed}.json"
        path.write_text(json.dumps(questions(count, seed)))
        found.append(read_squad([path]))
    texts = [*found[0].paragraphs, *(one.text for one in found[0].questions)]
    return *found, Words.train([trained_on(text, "words", False) for text in texts])


@pytest.fixture
def make(sets, tmp_path):
    train, validation, tokenizer = sets

    def made(folder="run", cell="sru", lr=1e-2, batch_size=16, metric="f1", **options):
        torch.manual_seed(2)
        kind = {"backend": "reference"} if cell == "sru" else {}
        features = feature_count(READING)
        stacks = (
            Stack(cell, size, 8, bidirectional=True, options=kind)
            for size in (paragraph_features(8, features, True), 8)
        )
        dropped = {"embedding_dropout": 0.1, "word_dropout": 0.1, "output_dropout": 0.1}
        model = Reader(tokenizer.size, features, *stacks, 8, **dropped)
        excerpts = Excerpts.from_questions(train, TextReader(tokenizer, READING))
        objective = QuestionObjective(
            ExcerptBatches(excerpts, batch_size, seed=3),
            validation,
            lambda model: AnsweringPipeline(model, tokenizer, READING),
            {"tokenizer": tokenizer.fingerprint},
            validation_metric=metric,
        )
        return Trainer(
            model,
            objective,
            OPTIMIZERS["adam"](model.parameters(), lr),
            SCHEDULES["constant"](lr),
            RunDirectory(tmp_path / folder),
            TrainingOptions(**{"clip": 5.0, "tensorboard": False, **options}),
        )

    return made


def test_the_loss_is_that_of_the_answers(make):
    trainer = make(steps=1)
    objective, model = trainer.objective, trainer.model.eval()
    batch = next(objective.batches(1, 0))
    loss, nll, tokens, rows, carried = objective.loss(model, batch, None)
    start, end = model(batch.tokens, batch.valid, batch.features, batch.question, batch.question_valid)
    expected = torch.zeros(())
    for row in range(16):
        for scores, place in zip((start, end), batch.answers[:, row]):
            expected -= torch.log_softmax(scores[:, row], 0)[place]
    torch.testing.assert_close(loss, expected)
    assert torch.equal(loss, nll) and not nll.requires_grad and (tokens, rows, carried) == (16, 16, ())


def test_an_epoch_may_be_begun_anywhere(make):
    objective = make(steps=1).objective
    whole = list(objective.batches(4, 0))
    assert len(whole) == objective.epoch_length() == 19  # of 300 questions
    for late, batch in zip(objective.batches(4, 3), whole[3:], strict=True):
        assert torch.equal(late.tokens, batch.tokens) and torch.equal(late.answers, batch.answers)


def test_a_batch_says_which_questions_it_has(make, sets):
    objective = make(steps=1).objective
    for number, batch in enumerate(objective.batches(2, 0)):
        ((name, numbers),) = objective.places(2, number).items()
        assert name == f"the questions of {sets[0].name}"
        for row, place in enumerate(numbers):
            one = sets[0].questions[place - 1]
            assert one.number == place
            words = sets[2].encode(trained_on(one.text, "words", False))
            assert batch.question[: len(words), row].tolist() == words


def test_batches_may_be_cuda_graphs(make, monkeypatch, tmp_path):
    """Of 19 batches an epoch the later ones are those of shapes that came before."""
    seen = fake_graphs.install(monkeypatch)
    with fake_graphs.Watcher(seen):
        expected = make("eager", steps=25, cuda_graphs="off").fit()
        assert not seen.graphs
        found = make("graphs", steps=25).fit()
    assert sum(graph.replays for graph in seen.graphs) > 10
    for name in ("model.safetensors", "training.safetensors"):
        assert (found.checkpoint / name).read_bytes() == (expected.checkpoint / name).read_bytes()


def test_validation_does_not_change_the_model(make):
    trainer = make(steps=1)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    values = trainer.objective.validate(trainer.model.eval())
    assert values.keys() == {"exact_match", "f1"} and values["f1"] >= values["exact_match"]
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    assert trainer.objective.signature_fields() == {"questions": 40, "f1": "words"}


@pytest.mark.parametrize("cell", ["sru", "gru"])
def test_it_learns(make, cell):
    assert make(cell=cell, epochs=8, lr=2e-2).fit().best > 90.0


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_trains(make, cell):
    assert make(cell=cell, steps=2, batch_size=4).fit().best >= 0.0


def test_it_trains_in_bfloat16(make):
    assert make(precision="bfloat16", epochs=4, lr=2e-2).fit().best > 40.0


def test_an_interrupted_run_ends_with_the_same_bits(make):
    outcome = make("whole", epochs=2).fit()
    for stop in (7, 15):  # within the first epoch, and in the second
        trainer = make("stopped", epochs=2)
        loss, seen = trainer.objective.loss, []

        def interrupted(*arguments, loss=loss, seen=seen, stop=stop):
            seen.append(1)
            if len(seen) == stop:
                signal.raise_signal(signal.SIGINT)
            return loss(*arguments)

        trainer.objective.loss = interrupted
        assert trainer.fit().reason == "interrupted"
    again = make("stopped", epochs=2).fit()
    assert (again.best, again.step) == (outcome.best, outcome.step) and outcome.step == 38
    for name in ("model.safetensors", "training.safetensors"):
        assert (again.checkpoint / name).read_bytes() == (outcome.checkpoint / name).read_bytes()


def test_mistakes_are_refused(make):
    with pytest.raises(
        Refused, match="validation_metric: expected one of f1, exact_match, found 'em'; choose"
    ):
        make(metric="em", steps=1)
