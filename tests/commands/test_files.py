"""Files that commands read and write: once, whole, and never one for the other."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny_runs import LANGUAGE_MODEL, write_config

import seqsru
from seqsru.commands import flags
from seqsru.pipelines.translation import TranslationPipeline

ROOT = Path(seqsru.__file__).parent.parent


@pytest.fixture
def pipe(tmp_path):
    """Make a pipe with a name, into which a thread writes once."""
    threads = []

    def make(source):
        path = tmp_path / f"pipe-{len(threads)}"
        os.mkfifo(path)
        threads.append(threading.Thread(target=path.write_bytes, args=(source.read_bytes(),)))
        threads[-1].start()
        return path

    yield make
    for thread in threads:
        thread.join()


def test_score_reads_either_side_once(texts, run, translation_run, pipe):
    source, target = texts / "test.src", texts / "test.tgt"
    whole = run("score", translation_run, source, target)
    assert whole[0] == 0 and len(whole[1].splitlines()) == 6
    assert run("score", translation_run, "-", target, stdin=source.read_text()) == whole
    assert run("score", translation_run, source, "-", stdin=target.read_text()) == whole
    assert run("score", translation_run, pipe(source), pipe(target)) == whole


@pytest.mark.parametrize(
    "kind, names",
    [
        ("translation_run", ["test.src", "test.tgt"]),
        ("language_run", ["test.txt"]),
        ("classification_run", ["test.labelled"]),
        ("question_run", ["test.json"]),
    ],
)
def test_evaluate_reads_pipes(texts, run, request, pipe, kind, names):
    trained, files = request.getfixturevalue(kind), [texts / name for name in names]
    numbers = run("evaluate", trained, *files)[1].splitlines()[:-1]
    assert run("evaluate", trained, *map(pipe, files))[1].splitlines()[:-1] == numbers
    rest = files[1:]
    assert run("evaluate", trained, "-", *rest, stdin=files[0].read_text())[1].splitlines()[:-1] == numbers


def test_latency_and_the_config_of_a_training_from_a_pipe(texts, run, language_run, pipe):
    assert run("latency", language_run, pipe(texts / "test.txt"), "--repeats", "1")[0] == 0
    config = write_config(texts, LANGUAGE_MODEL)
    assert run("train", "--check", pipe(config))[1] == run("train", "--check", config)[1]


def test_one_stream_is_not_two_texts(texts, refused, translation_run):
    told = (
        "seqsru: expected a source of its own for each text, found - and -, one stream that can be read only "
        "once; save it to a file, and name that"
    )
    assert refused("score", translation_run, "-", "-", stdin="a\n") == told
    assert (
        refused("evaluate", translation_run, texts / "test.src", "-", "--baseline", "-", stdin="a\n") == told
    )


@pytest.mark.parametrize(
    "value, found",
    [
        ("/dev/stdin", "a stream of this process alone; save it to a file, a run reads it at every start"),
        ("/dev/fd/0", "a stream of this process alone; save it to a file, a run reads it at every start"),
        ("'-'", "a stream of this process alone; save it to a file, a run reads it at every start"),
        ("{folder}/pipe", "a pipe or a device; save it to a file, a run reads it at every start"),
        ("{folder}", "a folder; name a file in it"),
        ("{folder}/none", "none; check the path"),
    ],
)
def test_training_reads_no_stream(texts, refused, tmp_path, value, found):
    os.mkfifo(tmp_path / "pipe")
    value = value.format(folder=tmp_path)
    path = value.strip("'")
    told = refused(
        "train", write_config(texts, LANGUAGE_MODEL), f"data.train={value}", f"output={tmp_path}/run"
    )
    assert told == f"command line: data.train: expected a file at {path}, found {found}"


def test_an_output_is_no_input_and_no_part_of_the_run(
    texts, refused, translation_run, language_run, tmp_path
):
    def told(flag, path):
        return (
            f"seqsru: expected another file for {flag}, found {path}, which is an input or part of one; name "
            "one of its own"
        )

    source, target = tmp_path / "s", tmp_path / "t"
    for path, name in ((source, "test.src"), (target, "test.tgt")):
        shutil.copy(texts / name, path)
    hard = tmp_path / "hard"
    hard.hardlink_to(source)
    before = {path: path.read_bytes() for path in texts.rglob("*") if path.is_file()}
    assert refused("translate", translation_run, source, "--output", source) == told("--output", source)
    assert refused("translate", translation_run, source, "--output", hard) == told("--output", hard)
    evaluate = ("evaluate", translation_run, source, target)
    for path in (
        source,
        target,
        texts / "train.tgt",
        translation_run / "config.yaml",
        translation_run / "log",
    ):
        assert refused(*evaluate, "--translations", path) == told("--translations", path)
    for name in (
        "signature.txt",
        "lock",
        "source.json",
        "tokenizer.json",
        "checkpoints/step-00000004/state.json",
    ):
        path = (language_run if name == "tokenizer.json" else translation_run) / name
        run = language_run if name == "tokenizer.json" else translation_run
        texts_of = [texts / "test.txt"] if run == language_run else [source, target]
        assert refused("evaluate", run, *texts_of, "--json", path) == told("--json", path)
    assert refused(*evaluate, "--baseline", hard, "--json", hard) == told("--json", hard)
    assert refused(*evaluate, "--translations", tmp_path / "x", "--json", tmp_path / "x") == (
        f"seqsru: expected another file for --translations, found {tmp_path}/x, which --json names too; name "
        "one of its own"
    )
    assert "part of one" in refused("latency", language_run, "--json", texts / "test.txt")
    assert {path: path.read_bytes() for path in before} == before


def test_results_may_stand_in_the_run_directory(texts, run, language_run):
    assert run("evaluate", language_run, "--json", language_run / "test.json")[0] == 0
    assert run("train", language_run)[0] == 0 and (language_run / "test.json").is_file()


def test_output_may_be_standard_output(texts, run, translation_run):
    whole = run("translate", translation_run, texts / "lines")[1]
    for name in ("-", "/dev/stdout", "/dev/fd/1"):
        done = subprocess.run(
            [sys.executable, "-m", "seqsru", "translate", translation_run, texts / "lines", "--output", name],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, whole)


@pytest.mark.parametrize(
    "stop, status, word", [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_loses_no_line_that_was_done(
    texts, run, translation_run, tmp_path, monkeypatch, stop, status, word
):
    lines = ["one two three"] * 3 + ["seven", "", "two two"]
    (tmp_path / "in").write_text("".join(line + "\n" for line in lines))
    out = tmp_path / "out"
    out.write_text("old\n")
    translate, calls = TranslationPipeline.translate, []

    def interrupted(self, lines, *rest, **more):
        calls.append(lines)
        if len(calls) == 3:
            os.kill(os.getpid(), stop)
        return translate(self, lines, *rest, **more)

    whole = run("translate", translation_run, tmp_path / "in")[1].splitlines()
    monkeypatch.setattr(flags, "CHUNK", 2)
    monkeypatch.setattr(TranslationPipeline, "translate", interrupted)
    found = run("translate", translation_run, tmp_path / "in", "--output", out)
    assert found == (status, "", f"seqsru: {word}; the lines that were done are in {out}.part\n")
    assert out.read_text() == "old\n" and (tmp_path / "out.part").read_text().splitlines() == whole[:4]
    calls.clear()
    assert run("translate", translation_run, tmp_path / "in") == (
        status, "".join(line + "\n" for line in whole[:4]), f"seqsru: {word}\n",
    )  # fmt: skip
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_mistake_midway_leaves_the_earlier_output(
    texts, refused, translation_run, classification_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(flags, "CHUNK", 1)
    out = tmp_path / "out"
    out.write_text("old\n")
    for command, trained in (("translate", translation_run), ("classify", classification_run)):
        assert "expected UTF-8 text in <stdin>:2" in refused(
            command, trained, "--output", out, stdin=b"one\n\xff\n"
        )
        assert out.read_text() == "old\n" and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_no_room(texts, refused, language_run, translation_run, tmp_path):
    told = "seqsru: expected room for more at /dev/full, found a device that takes no more; free some, then "
    told += "go on"
    assert refused("translate", translation_run, texts / "lines", "--output", "/dev/full") == told
    full = subprocess.run(
        f"{sys.executable} -m seqsru --version > /dev/full",
        shell=True,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert (full.returncode, full.stderr) == (2, told.replace("/dev/full", "standard output") + "\n")


def test_a_run_goes_on_in_its_own_folder(texts, run, refused, tmp_path):
    folder, other = tmp_path / "a run", tmp_path / "other"
    assert run("train", write_config(texts, LANGUAGE_MODEL), f"output={folder}", "training.epochs=1")[0] == 0
    assert refused("train", folder, f"output={other}") == (
        f"seqsru: expected the run in {folder} to go on in its own folder, found output={other}; "
        f"copy it first (cp -r '{folder}' {other}; seqsru train {other}), or begin anew with its settings "
        f"(seqsru train '{folder}/config.yaml' output={other})"
    )
    assert not other.exists()
    (tmp_path / "link").symlink_to(folder)
    assert run("train", folder, f"output={tmp_path}/link")[0] == 0
    shutil.copytree(folder, other)
    assert run("train", other)[0] == 0
    assert run("train", folder / "config.yaml", f"output={tmp_path}/anew")[0] == 0


def test_copies_among_checkpoints_end_no_command(texts, run, refused, language_run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(language_run, folder)
    newest = sorted((folder / "checkpoints").glob("step-*"))[-1]
    for name in (f"{newest.name}-copy", f"{newest.name} (1)", "step-abc", ".tmp"):
        shutil.copytree(newest, newest.parent / name)
    (newest.parent / "step-00000003").write_text("")
    assert run("evaluate", folder)[:2] == run("evaluate", language_run)[:2]
    assert run("evaluate", folder, "--average", "2", "--checkpoint", "last")[0] == 0
    assert run("train", folder, "training.epochs=3", "training.keep=1", "training.keep_best=0")[0] == 0
    assert (newest.parent / f"{newest.name}-copy").is_dir() and (newest.parent / "step-00000003").is_file()
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    shutil.copytree(language_run / "checkpoints" / newest.name, newest.parent / "step-00000009 (1)")
    status, out, err = run("train", folder)
    assert (status, out) == (2, "") and err.endswith(
        "found only step-00000009 (1), which is not a name of one; give one back the name that it had, such "
        "as step-00000010, or move it away to begin anew\n"
    )
