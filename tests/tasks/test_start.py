"""A run that starts from the weights of another: with other data, rate and optimizer, and on its own then."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, TRANSLATION, sentences, settings, write_texts

import seqsru
from seqsru import runs
from seqsru import settings as strict
from seqsru.commands.main import main
from seqsru.data import Words
from seqsru.data.texts import TextFiles
from seqsru.errors import Refused
from seqsru.evaluation.environment import weights_hash
from seqsru.settings import SettingsError
from seqsru.training import checkpoints

FIXTURES = Path(__file__).parent.parent / "fixtures" / "run-0.1.0"
TEXTS = {"lm": LANGUAGE_MODEL, "mt": TRANSLATION, "cl": CLASSIFICATION}
TOKENIZERS = {"lm": ["tokenizer"], "mt": ["source", "target"], "cl": ["tokenizer", "labels"]}
LENGTH = ["training.epochs=0", "training.steps=6", "training.validate_every=3"]
TUNED = """\
task: {task}
output: {folder}/tuned
start_from: {{run: {folder}/{name}}}
data: {data}
batches: {batches}
optimizer: {{name: sgd, lr: 1e-2, momentum: 0.5}}
schedule: {{name: constant, warmup: 2}}
training: {{steps: 4, tensorboard: false, label_smoothing: 0.1}}
"""
DATA = {
    "lm": ("{{train: {0}/new.txt, validation: {0}/valid.txt}}", "{{batch_size: 3, window: 9}}"),
    "mt": (
        "{{train: {{source: {0}/new.txt, target: {0}/new.txt}}, "
        "validation: {{source: {0}/valid.src, target: {0}/valid.tgt}}}}",
        "{{tokens: 128}}",
    ),
    "cl": ("{{train: {0}/new.labelled, validation: {0}/valid.labelled}}", "{{batch_size: 5}}"),
}
TASK = {"lm": "language_model", "mt": "translation", "cl": "classification"}


def silent(line):
    """Hear what a run says, and keep quiet about it."""


def weights(run, which="last"):
    return checkpoints.select(run / "checkpoints", which).model()


def same(first, second):
    return first.keys() == second.keys() and all(first[name].equal(second[name]) for name in first)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """Texts, and a run of each task on them."""
    folder = tmp_path_factory.mktemp("earlier")
    write_texts(folder)
    lines = [f"{line} never seen" for line in sentences(30, 9)]
    (folder / "new.txt").write_text("".join(line + "\n" for line in lines))
    labelled = (f"{'lucky' if number % 2 else 'plain'} {line}\n" for number, line in enumerate(lines))
    (folder / "new.labelled").write_text("".join(labelled))
    for task, text in TEXTS.items():
        runs.train(settings(folder, text, f"output={folder}/{task}", *LENGTH), silent)
    return folder


@pytest.fixture
def place(earlier, tmp_path):
    """A copy of it, with a config that starts from each run and leaves out model and tokenizer."""
    shutil.copytree(earlier, tmp_path / "here")
    folder = tmp_path / "here"
    (folder / "other").mkdir()
    Words.train(["other words"]).save(folder / "other", "tokenizer")
    for task in TEXTS:
        data, batches = (text.format(folder) for text in DATA[task])
        (folder / f"{task}.yaml").write_text(
            TUNED.format(task=TASK[task], name=task, folder=folder, data=data, batches=batches)
        )
    return folder


def load(place, task, *overrides):
    return runs.load_settings(place / f"{task}.yaml", overrides)


@pytest.mark.parametrize("task", TEXTS)
def test_it_starts_from_the_weights_and_the_tokenizers(place, task):
    told = []
    runs.train(load(place, task, "optimizer.lr=0", "optimizer.momentum=0"), told.append)
    assert same(weights(place / "tuned"), weights(place / task, "best"))
    for name in TOKENIZERS[task]:
        own, theirs = (place / run / f"{name}.json" for run in ("tuned", task))
        assert own.read_bytes() == theirs.read_bytes()
    best = checkpoints.select(place / task / "checkpoints", "best").step
    digest = weights_hash(seqsru.load(place / task).model)
    line = f"starts from the weights step-{best} of {place / task} (sha256 {digest}), and with its tokenizers"
    assert line in told and (place / "tuned" / "log").read_text().startswith(line + "\n")
    field = f"|start:{task},step-{best},{digest}|seed:1|"
    assert field in (place / "tuned" / "signature.txt").read_text()
    assert field in runs.open_run(place / "tuned", checkpoint="best", average=1, device="cpu").signed({})
    assert "|start:" not in runs.open_run(place / task, checkpoint="best", average=1, device="cpu").signed({})


@pytest.mark.parametrize("task", TEXTS)
def test_its_data_rate_and_optimizer_are_its_own(place, task):
    runs.train(load(place, task), silent)
    assert not same(weights(place / "tuned"), weights(place / task, "best"))
    kept = strict.load(place / "tuned" / "config.yaml", runs.schema())
    theirs = strict.load(place / task / "config.yaml", runs.schema())
    assert kept["model"].plain() == theirs["model"].plain()
    assert kept["tokenizer"].plain() == theirs["tokenizer"].plain()
    assert kept["optimizer"].chosen == "sgd" and kept["training"]["label_smoothing"] == 0.1


@pytest.mark.parametrize("task", TEXTS)
def test_it_goes_on_exactly_when_the_other_run_is_gone(place, task, capsys):
    for steps in (4, 8):
        runs.train(load(place, task, f"training.steps={steps}", f"output={place}/once"), silent)
    runs.train(load(place, task), silent)
    shutil.rmtree(place / task)
    (place / "tuned").rename(place / "moved")
    assert main(["train", str(place / "moved"), "training.steps=6"]) == 0
    # The config that began it says as little as before: what it leaves out is in the run.
    config = [str(place / f"{task}.yaml"), f"output={place}/moved", "training.steps=8"]
    assert main(["train", *config]) == 0
    assert same(weights(place / "moved"), weights(place / "once"))
    assert "|start:" in capsys.readouterr().out
    start = json.loads((checkpoints.paths(place / "moved" / "checkpoints")[-1] / "state.json").read_text())
    assert start["start"].startswith(f"{task},step-")


def test_the_whole_config_alone_repeats_it(place):
    runs.train(load(place, "lm"), silent)
    again = strict.load(place / "tuned" / "config.yaml", runs.schema(), [f"output={place}/again"])
    runs.train(again, silent)
    assert same(weights(place / "again"), weights(place / "tuned"))


@pytest.mark.parametrize(
    "chosen, found",
    [
        (["start_from.checkpoint=last"], "step-6"),
        (["start_from.checkpoint=3"], "step-3"),
        (["start_from.checkpoint=last", "start_from.average=2"], "mean-of-2-last"),
    ],
)
def test_which_weights(place, chosen, found):
    runs.train(load(place, "lm", *chosen, "optimizer.lr=0"), silent)
    options = {"checkpoint": chosen[0].partition("=")[2], "average": 2 if "mean" in found else 1}
    model = seqsru.load(place / "lm", **options).model
    assert f"|start:lm,{found},{weights_hash(model)}|" in (place / "tuned" / "signature.txt").read_text()
    assert weights_hash(seqsru.load(place / "tuned").model) == weights_hash(model)


@pytest.mark.parametrize(
    "task, free",
    [
        ("lm", ["model.stack.dropout=0.5", "model.word_dropout=0.1", "model.stack.cell.input_dropout=0.2"]),
        ("lm", ["model.stack.cell=sru", "model.stack.cell.backend=auto"]),
        ("lm", ["model.stack={num_layers: 2, dropout: 0}", "tokenizer=words"]),
        ("lm", ["tokenizer={name: saved, run: {folder}/lm}"]),
        ("mt", ["model.decoder.attention.dropout=0.3", "model.encoder={dropout: 0.2}"]),
        ("mt", ["tokenizer.joint=false", "decoding.beam=1", "training.validation_metric=perplexity"]),
        ("mt", ["tokenizer={name: saved, run: {folder}/mt, joint: false}"]),
        ("cl", ["model.frozen_embedding=true", "tokenizer={}", "seed=9"]),
        ("cl", ["tokenizer={name: saved, run: {folder}/cl}", "training.validation_metric=loss"]),
    ],
)
def test_what_is_dropped_and_trained_is_free(place, task, free):
    given = [one.replace("{folder}", str(place)) for one in free]
    assert runs.train(load(place, task, *given), silent).step == 4


RUN = "as the run in {folder}/{task} has it, whose weights and tokenizers are taken over"
BACK = "put it back, or leave it out"


@pytest.mark.parametrize(
    "task, override, sentence",
    [
        ("lm", "model.stack.hidden_size=16", "model.stack.hidden_size: expected 8, {RUN}, found 16; {BACK}"),
        ("lm", "model.stack.num_layers=3", "model.stack.num_layers: expected 2, {RUN}, found 3; {BACK}"),
        ("lm", "model.embedding_size=9", "model.embedding_size: expected 8, {RUN}, found 9; {BACK}"),
        ("lm", "model.stack.cell=lstm", "model.stack.cell.name: expected 'sru', {RUN}, found 'lstm'; {BACK}"),
        (
            "lm",
            "model.stack.cell={name: gru}",
            "model.stack.cell.name: expected 'sru', {RUN}, found 'gru'; {BACK}",
        ),
        (
            "lm",
            "model.stack.cell.version=1",
            "model.stack.cell.version: expected 2, {RUN}, found 1; {BACK}",
        ),
        ("lm", "model.tied=false", "model.tied: expected true, {RUN}, found false; {BACK}"),
        ("lm", "tokenizer=characters", "tokenizer.name: expected 'words', {RUN}, found 'characters'; {BACK}"),
        (
            "lm",
            "tokenizer.vocabulary_size=5",
            "tokenizer.vocabulary_size: expected null, {RUN}, found 5; {BACK}",
        ),
        (
            "lm",
            "tokenizer={name: saved, run: {folder}/other}",
            "tokenizer.name: expected 'words', {RUN}, found 'saved'; {BACK}",
        ),
        ("mt", "tokenizer.joint=true", "tokenizer.joint: expected false, {RUN}, found true; {BACK}"),
        (
            "mt",
            "model.decoder.attention=additive",
            "model.decoder.attention.name: expected 'dot', {RUN}, found 'additive'; {BACK}",
        ),
        ("cl", "model.pooling=mean", "model.pooling: expected 'max', {RUN}, found 'mean'; {BACK}"),
        (
            "cl",
            "model.encoder=convolution",
            "model.encoder.name: expected 'stack', {RUN}, found 'convolution'; {BACK}",
        ),
        (
            "cl",
            "data.vectors={folder}/new.txt",
            "data.vectors: expected no vectors beside start_from, whose weights they would replace, found "
            "{folder}/new.txt; leave out one of them",
        ),
        (
            "lm",
            "start_from.run={folder}/mt",
            "start_from.run: expected a run of the task language_model, found one of translation in "
            "{folder}/mt; name another",
        ),
        (
            "lm",
            "start_from.run={folder}",
            "start_from.run: expected a run directory with a config.yaml at {folder}, found none; check the "
            "path, or make one with `seqsru train`",
        ),
        (
            "lm",
            "start_from={run: {folder}/lm, checkpoint: first}",
            "start_from.checkpoint: expected best, last or a step number, found 'first'; choose one",
        ),
        (
            "lm",
            "start_from.average=9",
            "start_from.average: expected 9 checkpoints to average (the best ones) in "
            "{folder}/lm/checkpoints, found 2; average fewer, or train with a larger keep_best",
        ),
        (
            "lm",
            "start_from.average=0",
            "start_from.average: expected at least 1, found 0; raise it",
        ),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_what_does_not_fit_is_refused_before_anything_is_read(
    place, task, override, sentence, check, monkeypatch, capsys
):
    monkeypatch.setattr(TextFiles, "__init__", lambda *a, **k: pytest.fail("something was read"))
    expected = sentence.replace("{RUN}", RUN).replace("{BACK}", BACK)
    expected = expected.replace("{folder}", str(place)).replace("{task}", task)
    flags = ["--check"] if check else []
    assert main(["train", *flags, str(place / f"{task}.yaml"), override.replace("{folder}", str(place))]) == 2
    assert capsys.readouterr().err == f"command line: {expected}\n"
    assert not (place / "tuned").exists()


def test_a_mistake_in_a_file_has_its_line(place):
    config = place / "lm.yaml"
    config.write_text(config.read_text() + "model: {stack: {num_layers: 4}, word_dropuot: 0}\n")
    with pytest.raises(
        SettingsError, match=f"^{config}:9: model.word_dropuot is not a setting; did you mean"
    ):
        runs.load_settings(config)
    config.write_text(config.read_text().replace(", word_dropuot: 0", ""))
    with pytest.raises(SettingsError, match=f"^{config}:9: model.stack.num_layers: expected 2, as the run"):
        runs.train(runs.load_settings(config), silent)
    config.write_text(config.read_text().replace("start_from: {run: ", "start_from: {ran: "))
    with pytest.raises(
        SettingsError, match=f"^{config}:3: start_from.ran is not a setting; did you mean 'run'"
    ):
        runs.load_settings(config)


def test_labels_of_its_own_are_refused_with_their_line(place):
    (place / "new.labelled").write_text("lucky one\nodd two\n")
    with pytest.raises(
        Refused,
        match=r"expected a label of the training data \(lucky, plain\) at .*new.labelled:2, found 'odd'",
    ):
        runs.train(load(place, "cl"), silent)


def test_a_damaged_run_starts_nothing(place):
    (place / "lm" / "tokenizer.json").unlink()
    with pytest.raises(SettingsError, match="start_from.run: expected a tokenizer at .*, found no such file"):
        runs.train(load(place, "lm"), silent)
    shutil.rmtree(place / "mt" / "checkpoints")
    with pytest.raises(
        SettingsError, match="start_from.checkpoint: expected a good checkpoint in .*found none"
    ):
        runs.train(load(place, "mt"), silent)


def test_a_run_that_began_cannot_start_from_another_afterwards(place):
    runs.train(load(place, "lm"), silent)
    shutil.copytree(place / "lm", place / "copy")
    with pytest.raises(
        SettingsError,
        match=f"found start_from.run '{place}/copy' instead of '{place}/lm'; choose another output, or",
    ):
        runs.train(load(place, "lm", f"start_from.run={place}/copy"), silent)


def test_a_run_may_start_from_one_that_started_from_another(place):
    runs.train(load(place, "mt"), silent)
    runs.train(load(place, "mt", f"start_from.run={place}/tuned", f"output={place}/third"), silent)
    assert "|start:tuned,step-" in (place / "third" / "signature.txt").read_text()


@pytest.mark.parametrize("name", ["language_model", "translation"])
def test_it_starts_from_a_run_of_before(tmp_path, name):
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    write_texts(tmp_path)
    short = {"language_model": "lm", "translation": "mt"}[name]
    (tmp_path / "new.txt").write_text("one two\nthree four five\n" * 9)
    data, batches = (text.format(tmp_path) for text in DATA[short])
    config = tmp_path / "tuned.yaml"
    config.write_text(TUNED.format(task=name, name=name, folder=tmp_path, data=data, batches=batches))
    told = []
    runs.train(runs.load_settings(config, ["optimizer.lr=0"]), told.append)
    assert same(weights(tmp_path / "tuned"), weights(tmp_path / name, "best"))
    assert any(line.startswith("starts from the weights step-") for line in told)
