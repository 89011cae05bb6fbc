"""What a checkpoint holds, which one is chosen, and what is refused."""

import json

import pytest
import torch
from torch import nn

from seqsru.training import CheckpointError, checkpoints, weights


class Shared(nn.Module):
    """Two names for one weight, two for one module, and a state of its own."""

    def __init__(self, factor=1.0):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.norms = nn.ModuleList([nn.LayerNorm(3)] * 2)
        self.register_buffer("scale", torch.full((1,), factor))


def write(folder, step, tensors=None, value=None, higher=False):
    validation = None if value is None else {"metric": "m", "value": value, "higher_is_better": higher}
    tensors = tensors or {"w": torch.full((2,), float(step))}
    record = {"validation": validation, "fingerprints": {}}
    return checkpoints.save(folder, step, tensors, {"t": torch.zeros(1)}, record)


def test_shared_tensors_are_stored_once_and_come_back_shared(tmp_path):
    model, other = Shared(2.0), Shared()
    tensors = weights.model_tensors(model)
    assert sorted(tensors) == ["first.weight", "norms.0.bias", "norms.0.weight", "scale", "second.bias"]
    checkpoints.save(tmp_path, 1, tensors, {}, {})
    weights.load_model(other, checkpoints.verified(tmp_path / "step-00000001").model(), "here")
    assert other.second.weight is other.first.weight and torch.equal(other.first.weight, model.first.weight)
    assert other.scale.item() == 2.0


def test_weights_that_do_not_fit_are_refused():
    tensors = weights.model_tensors(Shared())
    with pytest.raises(
        CheckpointError, match="in here and in the model, found no scale in the checkpoint; .* not belong"
    ):
        weights.load_model(Shared(), {k: v for k, v in tensors.items() if k != "scale"}, "here")
    with pytest.raises(CheckpointError, match="in here and .*, found no extra in the model"):
        weights.load_model(Shared(), {**tensors, "extra": torch.zeros(1)}, "here")
    with pytest.raises(CheckpointError, match=r"expected scale of shape \(1,\) in here, found \(2,\)"):
        weights.load_model(Shared(), {**tensors, "scale": torch.zeros(2)}, "here")


def test_the_manifest_holds_the_sum_of_every_file(tmp_path):
    path = write(tmp_path, 3)
    listed = set(json.loads((path / "manifest.json").read_text()))
    assert listed == {p.name for p in path.iterdir()} - {"manifest.json"}


def test_choosing(tmp_path):
    for step, value in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 1.0), (5, None)):
        write(tmp_path, step, value=value)
    assert [checkpoints.select(tmp_path, which).step for which in ("best", "last", "3")] == [2, 5, 3]
    assert [p.name[-1] for p in checkpoints.ranking(tmp_path)] == ["2", "4", "3", "1"]


def test_the_best_may_be_the_highest(tmp_path):
    for step, value in ((1, 3.0), (2, 1.0)):
        write(tmp_path, step, value=value, higher=True)
    assert checkpoints.select(tmp_path, "best").step == 1


def test_where_nothing_was_validated_the_best_is_the_newest(tmp_path):
    write(tmp_path, 1), write(tmp_path, 2)
    assert checkpoints.select(tmp_path, "best").step == 2


def test_a_damaged_best_gives_way_to_the_next(tmp_path):
    for step, value in ((1, 2.0), (2, 1.0), (3, 3.0)):
        write(tmp_path, step, value=value)
    (tmp_path / "step-00000002" / "model.safetensors").write_bytes(b"")
    with pytest.warns(RuntimeWarning, match="step-00000002.*using another checkpoint"):
        assert checkpoints.select(tmp_path, "best").step == 1


@pytest.mark.parametrize(
    "which, message",
    [
        ("best", "checkpoint: expected a good checkpoint in .*, found none; train first"),
        ("last", "checkpoint: expected a good checkpoint in .*, found none; train first"),
        ("17", "expected a checkpoint folder at .*step-00000017, found none"),
        ("first", "checkpoint: expected best, last or a step number, found 'first'"),
    ],
)
def test_a_checkpoint_that_is_not_there(tmp_path, which, message):
    with pytest.raises(CheckpointError, match=message):
        checkpoints.select(tmp_path, which)


def test_averaging_is_the_mean_in_float32(tmp_path):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(4, 5, generator=generator) for _ in range(3)]
    low = [w.to(torch.bfloat16) for w in drawn]
    for step, (value, a, b) in enumerate(zip((3.0, 1.0, 2.0), drawn, low), 1):
        write(tmp_path, step, {"a": a, "b": b}, value)
    last = weights.select_average(tmp_path, "last", 3)
    torch.testing.assert_close(last["a"], torch.stack(drawn).mean(0), rtol=1e-6, atol=1e-7)
    assert torch.equal(last["b"], (sum(w.float() for w in low) / 3).to(torch.bfloat16))
    best = weights.select_average(tmp_path, "best", 2)
    torch.testing.assert_close(best["a"], (drawn[1] + drawn[2]) / 2, rtol=1e-6, atol=1e-7)
    assert torch.equal(weights.select_average(tmp_path, "last", 1)["a"], drawn[2])


def test_averages_that_cannot_be_had(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(
        CheckpointError, match=r"^average: expected 2 .* average \(the last ones\) in .*, found 1; .* keep$"
    ):
        weights.select_average(tmp_path, "last", 2)
    with pytest.raises(CheckpointError, match=r"\(the best ones\) in .*, found 0; .* larger keep_best"):
        weights.select_average(tmp_path, "best", 1)
    with pytest.raises(CheckpointError, match="^checkpoint: expected last or best to average, found 'all'"):
        weights.select_average(tmp_path, "all", 1)
    write(tmp_path, 2, {"w": torch.zeros(3)})
    with pytest.raises(CheckpointError, match="expected the tensors of the other checkpoints to average"):
        weights.select_average(tmp_path, "last", 2)
    with pytest.raises(CheckpointError, match="at least one checkpoint to average, found none"):
        weights.average([])
    with pytest.raises(ValueError, match="^average: expected at least 1, found 0"):
        weights.select_average(tmp_path, "last", 0)


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 1, {"w": torch.tensor([7.0])})
    assert checkpoints.verified(tmp_path / "step-00000001").model()["w"].item() == 7.0
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_what_a_killed_process_leaves_is_tidied(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    for step, left in ((1, "replaced"), (2, "partial"), (3, "gone")):
        # Killed between the two renames of a replacement, while writing, and while deleting.
        (tmp_path / f"step-0000000{step}").rename(tmp_path / f".{left}-step-0000000{step}")
    checkpoints.tidy(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000001", "step-00000004"]


def test_order_is_by_number_beyond_eight_digits(tmp_path):
    for step in (100_000_000, 99_999_999):
        write(tmp_path, step)
    assert checkpoints.select(tmp_path, "last").step == 100_000_000
