"""A recogniser of two outputs: what is minimised and measured, the same bits, and what goes together."""

import json
import random
import re

import pytest
import torch
from tiny_runs import RECOGNITION, WORDS, settings, write_config, write_speech, write_texts

import seqsru
from seqsru import runs
from seqsru.commands.main import main
from seqsru.decoding.fusion import CtcDecoding
from seqsru.evaluation.error_rate import error_rates
from seqsru.pipelines import RecognitionPipeline
from seqsru.settings import SettingsError

JOINT = [
    "model.decoder={cell: {name: sru, backend: reference}, hidden_size: 16}",
    "model.encoder.bidirectional=true",
]


def quiet(line):
    """Nobody listens."""


@pytest.fixture
def folder(tmp_path):
    write_texts(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def joint_run(tmp_path_factory):
    """The folder of a run of both outputs that has learnt utterances of one word or two."""
    folder, draw = tmp_path_factory.mktemp("joint"), random.Random(3)
    for split, count in (("train", 120), ("valid", 12), ("test", 6)):
        write_speech(folder, split, [" ".join(draw.choices(WORDS, k=1 + n % 2)) for n in range(count)])
    path = write_config(folder, RECOGNITION)
    given = ["training.epochs=9", "training.ctc_weight=0.3", "batches.frames=300"]
    assert main(["train", str(path), *JOINT, *given]) == 0
    return folder


def train(folder, *overrides):
    return runs.train(settings(folder, RECOGNITION, *JOINT, *overrides), quiet)


@pytest.mark.parametrize("share, smoothing", [(None, 0.0), (0.3, 0.1), (0.9, 0.2)])
def test_the_loss_is_that_of_both_summed(folder, share, smoothing):
    given = [f"training.label_smoothing={smoothing}"]
    given += [f"training.ctc_weight={share}"] if share else []
    trainer = runs.prepare(settings(folder, RECOGNITION, *JOINT, *given), quiet)
    objective, model, share = trainer.objective, trainer.model.eval(), share or 0.5
    batch = next(objective.batches(1, 0))
    loss, nll, tokens, rows, carried = objective.loss(model, batch, None)
    log_probs, _ = model(batch.inputs, batch.valid)
    ctc = model.ctc_loss(log_probs, batch.valid, batch.targets, batch.target_valid).sum().detach()
    attention = own = 0.0
    for row in range(batch.targets.shape[1]):
        steps, length = int(batch.valid[:, row].sum()), int(batch.target_valid[:, row].sum())
        units = batch.targets[:length, row].tolist()
        encoded, _ = model.encode(batch.inputs[:steps, row : row + 1])
        memory, state = model.begin(encoded)
        scores = []
        for unit in [objective.tokenizer.bos, *units]:
            log_probs, _, state = model.step(torch.tensor([unit]), memory, state)
            scores.append(log_probs[0])
        predicted = torch.tensor([*units, objective.tokenizer.eos])
        for total, part in (("smooth", smoothing), ("own", 0.0)):
            value = torch.nn.functional.cross_entropy(
                torch.stack(scores), predicted, reduction="sum", label_smoothing=part
            ).item()
            attention, own = (attention + value, own) if total == "smooth" else (attention, own + value)
    assert loss.item() == pytest.approx(share * ctc.item() + (1 - share) * attention, rel=1e-4)
    assert nll.item() == pytest.approx(share * ctc.item() + (1 - share) * own, rel=1e-4)
    assert not nll.requires_grad
    assert (tokens, rows, carried) == (int(batch.target_valid.sum()), batch.targets.shape[1], ())
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_both_learn_and_are_logged(joint_run):
    pipeline = seqsru.load(joint_run / "run", RecognitionPipeline)
    rows = [line.split("\t") for line in (joint_run / "valid.tsv").read_text().splitlines()[1:]]
    right = [row[2] for row in rows]
    for decoding in (
        CtcDecoding(),
        CtcDecoding(decoder="attention"),
        CtcDecoding(beam=4, decoder="attention"),
        CtcDecoding(beam=4, decoder="joint"),
    ):
        found = [one.text for one in pipeline.transcribe([row[1] for row in rows], decoding=decoding)]
        assert error_rates(right, found)[0].counts.rate < 25.0, decoding
    lines = (joint_run / "run" / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line) for line in lines if '"valid"' in line]
    assert values[-1]["attention_loss"] < 0.5 * values[0]["attention_loss"]
    assert values[-1]["loss"] < 0.5 * values[0]["loss"]


def test_validation_gives_the_decoders_loss_a_unit_or_end(joint_run):
    given = ["training.epochs=9", "training.ctc_weight=0.3", "batches.frames=300"]
    objective = runs.prepare(settings(joint_run, RECOGNITION, *JOINT, *given), quiet).objective
    model = seqsru.load(joint_run / "run", RecognitionPipeline).model
    with torch.no_grad():
        values = objective.validate(model)
        total, count = 0.0, 0
        for one, target in zip(objective.inputs, objective._targets):
            encoded, _ = model.encode(torch.from_numpy(one).unsqueeze(1))
            read = torch.tensor([[objective.tokenizer.bos, *target]]).t()
            predicted = torch.tensor([[*target, objective.tokenizer.eos]]).t()
            there = torch.ones_like(predicted, dtype=torch.bool)
            total += float(model.cross_entropy(*model.begin(encoded), read, predicted, there)[0])
            count += len(target) + 1
    assert list(values) == ["wer", "cer", "loss", "attention_loss"]
    assert values["attention_loss"] == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize(
    "overrides, sentence",
    [
        (
            ["training.ctc_weight=0.5"],
            "training.ctc_weight: expected model.decoder with it, found none; leave it out, or add "
            "the decoder",
        ),
        (
            ["training.label_smoothing=0.1"],
            "training.label_smoothing: expected model.decoder with it, found none; leave it out, or add the "
            "decoder",
        ),
        (
            [*JOINT, "training.ctc_weight=1.0"],
            "training.ctc_weight: expected a number above 0 and below 1, found 1.0; both outputs are to "
            "learn; leave out model.decoder for CTC alone",
        ),
        (
            [*JOINT, "training.ctc_weight=0"],
            "training.ctc_weight: expected a number above 0 and below 1, found 0.0; both outputs are to "
            "learn; leave out model.decoder for CTC alone",
        ),
        (
            [*JOINT, "training.label_smoothing=1.0"],
            "training.label_smoothing: expected a probability from 0 to below 1, found 1.0; 0 switches "
            "it off",
        ),
        (
            [*JOINT, "model.decoder.hidden_size=0"],
            "model.decoder.hidden_size: expected at least 1, found 0; raise it",
        ),
        (
            [*JOINT, "model.decoder.attention={name: dot, heads: 3}"],
            "model.decoder.attention.heads: expected ",
        ),
    ],
)
def test_what_does_not_go_together(folder, overrides, sentence):
    with pytest.raises(SettingsError, match=f"^command line: {re.escape(sentence)}"):
        runs.train(settings(folder, RECOGNITION, *overrides), quiet)


def test_commands_search_with_either_output(joint_run, capsys):
    run = joint_run / "run"

    def told(*arguments, status=0):
        assert main([str(one) for one in arguments]) == status
        out, err = capsys.readouterr()
        return err if status else out

    signatures = set()
    for flags in (
        [],
        ["--beam", 4],
        ["--decoder", "attention"],
        ["--decoder", "attention", "--beam", 4],
        ["--decoder", "joint", "--beam", 4],
        ["--decoder", "joint", "--beam", 4, "--ctc-weight", 0.3],
        ["--decoder", "joint", "--beam", 4, "--candidates", 3],
    ):
        lines = told("evaluate", run, *flags).splitlines()
        assert "|second:sru-v2,1|attention:dot|" in lines[-1]
        signatures.add(lines[-1])
    assert len(signatures) == 7
    assert "beam:4|decoder:attention|" in told("evaluate", run, "--decoder", "attention", "--beam", 4)
    assert "|beam:4|candidates:40|decoder:joint|ctc-weight:0.5|" in told(
        "evaluate", run, "--decoder", "joint", "--beam", 4
    )
    assert len(told("transcribe", run, joint_run / "test.tsv", *flags).splitlines()) == 6
    told("latency", run, "--first", 2, "--decoder", "joint", "--beam", 3)
    for flags, sentence in (
        (
            ["--decoder", "attention", "--candidates", 2],
            "candidates: expected the decoder ctc or joint with candidates, found attention; leave them out",
        ),
        (
            ["--ctc-weight", 0.2],
            "ctc_weight: expected the decoder joint with a ctc_weight, found ctc; leave it out",
        ),
        (
            ["--decoder", "attention", "--piece", 0.5],
            "decoder: expected the decoder ctc for a stream, found attention, which hears all first; leave "
            "it out, or give the recording whole",
        ),
        (
            ["--decoder", "joint"],
            "beam: expected a beam of at least 2 with the decoder joint, found 1, which has one text to "
            "order; widen it",
        ),
    ):
        said = told("transcribe", run, joint_run / "test.tsv", *flags, status=2)
        assert said.partition(": ")[2] == f"{sentence}\n"
