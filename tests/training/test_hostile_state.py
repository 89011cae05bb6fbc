"""Checkpoints whose sums are right and whose content is not: each is refused in a sentence."""

import errno
import hashlib
import json
import re

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file

from seqsru.errors import NoRoom
from seqsru.training import CheckpointError, checkpoints

OTHER = "the configuration and the checkpoint do not belong together: use the run's own"
ADVICE = "the checkpoint is damaged: delete it or restore it from a copy"


@pytest.fixture
def path(tmp_path):
    """The only checkpoint of a run in the middle of an epoch."""
    tiny.make(tmp_path, steps=3, epochs=0, schedule="constant", keep=1).fit()
    (only,) = (tmp_path / "checkpoints").iterdir()
    return only


def go_on(path, **options):
    """Go on with the run of a checkpoint, its sums made right."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name in manifest:
        manifest[name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    tiny.make(path.parent.parent, steps=4, epochs=0, schedule="constant", keep=1, **options).fit()


CARRIED, KEPT = "expected a carried state of 2 tensors in {}, found ", "exp_avg, exp_avg_sq"


@pytest.mark.parametrize(
    "name, made, told",
    [
        (
            "carried.0",
            lambda t: t[:2],
            "expected carried.0 of shape (4, 16), float32 in {}, found (2, 16), float32; ",
        ),
        ("carried.1", None, f"{CARRIED}those of [0]; "),
        ("carried.7", lambda t: torch.zeros(1), f"{CARRIED}those of [0, 1, 7]; "),
        (
            "optimizer.0.exp_avg",
            lambda t: t[:1],
            "expected optimizer.0.exp_avg of shape (10, 12), float32 in {}",
        ),
        (
            "optimizer.0.step",
            lambda t: t.long(),
            "expected optimizer.0.step of shape (), float32 in {}, found ()",
        ),
        ("optimizer.0.step", None, f"expected {KEPT}, step of parameter 0 in {{}}, found {KEPT}; "),
        (
            "optimizer.99.step",
            lambda t: torch.zeros(()),
            "expected the optimizer's state of 9 parameters in {}, f",
        ),
        (
            "other",
            lambda t: torch.zeros(()),
            "expected optimizer, carried state and generators in {}, found other",
        ),
        ("generator.cpu", None, "expected the state of the generators in {}, found 'cpu'; "),
        (
            "generator.cpu",
            lambda t: t[:9],
            "expected the state of the generators in {}, found Expected a CPUGene",
        ),
    ],
)
def test_tensors_that_do_not_fit(path, name, made, told):
    file = path / "training.safetensors"
    tensors = {key: t.clone() for key, t in load_file(file).items()}
    if made is None:
        del tensors[name]
    else:
        tensors[name] = made(tensors.get(name))
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match="^" + re.escape(told.format(file))) as caught:
        go_on(path)
    assert str(caught.value).endswith((OTHER, ADVICE))


@pytest.mark.parametrize(
    "change, told",
    [
        ({"progress": {"step": -1}}, "progress.step -1, which is not a counter"),
        ({"progress": {"steps": 1}}, "progress.steps, which is not known"),
        ({"progress": [1]}, "progress [1], which is not an object"),
        ({"schedule": {"level": "x"}}, "schedule.level 'x', which is not a number"),
        ({"validation": {"metric": "m", "value": True, "higher_is_better": False}},
         "validation.value True, which is not a number"),
        ({"fingerprints": {"tokenizer": None}}, "fingerprints.tokenizer None, which is not text"),
        ({"machine": 7}, "machine 7, which is not an object"),
        ({"total_steps": 1.5}, "total_steps 1.5, which is not a counter"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_records_of_other_types(path, change, told):
    file = path / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(CheckpointError, match="found only damaged ones"):
        go_on(path)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.verified(path)
    assert str(caught.value) == f"expected what a training writes in {file}, found {told}; {ADVICE}"


@pytest.mark.parametrize("name", ["progress", "schedule", "validation", "fingerprints"])
def test_a_record_that_says_too_little(path, name):
    file = path / "state.json"
    record = json.loads(file.read_text())
    del record[name]
    file.write_text(json.dumps(record))
    with pytest.raises(
        CheckpointError, match=f"^expected {name} in {re.escape(str(file))}, found none; {ADVICE}$"
    ):
        go_on(path)


@pytest.mark.parametrize("name", ["device", "threads", "torch"])
def test_a_machine_of_which_too_little_is_known_is_not_said_to_differ(path, name):
    file = path / "state.json"
    record = json.loads(file.read_text())
    del record["machine"][name]
    file.write_text(json.dumps(record))
    go_on(path)
    assert "instead of" not in (path.parent.parent / "log").read_text()


def test_a_type_of_weights_is_checked(path):
    file = path / "model.safetensors"
    tensors = {name: t.long() for name, t in load_file(file).items()}
    save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"^expected \S+ of torch.float32 in .*, found torch.int64; "):
        go_on(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_checkpoint_for_which_there_is_no_room(path, monkeypatch, number):
    """The library's own error; nothing of the checkpoint is left, and the one before is whole."""
    from safetensors import SafetensorError

    def full(*arguments):
        raise SafetensorError(f"Error while serializing: I/O error: no (os error {number})")

    monkeypatch.setattr(checkpoints, "save_file", full)
    final = path.with_name("step-00000004")
    found = {errno.ENOSPC: r"[0-9.,]+ \w+ free", errno.EFBIG: "a lower limit on the size of a file"}
    found[errno.EDQUOT] = "a quota that is used up"
    told = rf"^expected room for 28.8 KiB at {final}, found {found[number]}; free some, then go on$"
    with pytest.raises(NoRoom, match=told):
        go_on(path)
    assert [one.name for one in path.parent.iterdir()] == [path.name] and checkpoints.verified(path)
