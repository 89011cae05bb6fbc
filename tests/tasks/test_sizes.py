"""Sizes that no memory has: told with the memory that they take, by a check and when a run is loaded."""

import json
import shutil

import pytest
import torch
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, settings, write_texts

import seqsru
from seqsru import runs
from seqsru.commands import main as commands
from seqsru.data import room
from seqsru.regular import size_text
from seqsru.settings import SettingsError

GIB = r"[0-9,]+ GiB"


@pytest.fixture
def texts(tmp_path):
    write_texts(tmp_path)
    return tmp_path


MODEL = rf"expected a model that fits into the memory of {GIB}, found"
PIECES = "expected embeddings that fit into the memory of 8 GiB, found 2,000,000,000 pieces, whose own take "
PIECES += "59.6 GiB"


@pytest.mark.parametrize(
    "override, told",
    [
        (
            "model.embedding_size=1000000000",
            rf"model.embedding_size: {MODEL} 1,000,000,000, which takes {GIB}; lower it$",
        ),
        (
            "model.stack.hidden_size=2000000000",
            rf"model.stack.hidden_size: {MODEL} 2,000,000,000, which takes {GIB}; lower it$",
        ),
        (
            "tokenizer={name: sentencepiece, vocabulary_size: 2000000000}",
            f"tokenizer.vocabulary_size: {PIECES}; lower it$",
        ),
    ],
)
def test_sizes_are_told_when_settings_are_checked(texts, monkeypatch, override, told):
    monkeypatch.setattr("seqsru.tasks.checks.memory", lambda: 8 * 2.0**30)
    with pytest.raises(SettingsError, match=f"^command line: {told}"):
        runs.rehearse(settings(texts, LANGUAGE_MODEL, override))


def test_sizes_of_a_run_are_told_before_its_model_is_made(texts):
    run = texts / "run"
    runs.train(settings(texts, TRANSLATION), lambda line: None)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("embedding_size: 16", "embedding_size: 1000000000"))
    for path in run.glob("checkpoints/*/manifest.json"):  # as it was before settings were covered
        manifest = json.loads(path.read_text())
        del manifest["run"]
        path.write_text(json.dumps(manifest))
    with pytest.raises(
        SettingsError, match=rf"config.yaml:\d+: model.embedding_size: .* which takes {GIB}; lower it"
    ):
        seqsru.load(run)
    shutil.rmtree(run)


def test_memory_that_cannot_be_had_is_told(monkeypatch, capsys):
    for asked, shown in (
        (lambda: torch.empty(2**50), "4,096 TiB"),
        (lambda: bytearray(2**60), "so much"),
    ):
        monkeypatch.setattr(commands, "_run", lambda arguments, asked=asked: asked())
        assert commands.main(["train"]) == 2
        assert capsys.readouterr().err == (
            f"seqsru: expected memory for the work, found that {shown} more cannot be had of "
            f"{shown_memory()}; lower a size, such as that of a batch, a beam or a model\n"
        )
    monkeypatch.setattr(commands, "_run", lambda arguments: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):  # a bug is no such thing
        commands.main(["train"])


def shown_memory():
    return size_text(room.memory())
