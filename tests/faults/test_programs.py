"""The two programs that want a trained model, in small."""

import long_runs
import pytest
import same_answer
from tiny_runs import TRANSLATION, write_config, write_texts

from seqsru.commands.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    write_texts(folder)
    # The reference loop is torch's elementwise functions, which round otherwise at another place of a tensor.
    config = TRANSLATION.replace(", backend: reference", "")
    assert main(["train", str(write_config(folder, config)), f"output={folder / 'run'}"]) == 0
    return folder / "run"


@pytest.mark.slow
def test_the_same_answer(run, monkeypatch, capsys):
    monkeypatch.setattr(same_answer, "SIZES", (1, 3, 100))
    given = [str(run), str(run.parent / "test.src"), "--count", "5", "--torch-count", "3"]
    assert same_answer.main(given) == 0
    assert capsys.readouterr().out.count(" 0 differ") == 8


def test_growth_is_told(capsys):
    before = long_runs.Held(1000, 2, 5)
    assert long_runs.told("x", 1, before, long_runs.Held(1030, 2, 5), 1.0)
    assert not long_runs.told("x", 1, before, long_runs.Held(1040, 2, 5), 1.0)
    assert not long_runs.told("x", 1, before, long_runs.Held(1000, 3, 5), 1.0)
    assert not long_runs.told("x", 1, before, long_runs.Held(1000, 2, 6), 1.0)
    assert capsys.readouterr().out.count("GREW") == 3
