"""Batches as CUDA graphs in training: the same bits as batches computed as they come, and where there are none."""

import dataclasses
import sys
from pathlib import Path

import fake_graphs
import pytest
import tiny
import tiny_tasks
import torch
from test_trainer import make as make_sum

from seqsru.ops import graphs as cuda_graphs
from seqsru.training import replay
from seqsru.training.updates import Updates

STARTED = "batches whose shapes come again are played as CUDA graphs"


def language(folder, **options):
    return tiny.make(folder, **{"schedule": "constant", "epochs": 0, **options})


TASKS = {
    "language": language,
    "translation": tiny_tasks.translation,
    "classification": tiny_tasks.classification,
}


@pytest.fixture
def graphs(monkeypatch):
    return fake_graphs.install(monkeypatch)


def train(make, folder, seen, off=False, spoil=True, **options):
    """Train, and return the trainer; batches are spoilt as soon as their update is made."""
    chosen = {"cuda_graphs": "off"} if off else {}
    trainer = make(folder, validate_every=1000, **options, **chosen)
    batches = trainer.objective.batches

    def spoilt(epoch, start):
        given = []
        for batch in batches(epoch, start):
            given.append(clone(batch))
            yield given[-1]
            if len(given) > 4:
                [t.fill_(1) for t in replay._tensors(given.pop(0)) if t is not None]

    trainer.objective.batches = spoilt
    with fake_graphs.Watcher(seen):
        trainer.fit()
    return trainer


def clone(batch):
    return replay._with(batch, [None if t is None else t.clone() for t in replay._tensors(batch)])


def log(folder):
    return (Path(folder) / "log").read_text().splitlines()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("task", TASKS)
def test_the_bits_are_those_of_batches_computed_as_they_come(task, accumulate, graphs, tmp_path):
    options = {"steps": 48 // accumulate, "accumulate": accumulate}
    train(TASKS[task], tmp_path / "eager", graphs, off=True, **options)
    assert not graphs.graphs and STARTED not in log(tmp_path / "eager")
    train(TASKS[task], tmp_path / "graphs", graphs, **options)
    assert tiny.files(tmp_path / "graphs") == tiny.files(tmp_path / "eager")
    print(len(graphs.graphs), [g.replays for g in graphs.graphs])
    assert len(graphs.graphs) > 1 and sum(graph.replays for graph in graphs.graphs) > 10
    assert log(tmp_path / "graphs").count(STARTED) == 1
