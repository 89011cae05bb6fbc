"""The sections of `gpu_check.py`: tests, layers, and those of kernels and of models.

A section is a function of (device, tiny, part) that returns rows for a table; a part, such as an element
type, is a process of its own. Only training needs more than torch, numba-cuda and this checkout. With `tiny`
the sizes are small enough for a test on a CPU; graphs are captured on CUDA devices only.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import bench_layers
import gpu_kernels
import gpu_models
import gpu_predictions as predictions
import torch
from bench_layers import LAYERS, OTHERS, compare
from gpu_measures import PRECISIONS, Rows, beside

ROOT = Path(__file__).resolve().parents[1]
HALVES = ("float32", "bfloat16")
TYPES = ("float64", "float32", "bfloat16", "float16")
# How pytest finds the tests of a part; a test of no element type is one of the others.
CHOSEN = {
    "float16": "float16 and not bfloat16",
    "others": "not float64 and not float32 and not bfloat16 and not float16",
}


def gpu_tests(device: torch.device, tiny: bool, part: str) -> Rows:
    """Run the part of ``tests/gpu`` and give the outcome of every test that did not pass.

    Warnings are not errors here: the machine's versions are its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-W", "default"]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", "-k", CHOSEN.get(part, part)]
        before = os.environ.get("PYTHONPATH")
        path = str(ROOT) if not before else f"{ROOT}{os.pathsep}{before}"
        run = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        print(run.stdout + run.stderr)
        if not report.exists():
            raise RuntimeError(f"pytest wrote no report: {(run.stdout + run.stderr)[-2000:]}")
        return test_rows(report.read_text(encoding="utf-8"))


def test_rows(report: str) -> Rows:
    """Turn a JUnit report into a first row of counts, and one for each test that failed or was skipped."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    rest: Rows = []
    for case in ElementTree.fromstring(report).iter("testcase"):
        outcome, text = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if child.tag == "skipped" else "failed"
                text = (child.get("message") or "").strip()
        counts[outcome] += 1
        if outcome != "passed":
            rest.append({"test": case.get("name"), "outcome": outcome, "message": text[:300]})
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    return [{"test": "all", "outcome": "failed" if counts["failed"] else "ok", "message": summary}, *rest]


def layers(device: torch.device, tiny: bool, part: str) -> Rows:
    """One layer of each kind in one precision, as ratios to the SRU, from Python and in a graph."""
    sizes = [(4, 2, 8)] if tiny else [(32, 32, 256), (128, 32, 512), (64, 64, 1024), (128, 128, 2048)]
    names = [*LAYERS, *(OTHERS if importlib.util.find_spec("fla") is not None else ())]
    rows: Rows = []
    for graph in (False, True) if bench_layers.on_gpu(device) else (False,):
        for row in compare(sizes, device, part, 3 if tiny else 5, 0.001 if tiny else 0.03, names, graph):
            size, training = (row["T"], row["B"], row["D"]), row["pass"] == "training"
            work = predictions.layer(row["layer"], *size, part, training)
            seconds, ratio = row["ms"]["median"] / 1e3, row["ratio"]
            expected = predictions.LSTM_OVER_SRU.get((size, part, graph))
            rows.append(
                {
                    "T,B,D": ",".join(map(str, size)),
                    "pass": row["pass"],
                    "by": "graph" if graph else "python",
                    "layer": row["layer"],
                    "to SRU": round(ratio["median"], 3),
                    "q1": round(ratio["q1"], 3),
                    "q3": round(ratio["q3"], 3),
                    "hoped": expected if training and row["layer"] == "LSTM" else None,
                    **(
                        beside(seconds, work, device, tiny, part, graph)
                        if work
                        else {"us": round(1e6 * seconds, 2)}
                    ),
                }
            )
    return rows


class Section(NamedTuple):
    """A function of (device, tiny, part); the seconds that a part may take; the parts, each a process."""

    run: Callable[[torch.device, bool, str], Rows]
    limit: float
    parts: tuple[str, ...]


SECTIONS: dict[str, Section] = {
    "tests": Section(gpu_tests, 90, (*TYPES, "others")),
    "bandwidth": Section(gpu_kernels.bandwidth, 40, HALVES),
    "layers": Section(layers, 45, PRECISIONS),
    "training": Section(gpu_models.training, 40, PRECISIONS),
    "long": Section(gpu_kernels.long, 40, HALVES),
    "cross entropy": Section(gpu_models.cross_entropy, 25, PRECISIONS),
    "decoding": Section(gpu_models.decoding, 40, ("float32",)),
    "translation": Section(gpu_models.translation, 40, ("float32",)),
    "padded": Section(gpu_models.padded, 30, HALVES),
    "cells": Section(gpu_models.cells, 40, PRECISIONS),
    "compile": Section(gpu_models.compiled, 60, ("float32",)),
    "prefill": Section(gpu_kernels.prefill, 30, HALVES),
    "sanitizer": Section(gpu_kernels.sanitizer, 60, ("memcheck", "racecheck")),
}
