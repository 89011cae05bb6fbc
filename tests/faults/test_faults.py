"""A few of the faults that ``bash tests/faults/run.sh`` tries in number; what is wrong is shown."""

import os

import pytest
import sections


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Texts and two trained runs."""
    return sections.Bench(tmp_path_factory.mktemp("bench"))


# A process is forked for each try: threads of a test before would not be there.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def held(found, at_least):
    tried, wrong = found
    assert wrong == [] and tried >= at_least


@pytest.mark.slow
def test_hostile_run_directories(bench):
    held(sections.hostile_runs(bench, range(8)), 16)


def test_damaged_compiled_code():
    held(sections.damaged_cache(range(8)), 8)


@pytest.mark.slow
def test_settings_that_are_none(bench):
    held(sections.yaml_files(bench, range(1)), 20)


@pytest.mark.slow
def test_a_training_killed_anywhere(tmp_path):
    held(sections.killed_anywhere(tmp_path, 0.05), 3)


@pytest.mark.slow
def test_no_room_anywhere(bench):
    held(sections.full_disk(bench, 0.15), 5)


def test_loads_while_training(tmp_path):
    held(sections.loads_while_training(tmp_path, 40), 40)


def test_what_is_looked_for_would_be_found(bench, monkeypatch):
    """A traceback, a hang, another status and a file that was changed elsewhere each count as a fault."""

    def load(*arguments, **options):
        raise KeyError("a bug")

    monkeypatch.setattr("seqsru.runs.open_run", load)
    tried, wrong = sections.hostile_runs(bench, [7])
    assert tried == 2 and "traceback" in wrong[0] and "a bug" in wrong[0]
    assert sections.tried(lambda: sections.time.sleep(9), seconds=0.2).wrong == "hung"
    assert sections.tried(lambda: os.kill(os.getpid(), 9)).wrong == "signal 9"
    assert sections.tried(lambda: print("so") or 3) == (3, "so\n")
