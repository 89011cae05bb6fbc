"""Training with batches as CUDA graphs on a real GPU: the bits of batches computed as they come."""

from functools import partial

import pytest
import tiny
import tiny_tasks

TASKS = {
    "language": partial(tiny.make, schedule="constant", epochs=0),
    "translation": tiny_tasks.translation,
    "classification": tiny_tasks.classification,
    "lstm": partial(tiny_tasks.translation, cell="lstm"),
}
STARTED = "batches whose shapes come again are played as CUDA graphs"


def train(task, folder, **options):
    """The tensors that a training left, and its log."""
    TASKS[task](folder, validate_every=1000, device="cuda", **options).fit()
    return tiny.files(folder), (folder / "log").read_text().splitlines()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("task", ["language", "translation", "classification"])
def test_a_graph_gives_the_bits_of_what_it_captured(task, accumulate, precision, tmp_path):
    """With every dropout: the masks within a graph are drawn from the seed of each batch, too."""
    options = {"steps": 36, "accumulate": accumulate, "precision": precision}
    expected, without = train(task, tmp_path / "eager", cuda_graphs="off", **options)
    found, log = train(task, tmp_path / "graphs", **options)
    assert STARTED in log and STARTED not in without
    assert found == expected


@pytest.mark.parametrize("task", ["language", "translation"])
def test_where_a_run_was_stopped_leaves_no_trace(task, tmp_path):
    expected, _ = train(task, tmp_path / "whole", steps=24)
    for steps in (5, 16, 24):
        found, _ = train(task, tmp_path / "stopped", steps=steps)
    assert found == expected


def test_packed_rows_are_no_graphs_and_train_as_before(tmp_path):
    expected, _ = train("lstm", tmp_path / "eager", steps=20, cuda_graphs="off")
    found, log = train("lstm", tmp_path / "auto", steps=20)
    assert found == expected and STARTED not in log
    assert "some batches are no CUDA graphs: called a synchronizing CUDA operation" in log
