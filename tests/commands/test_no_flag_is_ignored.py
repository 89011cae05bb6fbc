"""Every flag of every command, with a run of every task: it does something, or it is refused in words."""

import argparse
import importlib
import inspect
import json

import pytest
import torch

from seqsru.engine.inference import Engine
from seqsru.pipelines import eager
from seqsru.pipelines.guard import Guarded
from seqsru.tasks import TASKS

RUNS = {
    "language_model": "language_run",
    "translation": "translation_run",
    "classification": "classification_run",
    "question_answering": "question_run",
    "speech_recognition": "recognition_run",
}
CASES = sorted(
    (command, task)
    for task, kind in TASKS.items()
    for command in kind.answers  # what a task does not answer it refuses as a whole
)
# Another value than the default of each flag; where a run of a few steps could not tell, one to be refused.
VALUES = {
    "--guard": "repeats,numbers",
    "--alpha": "0.25",
    "--average": "99",
    "--batch-by": "tokens",
    "--batch-size": "1",
    "--beam": "3",
    "--checkpoint": "999",
    "--count": "2",
    "--ctc-weight": "0.9",
    "--coverage": "0.5",
    "--decoder": "joint",
    "--device": "cuda",
    "--dynamic": "rms",
    "--dynamic-clip": "0.5",
    "--dynamic-decay": "0.5",
    "--dynamic-epsilon": "0.5",
    "--dynamic-rate": "0.5",
    "--dynamic-segment": "5",
    "--dynamic-statistics": "5",
    "--engine": "compiled",
    "--precision": "int8",
    "--against-engine": "compiled",
    "--against-precision": "int8",
    "--f1-tokens": "characters",
    "--ensemble": "nowhere",
    "--first": "2",
    "--form": "json",
    "--language-model": "nowhere",
    "--length": "3",
    "--lm-bonus": "1001",
    "--lm-unknown": "1001",
    "--lm-weight": "1001",
    "--cache": "5",
    "--cache-share": "0.5",
    "--cache-theta": "2",
    "--candidates": "-1",
    "--piece": "0.01",
    "--length-factor": "1",
    "--length-offset": "2",
    "--max-length": "1",
    "--max-source": "2",
    "--measures": "f1",
    "--metrics": "ter",
    "--offsets": "bytes",
    "--on-bad-line": "skip",
    "--on-bad-question": "skip",
    "--n-best": "2",
    "--penalty": "gnmt",
    "--pick": "bleu",
    "--prompt": "one",
    "--repeats": "3",
    "--rule": "min_length.length=4",
    "--seed": "7",
    "--lines": "3",
    "--split": "validation",
    "--state": "separate",
    "--stop": "all",
    "--temperature": "3",
    "--threads": "2",
    "--tokenize": "char",
    "--top-k": "1",
    "--tune-tokens": "5",
    "--top-p": "0.1",
    "--warmup": "2",
}
OTHER_VALUES = {("distill", "--n-best"): "1"}  # of a command whose default is another's value
TOLD = {
    "--n-best": "more than one output a line",
    "--form": "JSON object",
    "--against-precision": "precision",
    "--against-engine": "engine",
    "--ensemble": "run directory",
}  # what a refusal says that does not name the flag
BAD = {("evaluate", "question_answering"): "--on-bad-question"}  # what skips what is bad, if not of lines
FILES = (
    "--answers",
    "--items",
    "--json",
    "--output",
    "--translations",
    "--predictions",
    "--transcripts",
    "--confusion",
    "--plot",
)


def flags_of(command):
    """Every flag that a command declares, and whether it takes a value."""
    parser = argparse.ArgumentParser()
    importlib.import_module(f"seqsru.commands.{command}").declare(parser)
    return {
        action.option_strings[-1]: action.nargs != 0 for action in parser._actions if action.option_strings
    }


def files_of(command, task, texts):
    """The files that a command is given in these tests."""
    if task == "question_answering":
        return [texts / ("test.json" if command == "evaluate" else "asked")]
    if task == "speech_recognition":
        return [texts / "test.tsv"]
    if command in ("generate", "latency", "classify", "translate"):
        return [texts / "test.src"] if command != "generate" else []
    if task == "classification":
        return [texts / "test.labelled"]
    return [texts / "test.txt"] if task == "language_model" else [texts / "test.src", texts / "test.tgt"]


def answers_of(texts, folder):
    """A file of answers to the test questions, of another system."""
    paragraphs = json.loads((texts / "test.json").read_text())["data"][0]["paragraphs"]
    path = folder / "others.json"
    path.write_text(json.dumps({one["id"]: "one" for part in paragraphs for one in part["qas"]}))
    return path


def spoilt(path):
    """The content of a file with something bad in it, which can be skipped: an answer, or a line."""
    content = path.read_bytes()
    return content.replace(b'"text": "', b'"text": "~', 1) if path.suffix == ".json" else content + b"\xff\n"


@pytest.fixture
def effect(run, monkeypatch, tmp_path):
    """Call a command; gives its status, and everything that it did but what a clock says."""
    seen = []

    def watch(module, name, what):
        function = getattr(module, name)

        def watched(*arguments, **options):
            seen.append(what(*arguments, **options))
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, watched)

    watch(
        eager,
        "beam_search",
        lambda step, memory, state, start, *, decoding, max_length, **rest: (
            str(decoding.signature_fields()), decoding.n_best, len(start), max_length.tolist(),
        ),
    )  # fmt: skip
    drawn = ("temperature", "top_k", "top_p", "max_length")
    watch(eager, "sample", lambda *_, **options: str([options[name] for name in drawn]))
    for name in ("search", "score", "draw"):
        watch(Engine, name, lambda *_, **__: "engine")
    watch(Guarded, "__call__", lambda guarded, *_, **__: guarded.decoding.guard)
    watch(torch, "set_num_threads", lambda count: count)

    def call(command, *arguments, stdin="one two\nthree\n"):
        seen.clear()
        before = set(tmp_path.iterdir())
        status, out, err = run(command, *arguments, stdin=stdin)
        if command == "latency":
            out = [line for line in out.splitlines() if line.startswith("seqsru ")]
        return status, (out, err, list(seen), sorted(set(tmp_path.iterdir()) - before)), err

    return call


@pytest.mark.slow
@pytest.mark.parametrize("command, task", CASES, ids=[f"{command}-{task}" for command, task in CASES])
def test_every_flag_is_used_or_refused(command, task, texts, effect, request, tmp_path):
    trained = request.getfixturevalue(RUNS[task])
    common = [trained, *files_of(command, task, texts)]
    if command == "latency":
        common += ["--first", "1", "--repeats", "2", "--warmup", "1", "--threads", "1"]
        without = "classification", "question_answering", "speech_recognition"
        common += [] if task in without else ["--length", "2"]
    status, plain, err = effect(command, *common)
    assert status == 0, err
    for name, takes_value in flags_of(command).items():
        if name == "--help":
            continue
        if name == BAD.get((command, task), "--on-bad-line"):
            bad = []
            for path in files_of(command, task, texts):
                bad.append(tmp_path / f"bad-{path.name}")
                bad[-1].write_bytes(spoilt(path))
            given = [trained, *bad], {"stdin": b"one\n\xff\n"}
            assert effect(command, *given[0], **given[1])[0] == 2
            assert effect(command, *given[0], name, "skip", **given[1])[0] == 0
            continue
        value = [OTHER_VALUES.get((command, name), VALUES.get(name, ""))] if takes_value else []
        if name in FILES and takes_value:
            folder = command == "translate" and name == "--plot"
            value = [tmp_path / (f"{name[2:]}" if folder else f"{name[2:]}.png")]
        elif name == "--against":
            value = [trained]
        elif name == "--baseline":
            value = [answers_of(texts, tmp_path) if task == "question_answering" else texts / "test.src"]
        elif name == "--given":
            value = [answers_of(texts, tmp_path)]
        assert value != [""], f"give {name} a value here"
        status, found, err = effect(command, *common, name, *value)
        if status == 2:
            told = {TOLD.get(name, name.lstrip("-")), name.lstrip("-").replace("-", "_")}
            assert any(one in err for one in told), (name, err)
            assert err.count("\n") == 1 and "; " in err and "expected " in err, err
        else:
            assert status == 0 and found != plain, f"{name} {value} changes nothing"


def test_what_evaluate_does_not_search_for_is_refused(texts, run, translation_run):
    files = [texts / "test.src", texts / "test.tgt"]
    for arguments in (["--n-best", "3"], ["--n-best=3"]):
        status, out, err = run("evaluate", translation_run, *files, *arguments)
        assert (status, out) == (2, "") and "--n-best" in err


def test_flags_that_other_flags_make_idle_are_refused(texts, refused, translation_run):
    files = [texts / "test.src", texts / "test.tgt"]
    assert refused("evaluate", translation_run, *files, "--tokenize", "zh", "--metrics", "chrf,ter") == (
        "command line: tokenize: expected bleu among the metrics, which alone is tokenized, found chrf,ter; "
        "leave it out"
    )
    told = (
        "command line: alpha: expected a length penalty with an exponent, found penalty none; leave it out, "
        "or take --penalty power or gnmt"
    )
    assert refused("evaluate", translation_run, *files, "--penalty", "none", "--alpha", "2") == told
    assert refused("translate", translation_run, files[0], "--penalty", "none", "--alpha", "2") == told


def test_flags_of_a_task_are_parameters_of_its_answer():
    """What a task says that it takes is what its function takes: none can be declared and dropped."""
    for kind in TASKS.values():
        for command, answer in kind.answers.items():
            taken = inspect.signature(answer.function).parameters
            if all(
                one.kind is not one.VAR_KEYWORD for one in taken.values()
            ):  # such go on to another function
                assert answer.flags.entries.keys() <= taken.keys(), (kind, command)
