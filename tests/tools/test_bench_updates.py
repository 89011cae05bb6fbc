"""tools/bench_updates.py with a tiny training: two environments, and what is no training."""

import re

import bench_updates
import pytest
from tiny_runs import LANGUAGE_MODEL, write_config, write_texts

pytestmark = pytest.mark.slow  # four trainings in processes of their own


def test_a_row_for_each_environment(tmp_path, capsys):
    write_texts(tmp_path)
    config = str(write_config(tmp_path, LANGUAGE_MODEL))
    flags = ["--updates", "2", "--repeats", "1", "--beside", "THP_MEM_ALLOC_ENABLE=0"]
    assert (
        bench_updates.main([config, *flags, "--set", "training.epochs=0", "--set", "training.steps=9"]) == 0
    )
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 4 and rows[2].startswith("| as it is | ")
    assert re.fullmatch(r"\| THP\w+=0 \| [\d,]+ \| [\d,]+ \| [\d,]+ \| \d+\.\d\d \(.*\) \|", rows[3])
    assert not (tmp_path / "run").exists()


def test_a_training_that_ends_early_is_told_of(tmp_path, capsys):
    write_texts(tmp_path)
    config = str(write_config(tmp_path, LANGUAGE_MODEL))
    assert (
        bench_updates.main(
            [config, "--updates", "9", "--set", "training.epochs=0", "--set", "training.steps=1"]
        )
        == 2
    )
    assert capsys.readouterr().err.startswith("expected 14 updates of ")
    assert bench_updates.main([str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml" in capsys.readouterr().err
