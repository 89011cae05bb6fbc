"""Which of equal validations is the best: that of the lower tie breaker, then the earlier one."""

import json
import math

import pytest
from tiny import make

from seqsru.training import checkpoints
from seqsru.training.checkpoints import rank, ranking


def trained(folder, values, ties, higher=True, tie_breaker="tie", **options):
    """Train with validations that give these values."""
    trainer = make(folder, epochs=0, steps=len(values), validate_every=1, keep=100, keep_best=100, **options)
    objective, found = trainer.objective, iter(zip(values, ties))
    objective.metric, objective.higher_is_better, objective.tie_breaker = "value", higher, tie_breaker
    objective.validate = lambda model: dict(zip(("value", "tie"), next(found)))
    return trainer.fit()


CASES = [
    ([0, 0, 0, 0], [9, 5, 7, 5], 2),  # the lowest, and of its equals the earlier
    ([0, 1, 1, 0], [1, 9, 8, 1], 3),  # only among equals
    ([0, 0, 0], [math.inf, math.nan, 4], 3),
    ([0, 0, 0], [math.inf, math.nan, math.inf], 1),
    ([2, 2], [3, 3], 1),
]


@pytest.mark.parametrize("values, ties, best", CASES)
@pytest.mark.parametrize("higher", [True, False])
def test_the_best_and_the_ranking_agree(values, ties, best, higher, tmp_path):
    outcome = trained(tmp_path, [v if higher else -v for v in values], ties, higher)
    assert outcome.best_step == best
    assert checkpoints.best(tmp_path / "checkpoints").step == best
    order = sorted(
        range(len(values)), key=lambda i: (-values[i], ties[i] if math.isfinite(ties[i]) else 1e308)
    )
    assert [int(path.name[5:]) for path in ranking(tmp_path / "checkpoints")] == [i + 1 for i in order]


def test_without_one_the_earlier_is_the_best(tmp_path):
    outcome = trained(tmp_path, [0, 0, 0], [9, 5, 7], tie_breaker=None)
    assert outcome.best_step == 1 == checkpoints.best(tmp_path / "checkpoints").step


def test_a_lower_one_is_a_new_best_to_patience(tmp_path):
    assert trained(tmp_path / "a", [0] * 6, [6, 5, 4, 3, 2, 1], patience=2).reason == "steps"
    stopped = trained(tmp_path / "b", [0] * 6, [6, 5, 5, 5, 5, 5], patience=2)
    assert (stopped.reason, stopped.step, stopped.best_step) == ("patience", 4, 2)


def test_a_run_that_goes_on_keeps_what_decides(tmp_path):
    whole = trained(tmp_path / "whole", [0] * 4, [9, 5, 7, 6])
    make(tmp_path / "part", epochs=0, steps=4, schedule="constant")  # nothing is written before fit
    assert trained(tmp_path / "part", [0] * 2, [9, 5], schedule="constant").best_step == 2
    trainer = make(
        tmp_path / "part", epochs=0, steps=4, validate_every=1, keep=100, keep_best=100, schedule="constant"
    )
    objective, found = trainer.objective, iter([(0, 7), (0, 6)])
    objective.metric, objective.higher_is_better, objective.tie_breaker = "value", True, "tie"
    objective.validate = lambda model: dict(zip(("value", "tie"), next(found)))
    assert trainer.fit().best_step == whole.best_step == 2


def test_a_run_from_before_there_was_one_keeps_its_best(tmp_path):
    """Its records say nothing of it: a later equal value is no better, in training and in the ranking."""
    trained(tmp_path, [0, 0], [9, 5], tie_breaker=None, schedule="constant")
    for path in checkpoints.paths(tmp_path / "checkpoints"):
        record = json.loads((path / "state.json").read_text())
        del record["validation"]["tie_breaker"], record["progress"]["best_tie"]
        (path / "state.json").write_text(json.dumps(record))
        manifest = json.loads((path / "manifest.json").read_text())
        manifest["state.json"] = checkpoints.sha256(path / "state.json")
        (path / "manifest.json").write_text(json.dumps(manifest))
    trainer = make(
        tmp_path, epochs=0, steps=3, validate_every=1, keep=100, keep_best=100, schedule="constant"
    )
    trainer.objective.metric, trainer.objective.higher_is_better = "value", True
    trainer.objective.tie_breaker = "tie"
    trainer.objective.validate = lambda model: {"value": 0, "tie": 1}
    assert trainer.fit().best_step == 1 == checkpoints.best(tmp_path / "checkpoints").step


def test_rank():
    def found(value, tie=None, higher=True):
        return rank({"metric": "m", "value": value, "higher_is_better": higher, "tie_breaker": tie})

    assert found(2) < found(1) and found(1, higher=False) < found(2, higher=False)
    assert found(1, 3) < found(1, 4) and found(2, 9) < found(1, 3) and found(1) < found(1, 0)
