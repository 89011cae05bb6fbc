"""Several commands at once: as many as were asked for, and all of them end together."""

import json
import signal
import sys
import threading
import time

import pytest
from started import start, steps_of, wait_for_step
from tiny_runs import LANGUAGE_MODEL

from seqsru.commands.main import main
from seqsru.comparing.children import AtWork, call
from seqsru.errors import Refused

SPEC = """\
output: {folder}/out
base: {folder}/base.yaml
set: {{training.save_every: 10, training.validate_every: 100, training.threads: 1}}
systems: {{SRU: {{}}, LSTM: {{model.stack.cell: lstm}}}}
budget: {{updates: {updates}}}
seeds: [1]
jobs: {jobs}
latency: false
"""


def test_so_many_at_once_and_one_in_its_own_thread():
    at_once, most, lock, threads = 0, 0, threading.Lock(), set()

    def work(item):
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            threads.add(threading.get_ident())
        time.sleep(0.05)
        with lock:
            at_once -= 1

    AtWork().each(work, range(9), 3)
    assert most == 3
    threads.clear()
    most = 0
    AtWork().each(work, range(3), 1)
    assert most == 1 and threads == {threading.get_ident()}


def test_where_one_raises_the_others_are_ended_and_none_is_begun(tmp_path):
    at_work, begun = AtWork(), []

    def work(item):
        begun.append(item)
        if item == 1:
            while not at_work._processes:
                time.sleep(0.01)
            raise ValueError("one")
        with open(tmp_path / "log", "wb") as log:
            process = at_work.start([sys.executable, "-c", "import time; time.sleep(60)"], log)
        assert process.wait() == -signal.SIGTERM
        at_work.go_on()
        raise AssertionError("it went on")

    start = time.monotonic()
    with pytest.raises(ValueError, match="one"):
        at_work.each(work, range(9), 2)
    assert time.monotonic() - start < 30
    assert begun == [0, 1] or begun == [0, 1, 2]  # the thread that raised may have taken the next before
    with pytest.raises(KeyboardInterrupt):
        call(["--version"], tmp_path / "log", at_work)


@pytest.mark.slow
def test_two_at_once_stop_together_and_go_on(texts, tmp_path, capsys):
    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts))
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(folder=tmp_path, jobs=2, updates=400))
    runs = [tmp_path / "out" / "runs" / f"{system}-1" for system in ("SRU", "LSTM")]

    process = start(spec)
    for run in runs:
        wait_for_step(run, 0, process)
    assert all(steps_of(run) < 400 for run in runs), "they were not at once"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in errors and "failed" not in errors, errors
    for run in runs:
        assert "stopped after step" in run.with_name(f"{run.name}.log").read_text()

    process = start(spec)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "seeds 1, 2 trainings at once." in out
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [one["state"] for one in lines if one["step"] == "train"] == ["begun"] * 4 + ["done"] * 2
    assert main(["train", str(runs[0]) + ".yaml", f"output={tmp_path}/undisturbed"]) == 0
    signature = (tmp_path / "undisturbed" / "signature.txt").read_text()
    assert (runs[0] / "signature.txt").read_text() == signature


@pytest.mark.slow
def test_a_search_and_its_trainings_are_the_same_two_at_once(compared, tmp_path):
    """The commands of this test wait for one another, as they run in this process, but their steps do not."""
    more = "search: {trials: 2, budget: {updates: 4}, settings: {optimizer.lr: [0.01, 0.1]}}\nseeds: [1, 2]\n"
    spec = f"systems: {{A: {{}}, B: {{optimizer.lr: 0.3}}}}\nbudget: {{updates: 6}}\nlatency: false\n{more}"
    tables = []
    for jobs in (1, 2):
        folder, told, good = compared(LANGUAGE_MODEL, f"jobs: {jobs}\n{spec}")
        assert good and len([line for line in told if line.startswith("train to round 1")]) == 4
        tables.append(json.loads((folder / "table.json").read_text()))
        folder.rename(tmp_path / f"out-{jobs}")
    assert [table["jobs"] for table in tables] == [1, 2]
    for name in ("test", "validation", "parameters", "steps"):
        one, two = ([row[name] for row in table["systems"]] for table in tables)
        assert one == two
    assert [{s: one["rounds"] for s, one in table["search"].items()} for table in tables] == [
        {s: one["rounds"] for s, one in tables[0]["search"].items()}
    ] * 2


def test_minutes_of_the_clock_are_not_for_several(texts, tmp_path):
    from seqsru.comparing.spec import read

    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts))
    spec = tmp_path / "spec.yaml"
    text = SPEC.format(folder=tmp_path, jobs=2, updates=3)
    spec.write_text(text.replace("updates: 3", "minutes: 3"))
    with pytest.raises(Refused, match=r"spec.yaml:.*jobs: expected a budget other than minutes .* 3 minutes"):
        read(spec)
    spec.write_text(text + "search: {trials: 2, budget: {minutes: 4}, settings: {optimizer.lr: [0.1]}}\n")
    with pytest.raises(Refused, match="found 4 minutes"):
        read(spec)
    spec.write_text(text.replace("jobs: 2", "jobs: 0"))
    with pytest.raises(Refused, match="jobs: expected"):
        read(spec)
