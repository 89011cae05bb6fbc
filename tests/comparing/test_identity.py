"""What tells one state of the sources, and one machine, from another."""

import shutil
from pathlib import Path

import pytest

import seqsru
from seqsru.comparing.identity import differing, sources
from seqsru.comparing.options import Budget
from seqsru.comparing.outcomes import reached
from seqsru.comparing.outlook import duration


def test_any_change_of_any_source_is_another_state(tmp_path):
    package = tmp_path / "seqsru"
    real = Path(seqsru.__file__).parent
    shutil.copytree(real, package, ignore=shutil.ignore_patterns("__pycache__"))
    assert sources() == sources(package)  # wherever it is installed
    before = sources(package)
    (package / "cells" / "sru.py").write_text((package / "cells" / "sru.py").read_text() + "\n")
    changed = sources(package)
    (package / "new.py").write_text("")
    assert len({before, changed, sources(package)}) == 3
    (package / "notes.txt").write_text("no source")
    (package / "new.py").unlink()
    assert sources(package) == changed and changed.startswith(f"{seqsru.__version__},")


def test_differences_in_words():
    assert differing({"a": 1, "b": 2}, {"a": 1, "c": 3}) == ["b 2 instead of None", "c None instead of 3"]


def test_budgets_as_settings_and_longer_ones():
    assert Budget(minutes=3).settings() == {"training.max_minutes": 3, "training.max_processor_minutes": 0}
    assert Budget(processor_minutes=3).settings() == {
        "training.max_minutes": 0,
        "training.max_processor_minutes": 3,
    }
    assert Budget(updates=7).settings() == {
        "training.max_minutes": 0,
        "training.max_processor_minutes": 0,
        "training.steps": 7,
        "training.epochs": 0,
    }
    assert Budget(epochs=2).grown(1.6) == Budget(epochs=3) and Budget(minutes=2).grown(3) == Budget(minutes=6)
    assert str(Budget(processor_minutes=1.5)) == "1.5 processor minutes"


@pytest.mark.parametrize(
    "goal, higher, found",
    [(5, False, 2.0), (9, True, 1.0), (4, False, 3.0), (3, False, None), (11, True, None)],
)
def test_time_to_a_goal(goal, higher, found):
    assert reached([(1.0, 10), (1.5, None), (2.0, 5), (3.0, 4)], goal, higher) == found


def test_times_for_people():
    assert [duration(s) for s in (30, 89.6, 600, 7300)] == ["30 s", "90 s", "10 min", "2 h 2 min"]
