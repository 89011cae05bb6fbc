"""tools/bench_sentences.py at tiny sizes."""

import json

import bench_sentences
import pytest


@pytest.mark.slow
def test_times_sentences_and_the_start(tmp_path, capsys):
    out = tmp_path / "sentences.json"
    assert bench_sentences.main(["--quick", "--words", "5", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert list(report["systems"]) == ["int8, shortlist", "int8"]
    for system in report["systems"].values():
        assert set(bench_sentences.WANTED) < set(system) and all(value > 0 for value in system.values())
        assert system["a later token, P50 ms"] < system["a sentence, P50 ms"] <= system["a sentence, P99 ms"]
        assert system["  reading"] + system["  its sum"] < 3 * system["loading, ms"]
    assert "first answer, s" in capsys.readouterr().out
