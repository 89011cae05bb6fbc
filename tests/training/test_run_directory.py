"""Who may write to a run directory, and which files in it are the run's own."""

import subprocess
import sys

import pytest

from seqsru.data import Words
from seqsru.data import files as data_files
from seqsru.errors import Busy
from seqsru.training import RunDirectory, checkpoints
from seqsru.training.lock import check_free

HOLD = """\
import sys
from seqsru.training import RunDirectory
with RunDirectory(sys.argv[1]).exclusive():
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_names_of_a_run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    paths = (run.config, run.signature, run.checkpoints, run.metrics, run.log, run.tensorboard, run.lock)
    assert [str(path.relative_to(run.path)) for path in (*paths, run.tokenizer("source"))] == [
        "config.yaml",
        "signature.txt",
        "checkpoints",
        "metrics.jsonl",
        "log",
        "tensorboard",
        "lock",
        "source.json",
    ]
    assert not run.path.exists() and not run.begun


def test_another_process_is_refused_and_named(tmp_path):
    run = RunDirectory(tmp_path / "run")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(
            Busy,
            match=f"^expected no other run in {run.path}, found that process {holder.pid} is training "
            "there; wait for it to end, or choose another output$",
        ):
            with run.exclusive():
                pass
        holder.stdin.close()
        assert holder.wait(60) == 0
    with run.exclusive():
        assert names(run.path) == ["lock"]


def test_who_holds_it_may_enter_again(tmp_path):
    (tmp_path / "elsewhere").symlink_to(tmp_path / "run")
    with RunDirectory(tmp_path / "run").exclusive():
        with RunDirectory(tmp_path / "elsewhere").exclusive():
            pass
        with pytest.raises(KeyError), RunDirectory(tmp_path / "run").exclusive():
            raise KeyError
    with RunDirectory(tmp_path / "run").exclusive():
        pass


def test_what_a_killed_process_left_is_tidied(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path)

    def killed(*_):
        raise KeyboardInterrupt

    run.write(run.signature, "first\n")
    (tmp_path / "notes.tmp").write_text("a user's")
    (run.checkpoints / ".partial-step-00000002").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(data_files.os, "replace", killed)
        for path in (run.config, run.signature):
            with pytest.raises(KeyboardInterrupt):
                run.write(path, "second\n")
    assert run.signature.read_text() == "first\n" and len(names(tmp_path)) == 5
    with run.exclusive():
        assert names(tmp_path) == ["checkpoints", "lock", "notes.tmp", "signature.txt"]
        assert names(run.checkpoints) == []


def test_a_run_has_begun_once_there_is_a_checkpoint(tmp_path):
    run = RunDirectory(tmp_path)
    checkpoints.save(run.checkpoints, 3, {}, {}, {})
    assert run.begun


def test_only_tokenizers_of_the_run_are_forgotten(tmp_path):
    run = RunDirectory(tmp_path)
    for name in ("source", "target"):
        Words.train(["a b"]).save(tmp_path, name)
    (tmp_path / "source.model").write_bytes(b"a user's own")
    for name, text in (("other", '{"kind": "words"}'), ("list", "[1]"), ("torn", '{"kind'), ("none", "null")):
        run.tokenizer(name).write_text(text)
    before = names(tmp_path)
    run.forget(["source", "other", "list", "torn", "none", "missing"])
    assert names(tmp_path) == [name for name in before if name != "source.json"]


def test_the_model_of_a_forgotten_tokenizer_goes_with_it(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    fingerprint = data_files.sha256(tmp_path / "tokenizer.model")
    run = RunDirectory(tmp_path)
    run.write(run.tokenizer("tokenizer"), f'{{"kind": "sentencepiece", "fingerprint": "{fingerprint}"}}')
    run.forget(["tokenizer"])
    assert names(tmp_path) == []


def test_a_deleted_lock_file_lets_nobody_in(tmp_path):
    run = RunDirectory(tmp_path / "run")
    told = f"^expected no other run in {run.path}, found that process (unknown|[0-9]+) is training there; "
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        for text in (None, "", "1\n"):  # it may be deleted, emptied, and put there anew
            run.lock.unlink() if text is None else run.lock.write_text(text)
            with pytest.raises(Busy, match=told), run.exclusive():
                pass
            with pytest.raises(Busy, match=told):
                check_free(run.path)
        config = tmp_path / "run.yaml"
        config.write_text(f"output: {run.path}\n")
        code = "import sys; from seqsru.commands.main import main; status = main(sys.argv[1:]); "
        code += "sys.exit(9 if 'torch' in sys.modules else status)"
        for arguments in ([config], [config, f"output={tmp_path}/link"]):
            if len(arguments) == 2:
                (tmp_path / "link").symlink_to(run.path)
            done = subprocess.run(
                [sys.executable, "-c", code, "train", *map(str, arguments)], capture_output=True, text=True
            )
            assert done.returncode == 2 and "seqsru: expected no other run in " in done.stderr
        holder.stdin.close()
        assert holder.wait(60) == 0
    check_free(run.path)
    with run.exclusive():
        pass
