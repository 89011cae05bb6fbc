"""Settings into objects and back: schema, rehearsal, training, resuming, loading."""

import fcntl
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from tiny_runs import LANGUAGE_MODEL, TRANSLATION, settings, write_texts

import seqsru
from seqsru import runs
from seqsru import settings as strict
from seqsru.cells import CELLS, Cell
from seqsru.data import Words
from seqsru.decoding import RULES
from seqsru.errors import Refused
from seqsru.pipelines import LanguagePipeline
from seqsru.settings import Choice, Section, Setting, SettingsError, paths
from seqsru.tasks import TASKS, making
from seqsru.training import AVERAGING, OPTIMIZERS, SCHEDULES, CheckpointError, checkpoints
from seqsru.training.weights import model_tensors

ROOT = Path(seqsru.__file__).parent.parent
CONFIGS = sorted(  # without the comparisons, whose settings are those of several runs
    path for path in ROOT.glob("recipes/*/*.yaml") if "\nsystems:" not in path.read_text(encoding="utf-8")
)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder with the texts."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    return folder


@pytest.fixture(scope="module")
def language_run(texts):
    """A trained language model."""
    told = []
    outcome = runs.train(settings(texts, LANGUAGE_MODEL, f"output={texts}/lm"), told.append)
    return texts / "lm", outcome, told


@pytest.fixture(scope="module")
def translation_run(texts):
    """A trained translation model."""
    told = []
    outcome = runs.train(settings(texts, TRANSLATION, f"output={texts}/mt"), told.append)
    return texts / "mt", outcome, told


def silent(line):
    """Hear what a run says, and keep quiet about it."""


def weights(run, step="last"):
    return checkpoints.select(run / "checkpoints", step).model()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# ---- the schema ------------------------------------------------------------------------------------


def leaves(schema, path=""):
    if isinstance(schema, Setting):
        yield path, schema
    elif isinstance(schema, Section):
        for name, below in schema.entries.items():
            yield from leaves(below, f"{path}.{name}")
    else:
        for name, below in schema.entries.items():
            yield from leaves(below, f"{path}[{name}]")


def test_every_setting_is_explained():
    missing = [path for path, setting in leaves(runs.schema()) if not setting.text]
    assert missing == []


def test_every_registered_thing_can_be_chosen():
    assert TASKS.keys() == runs.schema().entries.keys()
    known = {path for path, _ in leaves(runs.schema())}
    for name, registry in (
        ("stack.cell", CELLS),
        ("encoder.cell", CELLS),
        ("decoder.cell", CELLS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("averaging", AVERAGING),
    ):
        section = find(runs.schema(), name)
        assert isinstance(section, Choice) and section.entries.keys() == registry.keys()
    assert all(any(f".rules.{rule}." in path for path in known) for rule in RULES)


def find(schema, path):
    """The part of a schema whose path ends so."""

    def walk(part, at):
        yield at, part
        if isinstance(part, (Section, Choice)):
            for name, below in part.entries.items():
                yield from walk(below, f"{at}.{name}" if isinstance(part, Section) else at)

    return next(part for at, part in walk(schema, "") if at.endswith("." + path))


class Identity(Cell):
    """A cell that does nothing.

    Parameters
    ----------
    strength : float
        How much of nothing.
    """

    def __init__(self, input_size: int, hidden_size: int, *, strength: float = 1.0):
        super().__init__()
        self.input_size, self.output_size, self.strength = input_size, hidden_size, strength
        self.weight = torch.nn.Parameter(torch.eye(hidden_size, input_size))

    def initial_state(self, batch):
        return (self.weight.new_zeros(batch, 1),)

    def forward(self, x, state, valid=None):
        return x @ self.weight.t() * self.strength, state


def test_a_new_cell_needs_no_edit(texts, tmp_path, monkeypatch):
    monkeypatch.setitem(CELLS, "identity", Identity)
    with pytest.raises(SettingsError, match="cell.strenght is not a setting; did you mean 'strength'"):
        settings(texts, LANGUAGE_MODEL, "model.stack.cell={name: identity, strenght: 2}")
    chosen = settings(
        texts,
        LANGUAGE_MODEL,
        "model.stack.cell={name: identity, strength: 2}",
        f"output={tmp_path}/run",
        "training.epochs=1",
    )
    runs.train(chosen, silent)
    run = runs.open_run(tmp_path / "run", checkpoint="best", average=1, device="cpu")
    assert run.pipeline.model.stack.layers[0][0].strength == 2.0
    assert "|cell:identity|layers:2|" in run.signed({})
    assert "model.stack.cell.strength" in set(paths(runs.schema()))


def test_a_new_optimizer_and_schedule_need_no_edit(texts, monkeypatch):
    def lookahead(parameters, lr: float = 1.0, *, ahead: int = 5):
        """Looks ahead."""
        raise Refused("at most 9", str(ahead), "lower it", "ahead")

    monkeypatch.setitem(OPTIMIZERS, "lookahead", lookahead)
    chosen = settings(texts, LANGUAGE_MODEL, "optimizer={name: lookahead, ahead: 10}")
    with pytest.raises(
        SettingsError,
        match=r"command line: optimizer.ahead: expected at most 9, "
        r"found 10; lower it$",
    ):
        runs.rehearse(chosen)


# ---- impossible values, before anything is read ----------------------------------------------------


@pytest.mark.parametrize(
    "override, problem",
    [
        ("model.stack.dropout=2", "command line: model.stack.dropout: .*found 2"),
        ("model.stack.num_layers=0", "command line: model.stack.num_layers: .*found 0"),
        ("model.stack.bidirectional=true", "command line: model.stack.bidirectional: .*in two directions"),
        ("model.word_dropout=-1", "command line: model.word_dropout: .*-1"),
        (
            "model.stack.cell={name: sru, highway: identity, projection_size: -1}",
            "command line: model.stack.cell.projection_size: .*-1",
        ),
        ("batches.window=0", "command line: batches.window: .*0"),
        ("batches.batch_size=-2", "command line: batches.batch_size: .*-2"),
        ("optimizer.beta1=2", "command line: optimizer.beta1: .*found 2"),
        ("optimizer.lr=-1", "command line: optimizer.lr: .*found -1"),
        (
            "optimizer.lr=.inf",
            "command line: optimizer.lr: expected a finite number, found inf; give such a number",
        ),
        (
            "model.embedding_size=0",
            "command line: model.embedding_size: expected at least 1, found 0; raise it",
        ),
        ("schedule={name: noam, warmup: 0}", "command line: schedule.warmup: .*0"),
        ("training.steps=5", "run.yaml:10: training.epochs: .*either epochs or steps"),
        ("training.clip=-1", "command line: training.clip: .*-1"),
        ("training.label_smoothing=7", "command line: training.label_smoothing: .*7"),
        ("seed=-1", "command line: seed: expected at least 0, found -1; raise it"),
        (f"seed={2**64}", f"command line: seed: expected a number of 64 bits, found {2**64}; .*smaller"),
        (
            "output=run.yaml",
            "command line: output: expected a folder, found the file .*; name another",
        ),
        (
            "data.validation=none.txt",
            "command line: data.validation: expected a file at .*/none.txt, found none; check the path",
        ),
        ("training.threads=-1", "command line: training.threads: .*-1"),
    ],
)
def test_an_impossible_value_has_its_place(texts, monkeypatch, override, problem):
    monkeypatch.chdir(texts)
    monkeypatch.setattr(
        "seqsru.tasks.language_modelling.read_lines", lambda *a, **k: pytest.fail("something was read")
    )
    with pytest.raises(SettingsError, match=problem) as caught:
        runs.train(settings(texts, LANGUAGE_MODEL, override), silent)
    assert len(caught.value.problems) == 1 and "\n" not in str(caught.value)
    assert not (texts / "run").exists()


def test_a_gpu_that_is_not_there(texts, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SettingsError,
        match="command line: device: expected a CUDA GPU for device cuda, found "
        "none that torch can use; set device to cpu, or see what `seqsru "
        "doctor`",
    ):
        runs.rehearse(settings(texts, LANGUAGE_MODEL, "device=cuda"))


# ---- training --------------------------------------------------------------------------------------


def test_the_run_directory(language_run):
    run, outcome, told = language_run
    assert {path.name for path in run.iterdir()} >= {
        "config.yaml",
        "tokenizer.json",
        "checkpoints",
        "metrics.jsonl",
        "log",
        "signature.txt",
    }
    assert outcome.finished and outcome.best < 20
    assert re.fullmatch(
        rf"perplexity {outcome.best:.2f}\nseqsru \S+\|cell:sru-v2\|layers:2\|params:\S+\|"
        r"data:valid.txt\|tokens:\d+\|unknown:0\|state:carried\|text:\w{12}\|"
        rf"weights:step-{outcome.best_step}\|model:\w{{12}}\|precision:float32\|seed:1\|torch:[^|]+\|"
        r"device:cpu\|threads:\d+\n",
        (run / "signature.txt").read_text(),
    )
    assert told[0].endswith("train.txt: 60 lines") and "parameters on cpu, in " in told[-1]


def test_the_written_config_alone_repeats_the_run(language_run, tmp_path):
    run, _, _ = language_run
    chosen = strict.load(run / "config.yaml", runs.schema(), [f"output={tmp_path}/again"])
    runs.train(chosen, silent)
    assert same(weights(run), weights(tmp_path / "again"))


def test_a_run_goes_on_exactly(texts, language_run, tmp_path):
    run, outcome, _ = language_run
    short = settings(texts, LANGUAGE_MODEL, f"output={tmp_path}/run", "training.epochs=1")
    assert runs.train(short, silent).step == outcome.step / 2
    rest = settings(texts, LANGUAGE_MODEL, f"output={tmp_path}/run")
    assert runs.train(rest, silent).step == outcome.step
    assert same(weights(run), weights(tmp_path / "run"))


def test_other_settings_are_refused(texts, language_run):
    run, _, _ = language_run
    other = settings(texts, LANGUAGE_MODEL, f"output={run}", "seed=2", "model.tied=false")
    with pytest.raises(SettingsError) as caught:
        runs.train(other, silent)
    assert list(map(str, caught.value.problems)) == [
        f"expected the settings that the run in {run} began with, found {found}; choose another output, or "
        f"put "
        "it back"
        for found in ("seed 2 instead of 1", "model.tied false instead of true")
    ]


def test_settings_may_change_until_training_begins(texts, tmp_path):
    run = tmp_path / "run"
    bad = texts / "bad.txt"
    bad.write_bytes(b"ok\n\xff\n")
    first = settings(texts, LANGUAGE_MODEL, f"output={run}", "tokenizer=characters", f"data.validation={bad}")
    with pytest.raises(ValueError, match=r"expected UTF-8 text in .*bad.txt:2, found byte 0xFF"):
        runs.train(first, silent)
    runs.train(settings(texts, LANGUAGE_MODEL, f"output={run}", "training.epochs=1"), silent)
    assert strict.load(run / "config.yaml", runs.schema())["tokenizer"]["name"] == "words"


def test_bad_lines_are_skipped_and_reported_if_asked(texts, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"one two\n\xff\nthree\n")
    told = []
    runs.train(
        settings(
            texts,
            LANGUAGE_MODEL,
            f"output={tmp_path}/run",
            f"data.validation={bad}",
            "data.on_bad_line=skip",
            "training.epochs=1",
        ),
        told.append,
    )
    assert any(line.endswith("bad.txt: 3 lines; 1 not UTF-8, skipped (line 2)") for line in told)


def test_two_runs_in_one_directory(texts, tmp_path):
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / "lock", "w") as lock:  # another handle stands for another process
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError, match="expected no other run in"):
            runs.train(settings(texts, LANGUAGE_MODEL, f"output={tmp_path}/run"), silent)


def test_the_tokenizer_of_another_run(texts, language_run, tmp_path):
    run, _, _ = language_run
    runs.train(
        settings(
            texts,
            LANGUAGE_MODEL,
            f"output={tmp_path}/run",
            "training.epochs=1",
            f"tokenizer={{name: saved, run: {run}}}",
        ),
        silent,
    )
    assert (tmp_path / "run" / "tokenizer.json").read_bytes() == (run / "tokenizer.json").read_bytes()


@pytest.mark.parametrize(
    "tokenizer, problem",
    [
        ("{name: words, vocabulary_size: 1}", "tokenizer.vocabulary_size: .* found 1"),
        (
            "{name: words, minimum_count: 999}",
            "tokenizer.minimum_count: .* found none seen 999 times or more",
        ),
        (
            "{name: saved, run: /none}",
            "tokenizer.run: expected a tokenizer at /none/tokenizer.json, found no",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_trained_has_its_line(texts, tmp_path, tokenizer, problem):
    chosen = settings(texts, LANGUAGE_MODEL, f"output={tmp_path}/run", f"tokenizer={tokenizer}")
    with pytest.raises(SettingsError, match=f"command line: {problem}"):
        runs.train(chosen, silent)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_recipes_configurations_have_no_mistake(path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # some of them are for a GPU
    monkeypatch.setattr(making, "check_files", lambda settings: None)  # and their data is fetched later
    runs.rehearse(strict.load(path, runs.schema()))


# ---- loading ---------------------------------------------------------------------------------------


def test_load(language_run):
    run, outcome, _ = language_run
    before = torch.get_rng_state()
    pipeline = seqsru.load(run)
    assert torch.equal(torch.get_rng_state(), before)
    assert not pipeline.model.training
    scores = pipeline.score(["one two", ""])
    assert len(scores) == 2 and scores[0] < scores[1] < 0
    again = seqsru.load(run, checkpoint=str(outcome.best_step))
    assert pipeline.generate("one", seed=3) == again.generate("one", seed=3)


def test_which_weights(language_run):
    run, outcome, _ = language_run
    steps = [int(path.name.removeprefix("step-")) for path in checkpoints.paths(run / "checkpoints")]
    assert len(steps) == 2
    mean = {name: (weights(run, str(steps[0]))[name] + tensor) / 2 for name, tensor in weights(run).items()}
    loaded = seqsru.load(run, checkpoint="last", average=2).model
    assert same(model_tensors(loaded), mean)
    for options, field in (
        ({"checkpoint": "last", "average": 1}, f"step-{outcome.step}"),
        ({"checkpoint": "best", "average": 1}, f"step-{outcome.best_step}"),
        ({"checkpoint": str(steps[0]), "average": 1}, f"step-{steps[0]}"),
        ({"checkpoint": "last", "average": 2}, "mean-of-2-last"),
    ):
        assert f"|weights:{field}|" in runs.open_run(run, device="cpu", **options).signed({})
    with pytest.raises(CheckpointError, match="expected 9 checkpoints to average"):
        seqsru.load(run, checkpoint="last", average=9)
    with pytest.raises(CheckpointError, match="expected best, last or a step number, found 'newest'"):
        seqsru.load(run, checkpoint="newest")


@pytest.fixture
def copy(language_run, tmp_path):
    """A copy of the language model's run, to be damaged."""
    return shutil.copytree(language_run[0], tmp_path / "copy")


def test_no_run(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match="expected a run directory with a config.yaml at .*, found "
        "none; check the path, or make one with `seqsru train`",
    ):
        seqsru.load(tmp_path)


def test_a_damaged_checkpoint_is_named_and_another_used(copy):
    newest = checkpoints.paths(copy / "checkpoints")[-1]
    with open(newest / "model.safetensors", "r+b") as file:
        file.seek(100)
        file.write(b"damage")
    with pytest.warns(RuntimeWarning, match=f"{newest.name}/model.safetensors with sha256 .*another"):
        seqsru.load(copy, checkpoint="last")


def test_a_tokenizer_that_does_not_belong(copy, texts):
    Words(["<unk>", "<eos>", *"abcdefg"]).save(copy, "tokenizer")
    with pytest.raises(
        CheckpointError, match="expected the tokenizer with sha256 .* was trained with, found"
    ):
        seqsru.load(copy)


def test_a_config_that_does_not_belong(copy):
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace("num_layers: 2", "num_layers: 3"))
    with pytest.raises(
        CheckpointError,
        match=f"^expected {copy}/config.yaml as the training wrote it, with sha256 [0-9a-f]{{64}}, found "
        "[0-9a-f]{64}; restore it from a copy; a setting is changed with `seqsru train RUN key=value`$",
    ):
        seqsru.load(copy)
    for path in (copy / "checkpoints").glob("*/manifest.json"):  # as before they covered it
        manifest = json.loads(path.read_text())
        del manifest["run"]
        path.write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="the configuration and the checkpoint do not belong together"):
        seqsru.load(copy)
    (copy / "config.yaml").write_text(text.replace("num_layers: 2", "num_leyers: 3"))
    with pytest.raises(
        SettingsError,
        match=r"config.yaml:\d+: model.stack.num_leyers is not a setting; did "
        r"you mean",
    ):
        seqsru.load(copy)


def test_a_moved_run_and_missing_data_do_not_matter(copy):
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(re.sub(r"(train|valid|test): /.*", r"\1: /nowhere", text))
    told = f"^expected {copy}/config.yaml as the training wrote it, found other paths in it; they are used as"
    with pytest.warns(RuntimeWarning, match=told):
        assert seqsru.load(copy).score(["one"])[0] < 0


# ---- translation -----------------------------------------------------------------------------------


def test_a_translation_run(translation_run):
    run, outcome, told = translation_run
    assert {path.name for path in run.iterdir()} >= {"source.json", "target.json", "signature.txt"}
    assert re.fullmatch(
        rf"bleu {outcome.best:.2f}\nseqsru \S+\|cell:sru-v2\+gru\|layers:1\+1\|"
        r"attention:dot\|params:\S+\|data:valid.src\|lines:12\|tokens:\d+\|unknown:0\|"
        r"beam:2\|penalty:power\|alpha:1.0\|coverage:0.0\|stop:first\|length_factor:2.0\|length_offset:10\|"
        r"max_source:1024\|guard:none\|rules:none\|sacrebleu:[\d.]+\|nrefs:1\|case:mixed\|eff:no\|tok:13a\|smooth:exp\|"
        r"text:\w{12}\|weights:step-4\|model:\w{12}\|precision:float32\|seed:1\|torch:[^|]+\|"
        r"device:cpu\|threads:\d+\n",
        (run / "signature.txt").read_text(),
    )
    assert told[0].endswith("valid.src + " + str(run.parent / "valid.tgt") + ": 12 lines")
    assert told[1].endswith("train.tgt: 60 lines")
    pipeline = seqsru.load(run)
    assert pipeline.decoding.beam == 2 and pipeline.decoding.rules == ()
    assert len(pipeline.translate(["one", ""])) == 2
    assert pipeline.score(["one"], ["ONE"])[0] < 0


@pytest.mark.slow
def test_a_translation_run_goes_on_exactly(texts, translation_run, tmp_path):
    for steps in (3, 4):
        chosen = settings(texts, TRANSLATION, f"output={tmp_path}/run", f"training.steps={steps}")
        assert runs.train(chosen, silent).step == steps
    assert same(weights(translation_run[0]), weights(tmp_path / "run"))


def test_one_joint_sentencepiece_model(texts, tmp_path):
    chosen = settings(
        texts,
        TRANSLATION,
        f"output={tmp_path}/run",
        "training.steps=1",
        "model.tying=all",
        "tokenizer={name: sentencepiece, vocabulary_size: 40}",
        "decoding.rules.no_repeat_ngram.size=2",
        "training.validation_metric=perplexity",
    )
    runs.train(chosen, silent)
    assert {path.name for path in (tmp_path / "run").glob("*.model")} == {"tokenizer.model"}
    pipeline = seqsru.load(tmp_path / "run")
    assert pipeline.source_tokenizer is pipeline.target_tokenizer
    assert [type(rule).__name__ for rule in pipeline.decoding.rules] == ["NoRepeatedNgram"]
    Words(["<unk>", "<eos>", *map(str, range(38))]).save(tmp_path / "run", "tokenizer")
    with pytest.raises(CheckpointError, match="expected the source tokenizer with sha256"):
        seqsru.load(tmp_path / "run")


def test_long_and_empty_pairs_are_reported(texts, tmp_path):
    for side in ("src", "tgt"):
        text = (texts / f"train.{side}").read_text()
        (tmp_path / f"train.{side}").write_text(text + "\n" + "one " * 30 + "\n")
    told = []
    runs.train(
        settings(
            texts,
            TRANSLATION,
            f"output={tmp_path}/run",
            "training.steps=1",
            "batches.max_length=20",
            f"data.train.source={tmp_path}/train.src",
            f"data.train.target={tmp_path}/train.tgt",
        ),
        told.append,
    )
    assert told[1].endswith(
        "62 lines; 1 empty, skipped (line 61); 1 longer than 20 tokens, skipped (line 62)"
    )


@pytest.mark.parametrize(
    "text, empty, problem",
    [
        (
            LANGUAGE_MODEL,
            ["data.validation"],
            "data.validation: expected lines of text, found none; check the",
        ),
        (
            TRANSLATION,
            ["data.validation.source", "data.validation.target"],
            "data.validation: expected pairs, found none; check the files",
        ),
    ],
)
def test_nothing_to_validate_with(texts, tmp_path, text, empty, problem):
    (tmp_path / "empty").touch()
    overrides = [f"{name}={tmp_path}/empty" for name in empty]
    with pytest.raises(SettingsError, match=problem):
        runs.train(settings(texts, text, f"output={tmp_path}/run", *overrides), silent)


def test_misaligned_files(texts, tmp_path):
    chosen = settings(texts, TRANSLATION, f"output={tmp_path}/run", f"data.train.target={texts}/valid.tgt")
    with pytest.raises(ValueError, match=r"lines in \S+/train.src as in \S+/valid.tgt, found 60 and 12"):
        runs.train(chosen, silent)


@pytest.mark.parametrize(
    "overrides, problem",
    [
        (
            ["model.tying=all"],
            "command line: model.tying: expected one tokenizer for both languages with "
            "all, found two; set tokenizer.joint to true, or tying to target",
        ),
        (["model.decoder.attention.heads=3"], "command line: model.decoder.attention.heads: .*3 heads"),
        (["model.embedding_size=0"], "command line: model.embedding_size: .*found 0"),
        (["model.encoder.dropout=-1"], "command line: model.encoder.dropout: .*-1"),
        (["decoding.beam=0"], "command line: decoding.beam: .*found 0"),
        (["decoding.n_best=9"], "command line: decoding.n_best: .*9"),
        (["decoding.rules.min_length.length=0"], "command line: decoding.rules.min_length.length: .*found 0"),
        (["batches.tokens=1"], "command line: batches.tokens: .*found 1"),
        (["training.valid_beam=0"], "command line: training.validation_beam: .*found 0"),
        (["data.test={source: a, target: b}"], "data.test.source: expected .*\n.*data.test.target: expected"),
    ],
)
def test_an_impossible_value_of_a_translation_model(texts, overrides, problem):
    with pytest.raises(SettingsError, match=problem):
        runs.rehearse(settings(texts, TRANSLATION, *overrides))


def test_a_run_of_the_kind_that_is_asked_for(language_run, translation_run):
    assert isinstance(seqsru.load(language_run[0], LanguagePipeline), LanguagePipeline)
    with pytest.raises(
        Refused,
        match="^kind: expected a run that gives a LanguagePipeline, found one of a translation model; load "
        "it as TranslationPipeline$",
    ):
        seqsru.load(translation_run[0], LanguagePipeline)
