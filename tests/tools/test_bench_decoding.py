"""tools/bench_decoding.py with systems that answer at once: no peer is installed and nothing is decoded."""

import json
import sys
from contextlib import ExitStack

import bench_decoding
import decoding_processes
import decoding_report
import decoding_systems
import pytest

OWN, PEER = "sru-4+4x256-int8", "ctranslate2-3+3x256-int8"


class Clock:
    """Answers as a worker does: each request takes the next number of seconds of its system."""

    def __init__(self, seconds, length=25):
        self.seconds = {name: iter(values) for name, values in seconds.items()}
        self.length, self.asked = length, []

    def __call__(self, name, threads, batch, beam, count):
        self.asked.append((name, threads, batch, beam))
        seconds = next(self.seconds[name])
        lengths = [self.length]
        return {"seconds": seconds, "cpu": seconds / 2, "sentences": count * batch, "lengths": lengths}


def test_patterns_choose_systems_in_the_order_of_the_table():
    assert bench_decoding.chosen("*") == list(bench_decoding.SYSTEMS)
    assert bench_decoding.chosen("marian-*,lstm-*") == [
        "lstm-2+2x256-int8",
        "lstm-2+2x512-int8",
        "marian-6+2x256-ssru-int8",
    ]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--systems", "sru-*,gru-*"], "expected systems among sru-4+4x256-int8-shortlist, "),
        (["--systems", "sru-*,gru-*"], "found 'gru-*'"),
        (["--repeats", "0"], "expected at least 1 repeat, found 0"),
        (["--plot", "a.txt"], "plot: expected a file ending in .png, .svg, .pdf, found a.txt; rename it"),
    ],
)
def test_a_wrong_flag_is_one_sentence(arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        bench_decoding.main(arguments)
    assert sentence in " ".join(capsys.readouterr().err.split())


def test_every_system_has_a_kind_that_can_be_made():
    kinds = {model["kind"] for model in bench_decoding.SYSTEMS.values()}
    assert kinds == set(decoding_systems.KINDS) == set(bench_decoding.THREADS) == set(bench_decoding.FORCED)
    assert kinds - {"seqsru"} == set(decoding_processes.PEERS)


def test_a_time_is_seconds_over_all_tokens():
    found = bench_decoding.measured(Clock({OWN: [4.0]}), (OWN, 32, 5), 1, 2)
    assert found == {"seconds": 4.0, "ms": 4000 / (2 * 32 * 25), "cpu_ms": 2000 / (2 * 32 * 25)}


def test_an_output_of_another_length_is_refused():
    with pytest.raises(RuntimeError, match="^expected 1 outputs of 25 tokens, found 1 of 24$"):
        bench_decoding.measured(Clock({OWN: [1.0]}, length=24), (OWN, 1, 1), 1, 1)


def test_threads_are_tried_in_turn(monkeypatch):
    monkeypatch.setattr(bench_decoding, "SETTLE", 0.0)
    clock = Clock({PEER: [2.0, 1.0] * 5})
    tried = bench_decoding.try_threads(clock, PEER, 5, (1, 2))
    assert tried == {1: 40.0, 2: 20.0}
    assert clock.asked == [(PEER, 1, 1, 5), (PEER, 2, 1, 5)] * 5


def test_systems_take_turns_and_ratios_stay_in_a_repeat(capsys):
    keys = [(name, *setting) for name in (OWN, PEER) for setting in bench_decoding.SETTINGS]
    # the machine is twice as slow in the second repeat
    clock = Clock({OWN: [1.0] * 4 + [2.0] * 4, PEER: [4.0] * 4 + [8.0] * 4})
    ones = dict.fromkeys(keys, 1)
    times, loads = bench_decoding.take_turns(clock, keys, ones, ones, 2)
    assert [name for name, *_ in clock.asked] == [OWN, PEER] * 4 + [PEER, OWN] * 4
    assert len(loads) == 3
    ratios = bench_decoding.ratios_of(times)
    assert [(row["system"], row["peer"], row["batch"], row["search"]) for row in ratios] == [
        (OWN, PEER, 1, "greedy"),
        (OWN, PEER, 1, "beam 5"),
        (OWN, PEER, 32, "greedy"),
        (OWN, PEER, 32, "beam 5"),
    ]
    assert all(row["ratio"] == {"median": 0.25, "q1": 0.25, "q3": 0.25} for row in ratios)
    rows = bench_decoding.rows_of(times, ones, ones)
    assert rows[0]["ms_a_token"] == {"median": 60.0, "q1": 50.0, "q3": 70.0}
    assert rows[0]["all_ms_a_token"] == [40.0, 80.0] and rows[0]["tokens_a_second"]["median"] == 18.75
    assert "repeat 2 of 2" in capsys.readouterr().err


def test_a_report_says_what_was_forced_and_what_is_left_out(monkeypatch, tmp_path, capsys):
    class Worker:
        def __init__(self, kind, python, models, sizes):
            self.seconds = 4.0 if kind == "ctranslate2" else 1.0

        def __enter__(self):
            return self

        def __exit__(self, *details):
            pass

        def ask(self, request):
            clock = Clock({request["system"]: [self.seconds / request["threads"]]})
            return clock(*(request[name] for name in ("system", "threads", "batch", "beam", "count")))

    def installed(kind, folder):
        if kind == "marian":
            raise RuntimeError("pip failed: no wheel")
        return tmp_path / "python"

    monkeypatch.setattr(bench_decoding, "Worker", Worker)
    monkeypatch.setattr(bench_decoding, "installed", installed)
    monkeypatch.setattr(bench_decoding, "SETTLE", 0.0)
    monkeypatch.setattr(bench_decoding.os, "cpu_count", lambda: 2)
    out, plot = tmp_path / "folder" / "decoding.json", tmp_path / "decoding.png"
    arguments = ["--systems", f"{OWN},{PEER},marian-*", "--quick", "--environment", str(tmp_path)]
    assert bench_decoding.main([*arguments, "--out", str(out), "--plot", str(plot)]) == 0
    report = json.loads(out.read_text())
    assert report["thread_trials_ms_a_token"][PEER]["greedy"] == {"1": 80.0, "2": 40.0}
    assert [row["threads"] for row in report["rows"]] == [1, 1, 1, 1, 2, 2, 1, 1]
    assert [row["ratio"]["median"] for row in report["ratios"]] == [0.5, 0.5, 0.25, 0.25]
    assert report["left_out"] == {"marian-6+2x256-ssru-int8": "pip failed: no wheel"}
    printed = capsys.readouterr().out
    assert "80.000 [80.000–80.000] (2 thr.)" in printed
    assert "ctranslate2: min_decoding_length = max_decoding_length = 25" in printed
    assert "  marian: the bias" not in printed
    assert "Left out: marian-6+2x256-ssru-int8: pip failed: no wheel" in printed
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_nothing_measured_is_a_failure(monkeypatch, tmp_path, capsys):
    def installed(kind, folder):
        raise RuntimeError("pip failed: no wheel")

    monkeypatch.setattr(bench_decoding, "installed", installed)
    arguments = ["--systems", PEER, "--quick", "--environment", str(tmp_path)]
    assert bench_decoding.main([*arguments, "--plot", str(tmp_path / "a.png")]) == 1
    assert f"Left out: {PEER}: pip failed: no wheel" in capsys.readouterr().out


def test_the_peers_versions_are_those_installed(tmp_path):
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    for name in ("ctranslate2-4.8.5.dist-info", "pip-23.2.1.dist-info"):
        (packages / name).mkdir(parents=True)
    assert decoding_processes.peers_versions(tmp_path) == {"ctranslate2": "4.8.5"}


def test_a_peer_is_installed_once(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(decoding_processes, "checked", commands.append)
    python = str(tmp_path / "bin" / "python")
    assert str(decoding_processes.installed("marian", tmp_path)) == python
    assert commands == [
        [sys.executable, "-m", "venv", str(tmp_path)],
        [python, "-m", "pip", "install", "--quiet", "--no-deps", "pymarian"],
    ]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    (tmp_path / "lib/python3/site-packages/pymarian-1.dist-info").mkdir(parents=True)
    decoding_processes.installed("marian", tmp_path)
    assert len(commands) == 2


def test_a_command_that_fails_is_one_sentence():
    with pytest.raises(RuntimeError, match=r" -c import sys; .* failed: no such thing$"):
        decoding_processes.checked([sys.executable, "-c", "import sys; sys.exit('no such thing')"])


def test_a_worker_that_cannot_start_says_why():
    with ExitStack() as stack:
        worker = stack.enter_context(
            decoding_processes.Worker("nothing", sys.executable, {}, bench_decoding.SIZES)
        )
        with pytest.raises(RuntimeError, match="^the process of nothing ended with 1: KeyError: 'nothing'$"):
            worker.ask({})


def test_a_worker_decodes_what_it_is_asked_for(monkeypatch, tmp_path):
    calls = []

    class System:
        def __init__(self, model, sizes, folder):
            assert model == {"kind": "fake"} and folder == tmp_path / "0"

        def prepare(self, sentences):
            return [len(sentence) for sentence in sentences]

        def decoder(self, threads, batch, beam):
            return lambda inputs: calls.append((threads, batch, beam)) or inputs

        def lengths(self, outputs):
            return outputs

    monkeypatch.setitem(decoding_systems.KINDS, "fake", System)
    worker = decoding_systems.Worker("fake", {"a": {"kind": "fake"}}, bench_decoding.SIZES, tmp_path)
    answer = worker.ask("a", threads=2, batch=32, beam=5, count=4)
    assert answer["sentences"] == 128 and answer["lengths"] == [24]  # the end comes in `prepare`
    assert calls == [(2, 32, 5)] * 5  # one before the clock runs


def test_the_table_has_a_line_a_system():
    value = {"median": 1.0, "q1": 0.5, "q3": 2.0}
    rows = [
        {"system": name, "batch": batch, "threads": 1, "ms_a_token": value, "tokens_a_second": value}
        for name in (OWN, PEER)
        for batch in (1, 1, 32, 32)
    ]
    lines = decoding_report.table(rows).splitlines()
    assert len(lines) == 3 and lines[1].split()[:3] == [OWN, "1.000", "[0.500–2.000]"]
