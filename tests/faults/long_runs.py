"""Long runs hold what they hold at their beginning: memory, threads and open files stay flat.

    python tests/faults/long_runs.py RUN SENTENCES [--decode 200000] [--updates 20000]

Translates many sentences of a file, over and over, on the compiled engine (and a tenth of them with torch),
then trains a tiny language model for many updates. Memory (resident), threads and open files are read at a
tenth of the way, when everything has been used once, and at the end; the exit status is 1 if memory grew by
more than a thirtieth, or threads or files at all.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter, sleep
from typing import NamedTuple

import torch

import seqsru
from seqsru import runs
from seqsru.data import read_lines

GROWTH = 1 / 30
CONFIG = """\
task: language_model
output: {folder}/run
data: {{train: {folder}/train.txt, validation: {folder}/train.txt}}
tokenizer: words
model: {{embedding_size: 8, stack: {{cell: sru, hidden_size: 8, num_layers: 2, dropout: 0.1}}}}
batches: {{batch_size: 4, window: 8}}
optimizer: {{name: adamw, lr: 1e-3}}
training: {{steps: {steps}, tensorboard: false, validate_every: 2000}}
"""


class Held(NamedTuple):
    """What a process holds: kB of memory, threads, open files."""

    memory: int
    threads: int
    files: int

    @classmethod
    def of(cls, process: int) -> Held:
        """Read it of a process."""
        at = Path(f"/proc/{process}")
        status = dict(line.split(":", 1) for line in (at / "status").read_text().splitlines())
        return cls(int(status["VmRSS"].split()[0]), int(status["Threads"]), len(os.listdir(at / "fd")))


def told(name: str, count: int, before: Held, after: Held, seconds: float) -> bool:
    """Print how two readings differ; return whether they are flat."""
    flat = after.memory <= before.memory * (1 + GROWTH) and after[1:] <= before[1:]
    print(
        f"{name}: {count:,}, memory {before.memory / 1024:.0f} → {after.memory / 1024:.0f} MB, threads "
        f"{before.threads} → {after.threads}, files {before.files} → {after.files}, {seconds:.0f} s: "
        + ("flat" if flat else "GREW"),
        flush=True,
    )
    return flat


def decoding(name: str, pipeline: object, lines: list[str], count: int) -> bool:
    """Translate so many lines."""
    begun, held = perf_counter(), []
    endless = cycle(lines)
    for _ in range(10):
        for _chunk in range(0, count // 10, 1000):
            pipeline.translate(list(islice(endless, min(1000, count // 10))))  # type: ignore[attr-defined]
        held.append(Held.of(os.getpid()))
    return told(name, count, held[0], held[-1], perf_counter() - begun)


def training(updates: int) -> bool:
    """Train for so many updates, in a process that is watched."""
    draw, begun = random.Random(1), perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        text = "".join(" ".join(draw.choices("abcdefgh", k=9)) + "\n" for _ in range(200))
        Path(folder, "train.txt").write_text(text)
        Path(folder, "run.yaml").write_text(CONFIG.format(folder=folder, steps=updates))
        log = Path(folder, "run", "metrics.jsonl")
        command = [sys.executable, "-m", "seqsru", "train", f"{folder}/run.yaml"]
        first = last = None
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            while process.poll() is None:
                sleep(0.5)
                try:
                    held = Held.of(process.pid)
                except (OSError, KeyError):  # it has just ended
                    break
                lines = log.read_text().splitlines() if log.exists() else []
                if lines and json.loads(lines[-1])["step"] >= updates // 10:
                    first, last = first or held, held
        if process.returncode or first is None or last is None:
            print(f"training: ended with {process.returncode}")
            return False
    return told("updates", updates, first, last, perf_counter() - begun)


def main(arguments: list[str] | None = None) -> int:
    """Watch, and print a line for each kind of run."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=Path, help="a run directory of a translation model")
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--decode", type=int, default=200_000)
    parser.add_argument("--updates", type=int, default=20_000)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = read_lines(given.sentences).lines
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "file")
        runs.quantize(given.run, file)
        flat = [decoding("sentences, engine", seqsru.load(file), lines, given.decode)]
    flat.append(decoding("sentences, torch", seqsru.load(given.run), lines, given.decode // 10))
    flat.append(training(given.updates))
    return int(not all(flat))


if __name__ == "__main__":
    sys.exit(main())
