"""Checkpoints go by their exact names; copies and whatever else lies among them do not count, and stay."""

import re
import shutil

import pytest
import torch

from seqsru.training import CheckpointError, checkpoints
from seqsru.training.weights import select_average

STRAY = (
    *("step-00000002-copy", "step-00000002 (1)", "step-abc", "step-2", "step-000000002", "step-٠٠٠٠٠٠٠٣"),
    *("step-00000002.tmp", "step--0000001", "step-", "xstep-00000009", ".partial-step-2", ".gone-x"),
)


def save(folder, step, value=0.0):
    record = {"validation": {"metric": "loss", "value": value, "higher_is_better": False}, "fingerprints": {}}
    return checkpoints.save(folder, step, {"w": torch.tensor([float(step)])}, {}, record)


@pytest.fixture
def folder(tmp_path):
    """Two checkpoints, and around them copies under other names, folders and files."""
    save(tmp_path, 1, 5.0)
    newest = save(tmp_path, 2, 7.0)
    for name in STRAY:
        shutil.copytree(newest, tmp_path / name)
    (tmp_path / "step-00000012").write_text("a user's")
    (tmp_path / "step-00000013").mkdir()
    (tmp_path / "step-00000014").mkdir()
    (tmp_path / "step-00000014" / "notes").write_text("mine")
    return tmp_path


@pytest.mark.parametrize("step", [0, 1, 99_999_999, 100_000_000, 123_456_789_012])
def test_a_name_and_its_number(step):
    assert checkpoints.step_of(checkpoints.name_of(step)) == step


def test_what_is_none_does_not_count(folder):
    assert [path.name for path in checkpoints.paths(folder)] == ["step-00000001", "step-00000002"]
    assert checkpoints.select(folder, "last").step == 2 and checkpoints.select(folder, "best").step == 1
    assert select_average(folder, "last", 2)["w"].item() == 1.5
    with pytest.raises(CheckpointError, match="expected 3 checkpoints to average"):
        select_average(folder, "last", 3)
    with pytest.raises(CheckpointError, match="expected a checkpoint folder at .*step-00000012, found none"):
        checkpoints.select(folder, "12")


def test_and_stays(folder):
    before = sorted(path.name for path in folder.iterdir())
    checkpoints.tidy(folder)
    for path in checkpoints.paths(folder):
        checkpoints.remove(path)
    kept = sorted(path.name for path in folder.iterdir())
    assert kept == [name for name in before if name not in ("step-00000001", "step-00000002")]


def test_where_only_renamed_ones_are_left(tmp_path):
    save(tmp_path, 2).rename(tmp_path / "step-00000002 (1)")
    (tmp_path / "step-notes").write_text("")
    with pytest.raises(
        CheckpointError,
        match=re.escape(
            f"checkpoint: expected a good checkpoint in {tmp_path}, found none but "
            f"step-00000002 (1), which is not "
            "a name of one; give one back the name that it had, such as step-00000010"
        ),
    ):
        checkpoints.select(tmp_path)


def test_files_that_somebody_put_into_a_checkpoint_stay(tmp_path):
    path = save(tmp_path, 1)
    (path / "notes").write_text("mine")
    save(tmp_path, 1, 3.0)
    assert (path / "notes").read_text() == "mine"
    assert checkpoints.verified(path).record["validation"]["value"] == 3.0
    checkpoints.remove(path)
    assert [one.name for one in path.iterdir()] == ["notes"]
    assert checkpoints.paths(tmp_path) == []
    save(tmp_path, 1)
    assert (path / "notes").read_text() == "mine" and checkpoints.verified(path).step == 1


def test_a_link_to_a_checkpoint_elsewhere_is_not_followed_and_left(tmp_path):
    elsewhere = save(tmp_path / "elsewhere", 3)
    folder = tmp_path / "checkpoints"
    save(folder, 2)
    link = folder / "step-00000003"
    link.symlink_to(elsewhere)
    refusal = f"expected a checkpoint folder at {link}, found a link; put the folder itself there"
    with pytest.warns(RuntimeWarning, match=f"^{refusal}; using another checkpoint$"):
        assert checkpoints.select(folder, "last").step == 2
    with pytest.raises(CheckpointError, match=f"^{refusal}$"):
        checkpoints.select(folder, "3")
    checkpoints.remove(link)
    assert link.is_symlink()
    save(folder, 3, 1.0)
    assert not link.is_symlink() and checkpoints.verified(link).step == 3
    assert checkpoints.verified(elsewhere).record["validation"]["value"] == 0.0


def test_a_file_that_has_the_name_of_a_later_one(folder):
    checkpoints.check_free(folder, 12)
    with pytest.raises(
        CheckpointError,
        match=f"^expected the names of later checkpoints free in {folder}, found the file "
        f"step-00000012; move it "
        "away$",
    ):
        checkpoints.check_free(folder, 2)


def test_sums_are_not_written_through_a_link(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "checkpoints"
    for place in (elsewhere, folder):
        checkpoints.save(place, 1, {"w": torch.zeros(1)}, {}, {}, {"config.yaml": "old"})
    (folder / "step-00000002").symlink_to(elsewhere / "step-00000001")
    checkpoints.cover(folder, {"config.yaml": ["old", "new"]})
    assert checkpoints.verified(folder / "step-00000001").covered == {"config.yaml": ["old", "new"]}
    assert checkpoints.verified(elsewhere / "step-00000001").covered == {"config.yaml": ["old"]}
