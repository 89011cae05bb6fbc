"""The recipe of AN4: configurations of equal size, and manifests of a small corpus and of the real one."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy
from tiny_runs import write_frames

from seqsru import runs
from seqsru import settings as strict
from seqsru.data.frontend import FeatureSpace

RECIPE = Path(__file__).parents[2] / "recipes" / "an4"
CELLS = ("sru", "lstm", "gru", "qrnn")


def configured(cell):
    values = strict.load(RECIPE / f"{cell}.yaml", runs.schema())
    tokenizers = {"tokenizer": SimpleNamespace(size=29), "features": FeatureSpace([0.0] * 13, [1.0] * 13)}
    return values, sum(p.numel() for p in runs.task_of(values).model(tokenizers).parameters())


def test_the_cells_have_equal_parameters_and_differ_in_depth_alone_besides():
    sru, count = configured("sru")
    readme = (RECIPE / "README.md").read_text(encoding="utf-8")
    for cell in CELLS:
        values, its = configured(cell)
        assert abs(its / count - 1) < 0.01 and f"{its:,}" in readme
        differ = {name for name, value in values.flat().items() if sru.flat().get(name) != value}
        sizes = {f"model.{part}.hidden_size" for part in ("encoder", "decoder")}
        cells = ("model.encoder.cell", "model.decoder.cell")
        assert {name for name in differ if not name.startswith(cells)} <= {
            "output",
            "model.encoder.num_layers",
            *sizes,
        }
        assert [values["model"][part]["cell"].chosen for part in ("encoder", "decoder")] == [cell, cell]


def test_ctc_alone_has_the_same_encoder():
    (sru, more), (ctc, count) = configured("sru"), configured("ctc")
    assert ctc["model"]["decoder"] is None and sru["model"]["decoder"] is not None
    encoders = [
        {k: v for k, v in one.flat().items() if k.startswith(("model.encoder.", "frontend."))}
        for one in (sru, ctc)
    ]
    assert encoders[0] == encoders[1]
    assert more > count and f"{count:,}" in (RECIPE / "README.md").read_text(encoding="utf-8")


def prepare(*arguments):
    command = [sys.executable, str(RECIPE / "prepare.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_prepare_refuses_what_is_not_the_corpus(tmp_path):
    out, etc = tmp_path / "out", tmp_path / "etc"
    assert prepare().returncode == 2
    found = prepare(tmp_path, out)
    assert found.returncode == 2 and found.stderr == (
        f"expected AN4's an4_train.fileids at {etc}/an4_train.fileids, found no such file; name the "
        f"folder of etc/ "
        "and feat/\n"
    )
    etc.mkdir()
    (tmp_path / "feat" / "a" / "s").mkdir(parents=True)
    for part in ("train", "test"):
        (etc / f"an4_{part}.fileids").write_text(f"a/s/{part}\n")
        (etc / f"an4_{part}.transcription").write_text(f"<s> GO ON </s> ({part})\n")
        write_frames(tmp_path / "feat" / "a" / "s" / f"{part}.mfc", numpy.ones((9, 13), dtype="f"))
    found = prepare(tmp_path, out)
    assert found.returncode == 2 and found.stderr.startswith(
        f"expected features with the sum 148e52fd21e9 in {tmp_path}/feat, found "
    )
    (etc / "an4_test.transcription").write_text("GO ON (other)\n")
    found = prepare(tmp_path, out)
    assert found.returncode == 2 and found.stderr == (
        f"expected the transcript of a/s/test in {etc}/an4_test.transcription:1, found GO ON "
        f"(other); take the lists "
        "of one copy\n"
    )
    assert not out.exists()


def test_the_corpus(mirror, tmp_path):
    found = prepare(mirror / "an4", tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == (
        "train: 846 utterances of 66 speakers\nvalidation: 102 utterances of 8 speakers\n"
        "test: 130 utterances of 10 speakers\n"
    )
    texts = (tmp_path / "test.txt").read_text().splitlines()
    assert sum(len(text.split()) for text in texts) == 773 and sum(map(len, texts)) == 2565
    values = strict.load(
        RECIPE / "sru.yaml",
        runs.schema(),
        [f"data.{split}={tmp_path}/{split}.tsv" for split in ("train", "validation", "test")]
        + [
            f"output={tmp_path}/run",
            "training={steps: 1, epochs: 0, tensorboard: false}",
            "model.encoder.num_layers=1",
        ]
        + ["model.encoder.dropout=0", "model.encoder.hidden_size=8"],
    )
    objective = runs.prepare(values, lambda line: None).objective
    assert len(objective.utterances.examples) == 846 and len(objective.inputs) == 102
    assert not objective.utterances.report  # every transcript fits, none is too long
