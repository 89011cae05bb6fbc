"""Training a recogniser: what validation gives, that it goes on to the same bits, and what it depends on."""

import os
import signal

import numpy
import pytest
import torch
from tiny_runs import RECOGNITION, settings, spoken, write_frames, write_texts

import seqsru
from seqsru import runs
from seqsru.errors import Refused
from seqsru.evaluation.error_rate import error_rates
from seqsru.pipelines import RecognitionPipeline
from seqsru.settings import SettingsError
from seqsru.tasks.recognition_objective import RecognitionObjective

AUGMENTED = [
    "augmentation.feature_masks=1",
    "augmentation.feature_width=2",
    "augmentation.time_masks=1",
    "augmentation.time_width=3",
    "model.output_dropout=0.2",
    "model.input_dropout=0.1",
]


@pytest.fixture
def folder(tmp_path):
    write_texts(tmp_path)
    return tmp_path


def quiet(line):
    """Nobody listens."""


def train(folder, *overrides):
    return runs.train(settings(folder, RECOGNITION, *overrides), quiet)


def test_it_learns_and_is_measured_as_the_pipeline_writes(folder):
    outcome = train(folder, "training.epochs=6")
    pipeline = seqsru.load(folder / "run", RecognitionPipeline)
    rows = [line.split("\t") for line in (folder / "valid.tsv").read_text().splitlines()[1:]]
    found = [one.text for one in pipeline.transcribe([row[1] for row in rows])]
    right = [row[2] for row in rows]
    assert outcome.best < 25.0
    assert outcome.best == error_rates(right, found)[0].counts.rate


def test_loss_is_summed_and_validation_gives_it_a_unit(folder):
    chosen = settings(folder, RECOGNITION)
    trainer = runs.prepare(chosen, quiet)
    objective, model = trainer.objective, trainer.model.eval()
    batch = next(objective.batches(1, 0))
    loss, nll, tokens, rows, carried = objective.loss(model, batch, None)
    log_probs, _ = model(batch.inputs, batch.valid)
    expected = torch.nn.functional.ctc_loss(
        log_probs,
        batch.targets.t(),
        batch.valid.sum(0),
        batch.target_valid.sum(0),
        blank=model.blank,
        reduction="sum",
    )
    torch.testing.assert_close(loss, expected)
    assert (tokens, rows, carried) == (int(batch.target_valid.sum()), batch.targets.shape[1], ())
    assert not nll.requires_grad
    with torch.no_grad():
        values = objective.validate(model)
    total = sum(map(len, objective._targets))
    by_hand = 0.0
    for one, target in zip(objective.inputs, objective._targets):
        x = torch.from_numpy(one).unsqueeze(1)
        log_probs, _ = model(x)
        by_hand += float(
            torch.nn.functional.ctc_loss(
                log_probs,
                torch.tensor([target]),
                torch.tensor([len(x)]),
                torch.tensor([len(target)]),
                blank=model.blank,
                reduction="sum",
            ).detach()
        )
    assert list(values) == ["wer", "cer", "loss"] and values["loss"] == pytest.approx(
        by_hand / total, rel=1e-5
    )


WRITING = ["model.decoder={cell: {name: sru, backend: reference}, hidden_size: 16, dropout: 0.1}"]


@pytest.mark.parametrize("more", [["frontend.normalize=speaker"], [*WRITING, "training.label_smoothing=0.1"]])
def test_an_interrupted_run_ends_with_the_same_bits(folder, monkeypatch, more):
    given = [*AUGMENTED, *more, "training.epochs=2", "batches.frames=200"]
    whole = train(folder, *given, f"output={folder}/whole")
    loss, seen = RecognitionObjective.loss, []

    def interrupted(self, *arguments):
        seen.append(1)
        if len(seen) in (4, 9):  # within the first epoch, and in the second process
            os.kill(os.getpid(), signal.SIGINT)
        return loss(self, *arguments)

    monkeypatch.setattr(RecognitionObjective, "loss", interrupted)
    assert train(folder, *given).reason == "interrupted"
    assert train(folder, *given).reason == "interrupted"
    again = train(folder, *given)
    assert (again.best, again.step) == (whole.best, whole.step) and again.step > 9
    for name in ("model.safetensors", "training.safetensors"):
        assert (again.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes()


def test_other_recordings_under_the_same_names_are_refused(folder):
    train(folder, "training.epochs=1")
    write_frames(folder / "speech" / "train-3.mfc", spoken("one two", 77))
    with pytest.raises(
        SettingsError,
        match=r"run.yaml:3: data.train: expected the recordings that the run in \S+ began with, whose sha256 "
        r"begins \w{12}, found \w{12} of the recordings; restore it, or choose another output$",
    ):
        train(folder, "training.epochs=2")
    write_frames(folder / "speech" / "test-3.mfc", spoken("one two", 77))  # a test may change
    lines = [line.split() for line in (folder / "train.txt").read_text().splitlines()]
    write_frames(folder / "speech" / "train-3.mfc", spoken(" ".join(lines[3]), 3))
    assert train(folder, "training.epochs=2").step > 0


def test_features_of_another_size_and_damaged_ones(folder):
    with pytest.raises(Refused, match=r"expected frames of 5 features in \S+mfc at \S+train.tsv:\d, found"):
        train(folder, "features.size=5")
    train(folder, f"output={folder}/run", "training.epochs=1")
    path = folder / "run" / "features.json"
    path.write_text(path.read_text().replace("features", "featurse"))
    with pytest.raises(Refused, match=r"features.json, found no features; the file was damaged or edited"):
        seqsru.load(folder / "run")


def test_files_of_features_are_read_at_every_speed(folder):
    given = ["augmentation.speeds=[0.5, 1.0, 2.0]", "training.epochs=4"]
    assert train(folder, *given).best < 60.0
    objective = runs.prepare(settings(folder, RECOGNITION, *given), quiet).objective
    for by_speed in objective.utterances.examples.frames:
        assert {speed: len(frames) for speed, frames in by_speed.items()} == {
            speed: round(len(by_speed[1.0]) / speed) for speed in by_speed
        }
    first, second = (next(objective.batches(epoch, 0)).inputs.shape for epoch in (1, 2))
    assert first != second


def test_bad_utterances_are_left_out_where_that_is_asked_for(folder):
    path = folder / "train.tsv"
    short = folder / "speech" / "short.mfc"
    write_frames(short, numpy.ones((2, 6), dtype="f"))
    path.write_text(path.read_text() + f"x\t{short}\tone two three\ty\nz\tnowhere.mfc\tone\ty\n")
    with pytest.raises(
        Refused, match=r"^expected a file at \S+nowhere.mfc at \S+train.tsv:63, found No such"
    ):
        train(folder)
    path.write_text(path.read_text().replace("z\tnowhere.mfc\tone\ty\n", ""))
    with pytest.raises(
        Refused, match=r"for the 3 units of the transcript at \S+train.tsv:62, found 1; correct"
    ):
        train(folder)
    told = []
    runs.train(settings(folder, RECOGNITION, "data.on_bad_line=skip", "training.epochs=1"), told.append)
    assert any("with a transcript too long for the frames, skipped (line 62)" in line for line in told)
    path.write_text("id\tfile\ttranscript\n")
    with pytest.raises(
        Refused, match=r"^expected utterances to read, found none \(\S+train.tsv: 1 lines\); check"
    ):
        train(folder, f"output={folder}/none")


def test_a_run_may_start_from_another(folder):
    train(folder, "training.epochs=1")
    given = [f"start_from.run={folder}/run", f"output={folder}/next", "training.epochs=1"]
    assert train(folder, *given, "model.output_dropout=0.3").step > 0
    first, second = (seqsru.load(folder / name).space.fingerprint for name in ("run", "next"))
    assert first == second
    with pytest.raises(
        SettingsError,
        match="features.size: expected 6 features a frame, as the run that it starts from has, found 3; ",
    ):
        train(folder, *given[:1], f"output={folder}/third", "features.size=3")


@pytest.mark.parametrize("metric", ["wer", "cer", "loss"])
def test_the_best_is_the_best_in_a_metric(folder, metric):
    trainer = runs.prepare(settings(folder, RECOGNITION, f"training.validation_metric={metric}"), quiet)
    objective = trainer.objective
    assert (objective.metric, objective.higher_is_better) == (metric, False)
    assert objective.tie_breaker == (None if metric == "loss" else "loss")


@pytest.mark.parametrize(
    "stack",
    [
        "{cell: lstm, hidden_size: 8, bidirectional: true}",
        "{cell: qrnn, hidden_size: 8}",
        "{cell: gru, hidden_size: 8}",
    ],
)
@pytest.mark.parametrize("tokenizer", ["characters", "{name: sentencepiece, vocabulary_size: 22}"])
def test_any_stack_and_any_units_in_bfloat16_too(folder, stack, tokenizer):
    outcome = train(
        folder,
        f"model.encoder={stack}",
        f"tokenizer={tokenizer}",
        "frontend={normalize: none, stride: 1}",
        "data.on_bad_line=skip",  # some are too short for their letters
        "training={steps: 2, epochs: 0, precision: bfloat16, tensorboard: false}",
    )
    assert outcome.step == 2


def test_a_batch_says_which_lines_it_has(folder):
    objective = runs.prepare(settings(folder, RECOGNITION, "batches.frames=200"), quiet).objective
    found = [objective.places(1, number) for number in range(objective.epoch_length())]
    assert sorted(line for one in found for line in one[f"{folder}/train.tsv"]) == list(range(2, 62))
