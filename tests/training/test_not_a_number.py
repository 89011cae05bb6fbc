"""Numbers that are not finite: what is not made, what is told, what is kept out, and how a run goes on."""

import json
import math

import pytest
import test_trainer as loop
import tiny
import torch
from tiny_runs import CLASSIFICATION, LANGUAGE_MODEL, TRANSLATION, settings, write_texts

from seqsru import runs
from seqsru.commands.main import main
from seqsru.training import OPTIMIZERS, BatchLoss, TrainingDiverged
from seqsru.training.finite import stopped
from seqsru.training.optimizers import step
from seqsru.training.pending import Made, Pending

INF, NAN = float("inf"), float("nan")
TASKS = {"lm": LANGUAGE_MODEL, "mt": TRANSLATION, "class": CLASSIFICATION}


class LookedAt(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the operations that wait for a device to hand a number to the host."""

    def __init__(self):
        super().__init__()
        self.looks = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        waits = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select")
        self.looks += function.__name__.split(".")[0] in waits
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("on_nan", ["stop", "skip"])
@pytest.mark.parametrize("accumulate, clip", [(1, 0.0), (3, 1.0)])
def test_updates_between_two_looks_wait_for_nothing(tmp_path, optimizer, on_nan, accumulate, clip):
    options = {"momentum": 0.9, "shrink": 1e-4} if optimizer == "sgd" else {}
    trainer = tiny.make(
        tmp_path,
        optimizer=optimizer,
        optimizer_options=options,
        on_nan=on_nan,
        accumulate=accumulate,
        clip=clip,
    )
    trainer.updates.seed = 1
    batches = list(trainer.objective.batches(1, 0))
    carried = None
    with LookedAt() as looked:
        for number in range(4):
            group = batches[number * accumulate : (number + 1) * accumulate]
            carried = trainer.updates.make(group, (number + 1, 1, number * accumulate), carried, 0.01)
    assert looked.looks == 0
    with LookedAt() as looked:
        seen = trainer.updates.pending.look()
    assert [one.made.step for one in seen] == [1, 2, 3, 4] and all(one.finite for one in seen)


def test_the_count_of_looks_sees_one():
    with LookedAt() as looked:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert looked.looks == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_that_is_none_changes_neither_weights_nor_optimizer(name, dtype):
    options = {"momentum": 0.9, "shrink": 0.1} if name == "sgd" else {}
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=dtype))
    optimizer = OPTIMIZERS[name]([("w", weight)], 0.1, weight_decay=0.1, **options)
    for _ in range(2):
        weight.grad = torch.tensor([0.5, 0.1], dtype=dtype)
        step(optimizer, torch.tensor(False))
    state = {n: t.clone() for n, t in optimizer.state[weight].items() if t is not None}
    before = weight.detach().clone()
    weight.grad = torch.tensor([NAN, 1.0], dtype=dtype)
    step(optimizer, torch.tensor(True))
    assert torch.equal(weight.detach(), before)
    for n, t in state.items():
        assert torch.equal(optimizer.state[weight][n], t), n
    weight.grad = torch.tensor([0.5, 0.1], dtype=dtype)
    step(optimizer, torch.tensor(False))
    assert not torch.equal(weight.detach(), before)


def _walked(name, dtype, gradients):
    """Weights after steps with each of the gradients; one that is not finite makes none."""
    options = {"momentum": 0.9, "shrink": 0.1} if name == "sgd" else {}
    weight = torch.nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 0.5]], dtype=dtype))
    optimizer = OPTIMIZERS[name]([("w", weight)], 0.1, weight_decay=0.1, **options)
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=dtype).expand(2, 2).clone()
        step(optimizer, ~torch.isfinite(weight.grad).all())
    return weight.detach()


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [1, 3])
def test_first_steps_that_are_none_leave_no_trace(name, dtype, bad, monkeypatch):
    """Nor of what the memory held before."""
    monkeypatch.setattr(torch, "empty_like", lambda t, **options: torch.full_like(t, NAN, **options))
    good = [[0.5, 0.1], [0.2, -0.3], [-1.0, 0.4]]
    assert torch.equal(_walked(name, dtype, [[NAN, 1.0]] * bad + good), _walked(name, dtype, good))


def test_with_and_without_the_number_that_says_so_a_step_gives_the_same_bits():
    for name in OPTIMIZERS:
        found = []
        for told in (True, False):
            weight = torch.nn.Parameter(torch.linspace(-1, 1, 37))
            options = {"momentum": 0.9, "shrink": 1e-5} if name == "sgd" else {}
            optimizer = OPTIMIZERS[name]([("w", weight)], 0.01, weight_decay=0.1, **options)
            for k in range(5):
                weight.grad = torch.linspace(-2, 1, 37) * (k - 2.1)
                step(optimizer, torch.tensor(False)) if told else optimizer.step()
            found.append(weight.detach())
        assert torch.equal(*found), name


def test_it_stops_at_the_next_look_with_the_weights_of_before(tmp_path):
    trainer = loop.make(tmp_path, [[1], [INF], [1], [2]], epochs=1, log_every=100)
    with pytest.raises(TrainingDiverged) as caught:
        trainer.fit()
    assert str(caught.value) == (
        "expected a finite gradient at step 2, found norm inf; lower optimizer.lr or training.clip, or set "
        "training.on_nan to skip, and go on from the last checkpoint"
    )
    assert trainer.model.w.item() == 9.0  # as after step 1, whatever came between it and the look
    assert "step 2: gradient norm inf (training stops), batch 2 of epoch 1" in (tmp_path / "log").read_text()


class WrongLoss(loop.Sum):
    """A loss that is not a number, beside a gradient that is fine."""

    def loss(self, model, batch, carried):
        found = super().loss(model, batch, carried)
        return found._replace(nll=found.nll * NAN) if batch == [7] else found


def test_a_loss_that_is_not_a_number_stops_too(tmp_path):
    trainer = loop.make(tmp_path, None, objective=WrongLoss([[1], [7], [1]]), epochs=1)
    with pytest.raises(
        TrainingDiverged, match="^expected a finite loss at step 2, found nan; lower optimizer"
    ):
        trainer.fit()
    assert trainer.model.w.item() == 9.0


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("log_every", [1, 2, 100])
def test_skipped_updates_are_as_if_they_were_not_there(tmp_path, accumulate, log_every):
    wrong, right = [[1], [2], [INF], [3], [7], [4]], [[1], [2], [3], [4]]
    if accumulate == 2:
        wrong, right = [[1], [2], [NAN], [9], [3], [4], [7], [1]], [[1], [2], [3], [4]]
    options = {"epochs": 2, "accumulate": accumulate, "log_every": log_every}
    skipping = loop.make(tmp_path / "a", None, objective=WrongLoss(wrong), on_nan="skip", **options)
    skipping.fit()
    assert skipping.model.w.item() == pytest.approx(loop.trained(tmp_path / "b", right, **options))
    assert skipping.standing.progress.skipped == 4
    lines = (tmp_path / "a" / "log").read_text().splitlines()
    assert len([line for line in lines if "(skipped, " in line]) == 4
    if log_every == 1 and accumulate == 1:
        train = loop.records(tmp_path / "a", "train")
        assert [one.get("skipped") for one in train[:6]] == [None, None, 1, 1, 2, 2]
        assert [one["loss"] for one in train[2:4]] == [None, pytest.approx(3 * (10 - 1 - 2))]


def test_what_is_carried_is_that_of_the_last_update_that_was_one(tmp_path):
    trainer = tiny.make(tmp_path, on_nan="skip", epochs=1)
    loss, seen = trainer.objective.loss, []

    def spoiled(model, batch, carried):
        seen.append(None if carried is None else tuple(t.clone() for t in carried))
        found = loss(model, batch, carried)
        if len(seen) in (1, 3):
            wrong = tuple(t * NAN for t in found.carried)
            return BatchLoss(found.loss * NAN, found.nll, found.tokens, found.rows, wrong)
        return found

    trainer.objective.loss = spoiled
    trainer.fit()
    assert all(not t.any() for t in seen[1])  # the first was none: as at the start of an epoch
    assert all(torch.equal(a, b) for a, b in zip(seen[3], seen[2]))
    assert all(t.isfinite().all() for state in seen[1:] for t in state)
    assert trainer.standing.progress.skipped == 2


@pytest.mark.parametrize("rate, step", [(1e39, 1), (1e38, 1)])
def test_weights_that_are_not_finite_reach_no_checkpoint(tmp_path, rate, step):
    trainer = tiny.make(tmp_path, optimizer="sgd", schedule="constant", clip=0.0, save_every=1)
    trainer.schedule.rate = lambda at: rate  # which no setting can be
    with pytest.raises(TrainingDiverged):
        trainer.fit()
    for path in (tmp_path / "checkpoints").glob("*/model.safetensors"):
        from safetensors.torch import load_file

        assert all(t.isfinite().all() for t in load_file(path).values())


def test_the_sentence_about_weights(tmp_path):
    trainer = tiny.make(tmp_path, optimizer="sgd", schedule="constant", save_every=1)
    trainer.schedule.rate = lambda at: 1e300  # finite, but not in float32
    with pytest.raises(
        TrainingDiverged, match=r"^expected finite weights after step 1, found nan or infinity"
    ) as e:
        trainer.fit()
    assert str(e.value).endswith(
        "; lower optimizer.lr, and go on from the last checkpoint; nothing was saved"
    )


@pytest.mark.parametrize("rate", [INF, NAN, -INF])
def test_a_rate_that_is_not_finite_makes_no_update(tmp_path, rate):
    trainer = loop.make(tmp_path, [[1], [1]], epochs=1, save_every=1)
    trainer.schedule.rate = lambda at: rate if at.step == 2 else 1.0
    with pytest.raises(TrainingDiverged) as caught:
        trainer.fit()
    assert str(caught.value) == (
        f"expected a finite learning rate at step 2, found {rate}; lower optimizer.lr, and go on from the "
        "last checkpoint"
    )
    assert trainer.model.w.item() == 9.0


def spoil(monkeypatch, task, at_batch):
    """Let the loss of one batch be NaN, as a bad line would, once the run has begun."""
    kind = {"lm": "language_modelling.LanguageModelObjective", "mt": "translation.TranslationObjective"}
    name = kind.get(task, "classification.ClassificationObjective")
    module, attribute = name.split(".")
    objective = getattr(__import__(f"seqsru.tasks.{module}", fromlist=[attribute]), attribute)
    loss, calls = objective.loss, []

    def spoiled(self, model, batch, carried):
        calls.append(batch)
        found = loss(self, model, batch, carried)
        return found._replace(loss=found.loss * NAN, nll=found.nll * NAN) if len(calls) == at_batch else found

    monkeypatch.setattr(objective, "loss", spoiled)
    return calls


@pytest.mark.parametrize("task", TASKS)
def test_the_sentence_and_the_run_name_files_and_lines(tmp_path, monkeypatch, task):
    write_texts(tmp_path)
    made = settings(tmp_path, TASKS[task], "training.on_nan=stop", "training.log_every=1")
    trainer = runs.prepare(made, print)
    places = trainer.objective.places(1, 1)
    (name,) = places
    batch = list(trainer.objective.batches(1, 0))[1]
    lines = tmp_path / ("train.txt" if task == "lm" else "train.labelled" if task == "class" else "train.src")
    texts = lines.read_text().splitlines()
    found = [texts[number - 1] for number in places[name]]
    if task == "lm":
        words = {word for text in found for word in text.split()}
        assert len(found) < 60 and words <= set("one two three four five six seven".split())
        counted = sum(len(text.split()) + 1 for text in found)
        assert counted >= batch.count  # whole lines around the window's tokens
    else:
        tokens = batch.source if task == "mt" else batch.tokens
        assert len(found) == tokens.shape[1]
    spoil(monkeypatch, task, 2)
    with pytest.raises(
        TrainingDiverged, match=r"^expected a finite gradient at step 2, found norm nan in lines? \d"
    ) as e:
        runs.train(made, print)
    assert name in str(e.value)
    log = (tmp_path / "run" / "log").read_text()
    whole = log.split("of epoch 1: ")[1].splitlines()[0]
    shown = whole.split(" of ")[0].split(" ", 1)[1].split(", ")
    numbers = [n for part in shown for n in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)]
    assert numbers == sorted(places[name])


def test_a_run_that_stopped_goes_on_with_a_lower_rate_and_no_other_does(tmp_path, monkeypatch, capsys):
    write_texts(tmp_path)
    made = settings(tmp_path, LANGUAGE_MODEL, "training.save_every=2")
    path, run = str(tmp_path / "run.yaml"), tmp_path / "run"
    with monkeypatch.context() as once:
        spoil(once, "lm", 4)
        assert main(["train", path, "training.save_every=2"]) == 2
    assert "found norm nan in lines" in capsys.readouterr().err
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["kind"] == "stopped"
    assert main(["train", path, "optimizer.lr=1e-3", "model.embedding_size=16"]) == 2
    refused = capsys.readouterr().err
    assert "model.embedding_size" in refused and "optimizer.lr" not in refused
    assert main(["train", path, "optimizer.lr=1e-3", "training.clip=0.5", "training.on_nan=skip"]) == 0
    assert "optimizer.lr 0.001 instead of 0.01" in (run / "log").read_text()
    assert "stopped" not in {
        json.loads(line)["kind"] for line in (run / "metrics.jsonl").read_text().splitlines()
    }
    capsys.readouterr()
    assert main(["train", str(run), "optimizer.lr=1e-4"]) == 2
    assert "found optimizer.lr 0.0001 instead of 0.001" in capsys.readouterr().err
    assert made["optimizer"]["lr"] == 0.01


def test_a_look_gives_sums_as_they_were_added_up(tmp_path):
    pending = Pending()
    assert pending.look() == [] and not pending.full
    values = [0.1, 0.2, 0.3]
    nlls = tuple(torch.tensor(v) for v in values)
    pending.add(Made(1, 1, (0, 1, 2), 9, nlls, None, torch.tensor(2.0, dtype=torch.float64)))
    pending.add(Made(2, 1, (), 4, (), torch.tensor(NAN, dtype=torch.float64), torch.tensor(1.0)))
    first, second = pending.look()
    by_hand = 0.0
    for nll in nlls:
        by_hand += nll.item()
    assert (first.nll, first.norm, first.finite) == (by_hand, 2.0, True)
    assert math.isnan(second.nll) and not second.finite and second.wrong == ()
    assert pending.look() == []


@pytest.mark.parametrize("line", [b"[" * 100_000, b"{", b"1", b"", b"\xff", b'{"kind": 1}'])
def test_a_damaged_last_line_says_of_no_stop(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"kind": "train", "step": 1}\n' + line + b"\n")
    assert not stopped(path)
