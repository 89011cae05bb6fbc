"""Several processes of torchrun: the training of one, however many there are, and all end together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, QUESTIONS, TRANSLATION, write_texts

from seqsru.cells.masks import drop_features, drop_words, rows_of
from seqsru.commands.main import main
from seqsru.errors import Refused
from seqsru.training import watch as watching
from seqsru.training.processes import ALONE, Processes, joined
from seqsru.training.watch import Watch

PROGRAM = Path(__file__).parent / "several.py"
TASKS = {
    "lm": LANGUAGE_MODEL,
    "mt": TRANSLATION.replace("training: {{steps: 4", "training: {{steps: 4, accumulate: 2").replace(
        "tokens: 256", "tokens: 64"
    ),
    "qa": QUESTIONS.replace("training: {{epochs: 3", "training: {{epochs: 3, accumulate: 2"),
    "class": CLASSIFICATION.replace("training: {{epochs: 3", "training: {{epochs: 3, accumulate: 2"),
}
STEPS = "training.epochs=0,training.steps={},training.log_every=1,training.save_every=4"


def torchrun(count, *program, restarts=0, **options):
    """A torchrun of so many processes, as a process of a session of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}"]
    command += [f"--max-restarts={restarts}", "--rdzv-endpoint=localhost:0", "--rdzv-backend=c10d", *program]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def done(process, seconds=240):
    """What it wrote, once it has ended well."""
    try:
        out, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    return out


def metrics(folder):
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        yield {
            name: record[name]
            for name in record
            if name not in ("seconds", "processor_seconds", "tokens_per_second")
        }


def tensors(folder, step):
    path = folder / "checkpoints" / f"step-{step:08d}"
    return {file.name: file.read_bytes() for file in path.glob("*.safetensors")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Runs of each task: by one process, by two, and by two, then three or one, that stopped on the way."""
    folder = tmp_path_factory.mktemp("several")
    write_texts(folder)
    trainings = {}
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text.format(folder=folder))
        for kind in ("one", "two", "halves", "other"):
            trainings[kind, name] = f"{name}.yaml,output={folder}/{kind}-{name},"
    whole, half = STEPS.format(12), STEPS.format(6)

    def given(kinds, steps):
        return [str(folder), *(trainings[kind, name] + steps for kind in kinds for name in TASKS)]

    first = torchrun(2, str(PROGRAM), *given(["two"], whole), *given(["halves", "other"], half)[1:])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(PROGRAM)]
    subprocess.run([*command, *given(["one"], whole)], env=env, check=True)
    done(first)
    subprocess.run([*command, *given(["other"], whole)], env=env, check=True)
    done(torchrun(2, str(PROGRAM), *given(["halves"], whole)))
    return folder


@pytest.mark.slow
def test_one_process_tells(place):
    """The best value and its signature are printed once; the run, which is finished, is gone on with."""
    config, output = place / "class.yaml", place / "two-class"
    given = STEPS.format(12).split(",")
    out = done(torchrun(2, "-m", "seqsru", "train", str(config), f"output={output}", *given))
    assert out == (output / "signature.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two", "halves", "other"])
@pytest.mark.parametrize("task", TASKS)
def test_the_training_is_that_of_one_process(place, task, kind):
    one, other = (list(metrics(place / f"{name}-{task}")) for name in ("one", kind))
    assert [r["kind"] for r in one].count("train") == 12
    for a, b in zip(one, other, strict=True):
        assert a.pop("kind") == b.pop("kind")
        assert b == pytest.approx(a, rel=1e-6)
    found = [
        (place / f"{name}-{task}" / "signature.txt").read_text().splitlines()[0] for name in ("one", kind)
    ]
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_stopped_ends_with_the_bits_of_one_that_did_not(place, task):
    assert tensors(place / f"halves-{task}", 12) == tensors(place / f"two-{task}", 12)


@pytest.mark.slow
def test_texts_are_worked_on_by_all_and_written_by_one(place, tmp_path, capsys):
    source = place / "train.src"
    run = str(place / "two-mt")
    assert main(["translate", run, str(source), "--json"]) == 0
    alone = capsys.readouterr().out
    with open(source) as stream:
        assert done(torchrun(2, "-m", "seqsru", "translate", run, "--json", stdin=stream)) == alone
    assert main(["evaluate", run, "--split", "validation", "--json", str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    others = torchrun(
        2, "-m", "seqsru", "evaluate", run, "--split", "validation", "--json", str(tmp_path / "b.json")
    )
    assert done(others) == printed
    assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def workers(process, count=2):
    """Process numbers of the workers of a torchrun, by rank."""
    found = {}
    for _ in range(600):
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
                environment = (path / "environ").read_bytes() if parent == process.pid else b""
            except (OSError, ValueError):
                continue
            if b"\0RANK=" in b"\0" + environment:
                rank = environment.split(b"\0RANK=")[1].split(b"\0")[0]
                found[int(rank)] = int(path.name)
        if len(found) == count:
            return [found[rank] for rank in range(count)]
        time.sleep(0.1)
    raise AssertionError("no workers")


def wait_for(path, seconds=120):
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.05)


LONG = STEPS.format(200).replace("save_every=4", "save_every=20")


@pytest.fixture(scope="module")
def undisturbed(place, tmp_path_factory):
    """The run of two processes that nothing happens to."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    done(torchrun(2, str(PROGRAM), str(place), f"lm.yaml,output={run},{LONG}"))
    return run


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how, victim", [(signal.SIGKILL, 0), (signal.SIGSTOP, 1)])
def test_one_that_has_gone_ends_all_and_torchrun_starts_them_again(place, undisturbed, tmp_path, how, victim):
    run = tmp_path / "run"
    training = f"lm.yaml,output={run},{LONG}"
    process = torchrun(2, str(PROGRAM), str(place), training, restarts=1)
    wait_for(run / "checkpoints" / "step-00000020")
    first = workers(process)
    os.kill(first[victim], how)
    began = time.monotonic()
    while any(Path(f"/proc/{pid}").exists() for pid in first) and time.monotonic() - began < 60:
        time.sleep(0.1)
    assert time.monotonic() - began < 30
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    if how == signal.SIGSTOP:
        assert (
            f"seqsru: expected all 2 processes to go on, found no sign of life of process {victim} for 15 s, "
            f"as process {1 - victim} sees it; see above what ended it; `torchrun --max-restarts=3` starts "
            "all of them again from the last checkpoint\n" in errors
        )
    assert tensors(run, 200) == tensors(undisturbed, 200)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("victim", [1])
def test_a_signal_to_one_stops_all_after_the_same_update(place, tmp_path, victim):
    run = tmp_path / "run"
    path = place / "lm.yaml"
    steps = STEPS.format(100000).split(",")
    process = torchrun(2, "-m", "seqsru", "train", str(path), f"output={run}", *steps)
    wait_for(run / "checkpoints" / "step-00000004")
    os.kill(workers(process)[victim], signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert "and saved; go on with: seqsru train" in errors
    assert "exitcode  : 143" in errors
    last = sorted((run / "checkpoints").iterdir())[-1].name
    assert f"stopped at step {int(last[5:])}: interrupted" in (run / "log").read_text()


def test_one_process_is_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert joined() is ALONE and ALONE.leads and not ALONE.several
    assert ALONE.every(3) == [3] and ALONE.sums(1, 2.5) == [1, 2.5] and ALONE.first(lambda: 4) == 4
    assert ALONE.map(lambda items: [2 * i for i in items], [1, 2, 3]) == [2, 4, 6]
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(Refused) as caught:
        joined()
    assert str(caught.value) == (
        "expected RANK, MASTER_ADDR and MASTER_PORT beside WORLD_SIZE, found no RANK; start them with "
        "torchrun, or leave WORLD_SIZE unset"
    )


@pytest.mark.parametrize(
    "command", ["score", "classify", "generate", "latency", "quantize", "doctor", "fetch"]
)
def test_what_several_do_not_do_together_is_refused(monkeypatch, capsys, command):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([command, "x"]) == 2
    assert capsys.readouterr().err == (
        f"seqsru: expected one process for seqsru {command}, found 2; start it without torchrun; several "
        "work on train, evaluate, translate\n"
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_shares_are_everything_once(count):
    seen = [Processes(rank, count) for rank in range(count)]
    assert sorted(i for one in seen for i in one.mine(range(10))) == list(range(10))
    parts = [one.part(10) for one in seen]
    assert [a for a, _ in parts] + [10] == [0] + [b for _, b in parts]
    assert all(b > a for a, b in parts)


def test_more_processes_than_work_are_refused(tmp_path):
    import test_trainer as loop
    import tiny

    trainer = loop.make(tmp_path, [[1]], epochs=1, accumulate=2)
    trainer.processes = Processes(0, 3)
    with pytest.raises(Refused) as caught:
        trainer.resume(None)
    assert str(caught.value) == (
        "accumulate: expected at least a batch an update for each of the 3 processes, found 2; raise it, or "
        "start fewer processes: they share the batches of an update"
    )
    trainer = tiny.make(tmp_path)
    trainer.processes = Processes(0, 5)
    with pytest.raises(Refused) as caught:
        trainer.resume(None)
    assert str(caught.value) == (
        "expected at least a row of each batch for each of the 5 processes, found 4; raise "
        "batches.batch_size, or start fewer processes"
    )


def test_rows_have_the_masks_of_the_whole_batch():
    x = torch.ones(3, 7, 5)
    tokens = torch.arange(21).view(3, 7) % 4
    torch.manual_seed(4)
    whole = drop_features(x, 0.5, True), drop_words(x, tokens, 4, 0.5, True)
    for first, last in ((0, 3), (3, 7), (6, 7)):
        torch.manual_seed(4)
        with rows_of(first, last, 7):
            part = (
                drop_features(x[:, first:last], 0.5, True),
                drop_words(x[:, first:last], tokens[:, first:last], 4, 0.5, True),
            )
        for a, b in zip(part, whole):
            assert torch.equal(a, b[:, first:last])


class Store(dict):
    """As much of torchrun's store as the watch needs."""

    def set(self, key, value):
        self[key] = value.encode() if isinstance(value, str) else value

    def check(self, keys):
        return all(key in self for key in keys)


class Ended(BaseException):
    pass


@pytest.fixture
def watched(monkeypatch):
    """A watch whose clock and whose others a test moves."""
    clock = [100.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: clock[0])
    store, found = Store(), []
    watch = Watch(store, 0, 2)

    def wait(seconds):
        clock[0] += 1.0
        return watched.step(int(clock[0] - 100))

    def end(expected, text, rank):
        found.append((text, rank, clock[0] - 100))
        raise Ended

    monkeypatch.setattr(watch, "_end", end)
    monkeypatch.setattr(watch._stopped, "wait", wait)

    def watched(step):
        watched.step = step
        try:
            watch._run()
        except Ended:
            pass
        return found

    watched.store, watched.watch, watched.clock = store, watch, clock
    return watched


def test_who_is_silent_is_seen(watched):
    def step(second):
        if second < 5:
            watched.store.set("alive/1", f"{second} 0")
        return second > 60

    ((text, rank, when),) = watched(step)
    assert text == "no sign of life of process 1 for 15 s, as process 0 sees it"
    assert rank == 1 and 18 <= when <= 22


def test_who_lives_is_let_live_however_long_it_works(watched):
    def step(second):
        watched.store.set("alive/1", f"{second} 0")
        return second > 600

    assert watched(step) == []


def test_who_has_left_is_not_missed(watched):
    watched.store.set("alive/1", "left")
    assert watched(lambda second: second > 60) == []


def test_who_does_not_come_to_an_update_is_seen(watched):
    def step(second):
        watched.store.set("alive/1", f"{second} 0")
        return second > 100

    with watched.watch.waiting(at_once=True):
        ((text, rank, when),) = watched(step)
    assert text == "process 1 away from an update for 20 s, as process 0 sees it"
    assert rank == 1 and 20 <= when <= 23


def test_who_comes_late_to_what_takes_long_is_waited_for(watched):
    def step(second):
        watched.store.set("alive/1", f"{second} 0")
        return second > 300

    with watched.watch.waiting(at_once=False):
        assert watched(step) == []


def test_a_machine_that_slept_blames_nobody(watched):
    def step(second):
        if second == 3:
            watched.clock[0] += 1000
        watched.store.set("alive/1", f"{second if second < 3 or second > 1010 else 2} 0")
        return second > 1050

    assert watched(step) == []


def test_a_store_that_has_gone_ends_the_process(watched):
    def gone(key, value):
        raise RuntimeError("Broken pipe")

    watched.store.set = gone
    ((text, rank, _),) = watched(lambda second: second > 9)
    assert text == "that it has gone (Broken pipe)" and rank is None
