"""Ctrl-C and kill -9 in the middle of a comparison: the same command goes on, with the same bits."""

import json
import signal

import pytest
from started import start, steps_of, wait_for_step
from tiny_runs import LANGUAGE_MODEL

from seqsru.commands.main import main

SPEC = """\
output: {folder}/out
base: {folder}/base.yaml
set: {{training.save_every: 3, training.validate_every: 100, model.stack.cell: lstm}}
systems: {{SRU: {{}}}}
budget: {{updates: 200}}
seeds: [1]
latency: false
"""


@pytest.mark.slow
def test_it_goes_on_after_ctrl_c_and_after_a_kill(texts, tmp_path, capsys):
    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts))
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(folder=tmp_path))
    run = tmp_path / "out" / "runs" / "SRU-1"

    process = start(spec)
    wait_for_step(run, 0, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.endswith(f"seqsru: interrupted; what was done is kept; go on with: seqsru compare {spec}\n")
    assert "stopped after step" in (tmp_path / "out" / "runs" / "SRU-1.log").read_text()

    process = start(spec)
    wait_for_step(run, steps_of(run), process)  # beyond those of before
    process.kill()  # its training goes on, and is waited for
    process.communicate()
    process = start(spec)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "waits: expected no other run in " in errors or "stopped at step 200" in (run / "log").read_text()
    assert out.startswith("| system | test perplexity | ")

    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [one["state"] for one in lines if one["step"] == "train"] == ["begun", "begun", "begun", "done"]
    config = tmp_path / "out" / "runs" / "SRU-1.yaml"
    assert main(["train", str(config), f"output={tmp_path}/undisturbed"]) == 0
    signature = (tmp_path / "undisturbed" / "signature.txt").read_text()
    assert (run / "signature.txt").read_text() == signature


def test_two_at_once_are_refused(texts, tmp_path, capsys):
    from seqsru.training.lock import held

    (tmp_path / "base.yaml").write_text(LANGUAGE_MODEL.format(folder=texts))
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC.format(folder=tmp_path))
    (tmp_path / "out").mkdir()
    with held(tmp_path / "out"):
        assert main(["compare", str(spec)]) == 2
    assert capsys.readouterr().err == (
        f"seqsru: expected no other comparison in {tmp_path}/out, found one that is at work; "
        "wait for it to end, or choose another output\n"
    )
