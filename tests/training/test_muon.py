"""Muon and the decay of vectors: torch's own steps, whose parameters, and the same bits when resumed."""

import re

import pytest
import tiny
import torch
from test_resume import stop_after
from tiny_runs import (
    CLASSIFICATION,
    LANGUAGE_MODEL,
    QUESTIONS,
    RECOGNITION,
    TRANSLATION,
    settings,
    write_texts,
)
from torch import nn

from seqsru.cells.sru import SRUCell
from seqsru.errors import Refused
from seqsru.tasks.making import prepare
from seqsru.training import CheckpointError, optimizers
from seqsru.training.optimizers import OPTIMIZERS, orthogonal, step


def model():
    torch.manual_seed(2)
    parts = {
        "embedding": nn.Embedding(11, 8),
        "wide": nn.Linear(8, 12),
        "tall": nn.Linear(12, 5),
        "output": nn.Linear(5, 11),
    }
    return nn.ModuleDict(parts)


def give_gradients(module, seed):
    torch.manual_seed(seed)
    for p in module.parameters():
        p.grad = torch.randn(p.shape)


def test_the_steps_are_those_of_torch():
    ours, theirs = model(), model()
    options = {"momentum": 0.9, "weight_decay": 0.2, "beta1": 0.8, "beta2": 0.9, "eps": 1e-6}
    optimizer = OPTIMIZERS["muon"](ours.named_parameters(), 0.02, **options)
    between = [theirs["wide"].weight, theirs["tall"].weight]
    vectors = [p for p in theirs.parameters() if p.dim() == 1]
    others = [theirs["embedding"].weight, theirs["output"].weight]
    adamw = {"lr": 0.02, "betas": (0.8, 0.9), "eps": 1e-6, "fused": True}
    parts = [
        torch.optim.Muon(between, lr=0.02, momentum=0.9, weight_decay=0.2, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.2, **adamw),
        torch.optim.AdamW(vectors, weight_decay=0.0, **adamw),
    ]
    for number in range(4):
        for module in (ours, theirs):
            give_gradients(module, number)
        step(optimizer, torch.tensor(False))
        for part in parts:
            part.step()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert a.equal(b)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (7, 7)])
def test_the_singular_values_of_a_direction_are_near_one(shape):
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)).double())
    assert values.min() > 0.5 and values.max() < 1.4


def test_a_step_that_is_none_changes_nothing():
    module = model()
    optimizer = OPTIMIZERS["muon"](module.named_parameters(), 0.02)
    give_gradients(module, 1)
    step(optimizer, torch.tensor(False))
    before = [p.detach().clone() for p in module.parameters()]
    kept = [{name: t.clone() for name, t in optimizer.state[p].items()} for p in module.parameters()]
    for p in module.parameters():
        p.grad.fill_(float("nan"))
    step(optimizer, torch.tensor(True))
    for p, was, state in zip(module.parameters(), before, kept, strict=True):
        assert p.equal(was) and all(t.equal(optimizer.state[p][name]) for name, t in state.items())
    give_gradients(module, 2)
    step(optimizer, torch.tensor(False))
    assert all(p.isfinite().all() and not p.equal(was) for p, was in zip(module.parameters(), before))


BETWEEN = {
    "lm": (LANGUAGE_MODEL, {"embedding.weight"}),
    "mt": (TRANSLATION, {"source_embedding.weight", "target_embedding.weight", "output_weight"}),
    "class": (CLASSIFICATION, {"embedding.weight", "output.weight"}),
    "qa": (QUESTIONS, {"embedding.weight"}),
    "speech": (RECOGNITION, {"output.weight"}),
}


@pytest.mark.parametrize("task", BETWEEN)
def test_which_matrices_lie_between_embedding_and_output(tmp_path, task):
    write_texts(tmp_path)
    text, apart = BETWEEN[task]
    trainer = prepare(settings(tmp_path, text, "optimizer={name: muon, lr: 0.01}"), lambda line: None)
    names = {p: name for name, p in trainer.model.named_parameters()}
    groups = trainer.optimizer.param_groups
    assert sorted(names[p] for group in groups for p in group["params"]) == sorted(names.values())
    between = {names[p] for group in groups if group["orthogonal"] for p in group["params"]}
    shrink = {names[p] for group in groups if group["weight_decay"] for p in group["params"]}
    rows = {name for name in names.values() if re.search(r"layers.*\.(v|bias)$", name)}
    two_axes = {name for p, name in names.items() if p.dim() == 2}
    rows &= two_axes
    matrices = two_axes - rows
    assert between == matrices - apart and shrink == matrices and len(between) > 1 and rows
    assert rows == {names[p] for group in groups if group["rows"] for p in group["params"]}


RUNS = {
    "muon": {"optimizer": "muon", "lr": 0.02},
    "matrices alone": {
        "optimizer": "adamw",
        "optimizer_options": {"weight_decay": 0.3, "decay_vectors": False},
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, name):
    tiny.make(tmp_path / "whole", **RUNS[name]).fit()
    for batches in (1, 8, 17):
        assert (
            stop_after(tiny.make(tmp_path / "stopped", **RUNS[name]), batches).fit().reason == "interrupted"
        )
    tiny.make(tmp_path / "stopped", **RUNS[name]).fit()
    assert tiny.files(tmp_path / "stopped") == tiny.files(tmp_path / "whole")


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    stop_after(tiny.make(tmp_path, schedule="constant"), 3).fit()
    told = r"^expected momentum_buffer of parameter 0 in .*, found exp_avg, exp_avg_sq, step; the conf"
    with pytest.raises(CheckpointError, match=told):
        tiny.make(tmp_path, optimizer="muon", schedule="constant").fit()


def test_vectors_do_not_shrink_where_they_are_not_to():
    one = nn.Linear(3, 2)
    before = [p.detach().clone() for p in one.parameters()]
    optimizer = OPTIMIZERS["adamw"](one.named_parameters(), 0.1, weight_decay=0.5, decay_vectors=False)
    for p in one.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    torch.testing.assert_close(one.weight, before[0] * 0.95)
    assert one.bias.equal(before[1])


def test_nor_do_the_vectors_of_a_cell_though_they_are_rows_of_one_parameter():
    cell = SRUCell(6, 6)
    before = {name: p.detach().clone() for name, p in cell.named_parameters()}
    for name in ("adamw", "muon"):
        options = {"decay_vectors": False} if name == "adamw" else {}
        optimizer = OPTIMIZERS[name](cell.named_parameters(), 0.1, weight_decay=0.5, **options)
        for p in cell.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    torch.testing.assert_close(cell.weight, before["weight"] * 0.95**2)
    assert cell.bias.equal(before["bias"]) and cell.v.equal(before["v"])


def test_a_run_of_a_version_that_took_such_rows_for_a_matrix_goes_on(tmp_path, monkeypatch):
    def kept(trainer):
        names = {p: name for name, p in trainer.model.named_parameters()}
        return {names[p]: sorted(state) for p, state in trainer.optimizer.state.items()}

    monkeypatch.setattr(optimizers, "ROWS", ())
    earlier = stop_after(tiny.make(tmp_path, **RUNS["muon"]), 8)
    earlier.fit()
    assert kept(earlier)["stack.layers.0.0.bias"] == ["momentum_buffer"]
    monkeypatch.undo()
    later = tiny.make(tmp_path, **RUNS["muon"])
    assert later.fit().reason != "interrupted"
    assert kept(later)["stack.layers.0.0.bias"] == ["exp_avg", "exp_avg_sq", "step"]
    assert kept(later).keys() == kept(earlier).keys()


@pytest.mark.parametrize(
    "option, value, message",
    [
        ("lr", -1.0, r"expected from 0 to 1,000, found -1\.0; give a number in this range$"),
        ("momentum", 1.0, r"expected a probability from 0 to below 1, found 1\.0"),
        ("weight_decay", 1000.0, r"expected from 0 to 100, found 1000\.0"),
        ("beta2", 1.0, r"expected a probability from 0 to below 1, found 1\.0"),
        ("eps", 0.0, r"expected from 1e-45 to 1, found 0\.0"),
    ],
)
def test_impossible_options_are_refused(option, value, message):
    with pytest.raises(Refused, match=f"^{option}: {message}"):
        OPTIMIZERS["muon"](model().named_parameters(), **{option: value})


def test_a_parameter_without_a_name_is_refused():
    weight = torch.nn.Parameter(torch.ones(2, 3))
    told = (
        "parameters: expected each parameter with its name, which says what it is of, found 1 without; "
        "pass model.named_parameters()"
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}$"):
        OPTIMIZERS["muon"]([weight, ("layers.weight", torch.nn.Parameter(torch.ones(2, 3)))])
