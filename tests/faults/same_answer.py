"""A sentence's translation is the same bytes, with the same score, whatever is beside it, in whatever order.

    python tests/faults/same_answer.py RUN SENTENCES [--count 2000] [--torch-count 200]

RUN is a run directory of a translation model. Its sentences are translated in batches of twelve sizes, in
three orders, greedily and with a beam of five, on the compiled engine in int8 and in float32, and, fewer of
them since it is slower by far, on torch in float32 and in bfloat16. One line a precision and beam; the exit
status is 1 if any answer was not that of the first batch.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

import seqsru
from seqsru.data import read_lines
from seqsru.runs import quantize

SIZES = (1, 2, 3, 5, 7, 8, 16, 31, 32, 64, 100, 100_000)
ORDERS = ("as it is", "turned around", "shuffled")
BEAMS = (1, 5)


def ordered(count: int, order: str) -> list[int]:
    """Return the places of the lines in an order."""
    places = list(range(count))
    if order == "turned around":
        places.reverse()
    elif order == "shuffled":
        random.Random(1).shuffle(places)
    return places


def answers(pipeline: Any, lines: list[str], order: str, **how: Any) -> list[tuple[str, float, float]]:
    """Translate lines in an order; return text, score and log probability of each, in the first order."""
    places = ordered(len(lines), order)
    found = dict(zip(places, pipeline.translate([lines[place] for place in places], **how)))
    return [(found[n].text, found[n].score, found[n].log_prob) for n in range(len(lines))]


def systems(run: Path, count: int, few: int) -> Iterator[tuple[str, Any, int, AbstractContextManager[Any]]]:
    """Give each precision's name, its pipeline, how many lines it gets, and what it runs in."""
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("int8", "float32"):
            file = Path(folder) / precision
            quantize(run, file, precision=precision)
            yield f"engine {precision}", seqsru.load(file), count, nullcontext()
    pipeline = seqsru.load(run)
    yield "torch float32", pipeline, few, nullcontext()
    yield "torch bfloat16", pipeline, few, torch.autocast("cpu", torch.bfloat16)


def main(arguments: list[str] | None = None) -> int:
    """Compare, and print a line for each precision and beam."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("run", type=Path)
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--torch-count", type=int, default=200)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    lines = read_lines(given.sentences).lines
    wrong = 0
    for name, pipeline, count, context in systems(given.run, given.count, given.torch_count):
        here = lines[:count]
        for beam in BEAMS:
            begun, tried, differ = perf_counter(), 0, 0
            with context:
                first = answers(pipeline, here, ORDERS[0], beam=beam, batch_size=32)
                for size in SIZES:
                    for order in ORDERS:
                        found = answers(pipeline, here, order, beam=beam, batch_size=size)
                        tried += len(found)
                        differ += sum(one != other for one, other in zip(first, found))
            wrong += differ
            took = perf_counter() - begun
            print(
                f"{name}, beam {beam}: {len(here):,} sentences, {tried:,} answers, {differ} differ, "
                f"{took:.0f} s",
                flush=True,
            )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
