"""Averages of the weights: their formulas, what is measured with them, and the same bits when resumed."""

import json
import re

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from test_hostile_state import go_on
from test_resume import stop_after
from torch import nn

from seqsru.errors import Refused
from seqsru.training import CheckpointError, checkpoints
from seqsru.training.averaging import AVERAGING, Average, Exponential, TriggeredMean

RULES = {
    "exponential": Exponential(decay=0.9),
    "exponential, every 3": Exponential(decay=0.9, every=3),
    "nt_asgd": TriggeredMean(checks=0),
}


def observed(rule, *values, higher=False):
    """The numbers, from 1, of the validations after which a rule had begun."""
    begun = []
    for number, value in enumerate(values, 1):
        rule.observe({"metric": "m", "value": value, "higher_is_better": higher})
        begun += [number] if rule.begun else []
    return begun


def series(rule, made, shape=(3, 2)):
    """Averages after each of some updates of random weights; those that `made` says False of were skipped."""
    model = nn.Linear(*shape[::-1], bias=False).double()
    average, seen = Average(model, rule), []
    for number, was in enumerate(made, 1):
        with torch.no_grad():
            if was:
                model.weight.copy_(torch.randn(shape).double())
        average.update(number, torch.tensor(not was))
        seen.append((model.weight.detach().clone(), average.weights.get("weight", torch.zeros(0)).clone()))
    return seen


@pytest.mark.parametrize("every", [1, 3])
def test_the_exponential_mean_is_the_sum_of_its_shares(every):
    decay, count = 0.97, 400
    seen = series(Exponential(decay=decay, every=every), [True] * count)
    entered = [weights for weights, _ in seen][every - 1 :: every]
    shares = [max(1 - decay**every, 9 / (t + 8)) for t in range(1, len(entered) + 1)]
    expected = torch.zeros(3, 2).double()
    for number, weights in enumerate(entered):
        left = 1.0
        for share in shares[number + 1 :]:
            left *= 1 - share
        expected += shares[number] * left * weights
    torch.testing.assert_close(seen[-1][1], expected, rtol=1e-12, atol=1e-12)


def test_a_constant_is_its_own_mean_and_the_decay_looks_back_as_far_with_any_every():
    assert Exponential(decay=0.999, every=7).share(torch.tensor(1e9).double()) == 1 - 0.999**7
    for rule in RULES.values():
        assert rule.share(torch.ones(()).double()) == 1.0


def test_the_plain_mean():
    rule = TriggeredMean(checks=0)
    assert observed(rule, 3.0, 4.0) == [2]
    seen = series(rule, [True] * 50)
    torch.testing.assert_close(seen[-1][1], torch.stack([w for w, _ in seen]).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", RULES)
def test_updates_that_were_skipped_do_not_enter(name):
    made = [False, False, True, False, True, True, False, False, True, True, True, True]
    rule = RULES[name]
    if name == "nt_asgd" and not rule.begun:
        observed(rule, 1.0, 2.0)
    seen, before = series(rule, made), None
    for (_, mean), was in zip(seen, made):
        if not was and before is not None and before.numel():
            assert mean.equal(before)
        before = mean
    entered = [
        w for number, ((w, _), was) in enumerate(zip(seen, made), 1) if was and number % rule.every == 0
    ]
    mean = entered[0]
    for t, weights in enumerate(entered[1:], 2):
        share = float(rule.share(torch.tensor(float(t)).double()))
        mean = mean + share * (weights - mean)
    torch.testing.assert_close(seen[-1][1], mean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "checks, values, begun",
    [
        (0, [5.0, 4.0, 4.0, 4.5, 3.0], [4, 5]),
        (1, [5.0, 4.0, 4.5, 4.5], [4]),
        (2, [5.0, 4.0, 6.0, 4.5, 4.0, 3.9], []),
        (2, [5.0, 4.0, 6.0, 4.5, 4.1, 3.9], [5, 6]),
        (5, [9.0, 8.0, 7.0, 6.0, 5.0, 9.5, 9.6], [7]),
        (5, [9.0, 8.0, 7.0, 6.0, 5.0, 9.5], []),
    ],
)
def test_when_the_plain_mean_begins(checks, values, begun):
    rule = TriggeredMean(checks=checks)
    assert observed(rule, *values) == begun
    # algorithm 1 of the paper, with a list of all validations
    logs, expected = [], []
    for number, value in enumerate(values, 1):
        if expected or (len(logs) > checks and value > min(logs[: len(logs) - checks])):
            expected.append(number)
        logs.append(value)
    assert begun == expected
    again = TriggeredMean(checks=checks)
    for value in values:  # through a checkpoint each time
        fresh = TriggeredMean(checks=checks)
        fresh.load_record(json.loads(json.dumps(again.record())))
        again = fresh
        observed(again, value)
    assert again.record() == rule.record()
    assert observed(TriggeredMean(checks=checks), *[-v for v in values], higher=True) == begun


@pytest.mark.parametrize(
    "name, option, value, message",
    [
        ("exponential", "decay", 1.0, r"expected a probability from 0 to below 1, found 1\.0"),
        ("exponential", "every", 0, "expected at least 1, found 0; raise it$"),
        ("exponential", "every", 10**10, "expected at most 1,000,000,000, found 10000000000; lower it$"),
        ("nt_asgd", "checks", -1, "expected at least 0, found -1; raise it$"),
        ("nt_asgd", "checks", 10**10, "expected at most 1,000,000,000, found 10000000000; lower it$"),
        ("nt_asgd", "every", 0, "expected at least 1, found 0; raise it$"),
    ],
)
def test_impossible_options_are_refused(name, option, value, message):
    with pytest.raises(Refused, match=f"^{option}: {message}"):
        AVERAGING[name](**{option: value})


RUNS = {
    "exponential": ("exponential", {"decay": 0.9, "every": 2}, {"save_every": 4}),
    "nt_asgd": (
        "nt_asgd",
        {"checks": 1},
        # a rate that is too high: validation soon stops improving
        {"optimizer": "sgd", "lr": 8.0, "schedule": "constant", "validate_every": 3, "keep": 9},
    ),
    "accumulation, skipping": (
        "exponential",
        {"decay": 0.9},
        {"accumulate": 2, "on_nan": "skip", "validate_every": 4},
    ),
}


def made(folder, name, **more):
    rule, options, training = RUNS[name]
    return tiny.make(folder, averaging=AVERAGING[rule](**options), **{**training, **more})


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, name):
    made(tmp_path / "whole", name).fit()
    for batches in (1, 8, 17):
        assert stop_after(made(tmp_path / "stopped", name), batches).fit().reason == "interrupted"
    made(tmp_path / "stopped", name).fit()
    assert tiny.files(tmp_path / "stopped") == tiny.files(tmp_path / "whole")
    last = checkpoints.newest(tmp_path / "whole" / "checkpoints")
    assert last.record["averaged"] and checkpoints.weights_name(last) == f"average-to-step-{last.step}"
    if name == "nt_asgd":
        begun = re.findall(
            "step ([0-9]+): from here on the weights are averaged", (tmp_path / "whole/log").read_text()
        )
        assert len(begun) == 1 and last.training()["average.count"] == last.step - int(begun[0])
    raw = {n.removeprefix("weights."): t for n, t in last.training().items() if n.startswith("weights.")}
    assert {n for n in last.model() if not n.endswith("_extra_state")} == raw.keys()
    assert not any(t.equal(last.model()[n]) for n, t in raw.items())


def test_validation_and_checkpoints_have_the_average_and_training_goes_on_without_it(tmp_path):
    made(tmp_path / "with", "exponential").fit()
    tiny.make(tmp_path / "without").fit()
    found, plain = (checkpoints.newest(tmp_path / run / "checkpoints") for run in ("with", "without"))
    raw = found.training()
    assert all(tensor.equal(raw.get(f"weights.{name}", tensor)) for name, tensor in plain.model().items())
    trainer = tiny.make(tmp_path / "other")
    trainer.model.load_state_dict(found.model(), strict=False)
    trainer.model.eval()
    with torch.no_grad():
        measured = trainer.objective.validate(trainer.model)["perplexity"]
    assert measured == found.record["validation"]["value"] != plain.record["validation"]["value"]


def test_before_the_trigger_a_checkpoint_has_the_weights_themselves(tmp_path):
    trainer = made(tmp_path, "nt_asgd", epochs=0, steps=3)
    trainer.fit()
    (only,) = checkpoints.paths(tmp_path / "checkpoints")
    found = checkpoints.verified(only)
    assert not found.record["averaged"] and checkpoints.weights_name(found) == "step-3"
    assert not [name for name in found.training() if name.startswith(("weights", "average"))]
    assert all(found.model()[n].equal(t) for n, t in trainer.model.state_dict().items() if n in found.model())


def test_updates_that_are_not_finite_leave_no_trace_in_the_average(tmp_path):
    trainer = made(tmp_path, "accumulation, skipping", epochs=0, steps=4)
    loss, seen = trainer.objective.loss, []

    def broken(*arguments):
        seen.append(1)
        result = loss(*arguments)
        return result._replace(loss=result.loss * float("nan")) if len(seen) in (1, 5, 6) else result

    trainer.objective.loss = broken
    trainer.fit()
    assert trainer.standing.progress.skipped == 2
    found = checkpoints.newest(tmp_path / "checkpoints")
    assert found.training()["average.count"] == 2
    assert all(t.isfinite().all() for t in found.model().values())


def test_weights_that_are_not_trained_are_not_held_twice():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    average = Average(model, Exponential())
    average.update(1, torch.tensor(False))
    assert set(average.weights) == {"0.bias", "1.weight", "1.bias"}


def test_the_model_has_its_own_weights_again_whatever_happens():
    model = nn.Linear(2, 3)
    average, before = Average(model, Exponential(decay=0.5)), model.weight.detach().clone()
    average.update(1, torch.tensor(False))
    with torch.no_grad():
        model.weight.add_(1.0)
    places = [p.data_ptr() for p in model.parameters()]
    with pytest.raises(KeyboardInterrupt):
        with average.applied():
            assert model.weight.equal(before)
            raise KeyboardInterrupt
    assert model.weight.equal(before + 1.0)
    assert [p.data_ptr() for p in model.parameters()] == places


# ---- checkpoints whose sums are right and whose content is not ---------------------------------------


def edited(path, change, rule):
    tensors = load_file(path / "training.safetensors")
    change(tensors)
    save_file(tensors, path / "training.safetensors")
    go_on(path, averaging=rule)


@pytest.mark.parametrize("count", [-1.0, float("nan"), float("inf")])
def test_a_count_that_is_none(tmp_path, count):
    tiny.make(tmp_path, steps=3, epochs=0, schedule="constant", keep=1, averaging=Exponential()).fit()
    (path,) = (tmp_path / "checkpoints").iterdir()
    with pytest.raises(
        CheckpointError, match=f"^expected a count of averaged weights in .*, found {count}; the ch"
    ):
        edited(path, lambda t: t.update({"average.count": torch.tensor(count).double()}), Exponential())


@pytest.mark.parametrize(
    "change, told",
    [
        (
            lambda t: t.pop("average.count"),
            "expected the weights and the count of their average in {}, found no average.count; ",
        ),
        (
            lambda t: t.update({"weights.more": torch.zeros(1)}),
            "expected the weights and the count of their average in {}, found weights.more; ",
        ),
        (
            lambda t: t.update({"average.count": torch.zeros(())}),
            "expected average.count of shape (), float64 in {}, found (), float32; ",
        ),
        (
            lambda t: t.update({"weights.output.bias": torch.zeros(3)}),
            "expected weights.output.bias of shape (10,), float32 in {}, found (3,), float32; ",
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, told):
    tiny.make(tmp_path, steps=3, epochs=0, schedule="constant", keep=1, averaging=Exponential()).fit()
    (path,) = (tmp_path / "checkpoints").iterdir()
    with pytest.raises(CheckpointError) as refused:
        edited(path, change, Exponential())
    other = "the configuration and the checkpoint do not belong together: use the run's own"
    assert str(refused.value) == told.format(path / "training.safetensors") + other


def test_an_average_that_nobody_asked_for(tmp_path):
    tiny.make(tmp_path, steps=3, epochs=0, schedule="constant", keep=1, averaging=Exponential()).fit()
    (path,) = (tmp_path / "checkpoints").iterdir()
    with pytest.raises(
        CheckpointError, match=r"^expected no average of the weights in .*, found one; the conf"
    ):
        edited(path, lambda t: None, None)


def test_notes_of_validations_that_are_missing(tmp_path):
    tiny.make(tmp_path, steps=3, epochs=0, schedule="constant", keep=1).fit()
    (path,) = (tmp_path / "checkpoints").iterdir()
    with pytest.raises(
        CheckpointError, match=r"^expected the averaging's 'begun' in .*state\.json, found none; "
    ):
        go_on(path, averaging=TriggeredMean())
