"""Decoding with the engine: what a pipeline asks of a model, answered in compiled calls."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqsru.decoding.decoding import Decoding
from seqsru.decoding.rules import MinimumLength
from seqsru.engine.inference import Engine, Output
from seqsru.engine.model import Model
from seqsru.engine.shortlist import Lexicon
from seqsru.evaluation.clock import Readings, TimedDecoder

Ids = Sequence[int]
R = TypeVar("R")
WINDOW = 1024  # tokens of a stream that are read at once; the result does not depend on it
AT_ONCE = 32  # sentences that are decoded beside each other, unless a decoding says otherwise


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """A model in the engine, for any number of threads.

    Parameters
    ----------
    model : Model
    shortlist : Lexicon, optional
        Which target types a source may use; None is all.
    threads : int
        Batches that are decoded at once.
    fewest : int
        Fewest tokens of what is decoded, its end included.
    clock : list of int64 ndarray, optional
        Gets the clock readings of each search or draw; see `seqsru.engine.inference.Engine.search`.
    """

    model: Model
    shortlist: Lexicon | None = None
    threads: int = 1
    fewest: int = 1
    clock: list[NDArray[np.int64]] | None = None
    _local: threading.local = field(default_factory=threading.local, repr=False)

    def search(
        self,
        sources: Sequence[Ids],
        starts: Ids,
        *,
        eos: int,
        decoding: Decoding,
        limits: Ids,
        attention: bool = False,
    ) -> list[list[Output]]:
        """Search each sentence's best outputs; see `seqsru.engine.inference.Engine.search`."""
        if self.fewest > 1:
            decoding = replace(decoding, rules=(*decoding.rules, MinimumLength(self.fewest)))
        slots = AT_ONCE if decoding.batch_by == "tokens" else decoding.batch_size

        def part(members: list[int]) -> list[list[Output]]:
            given = [sources[index] for index in members]
            return self.engine().search(
                given,
                [starts[index] for index in members],
                [limits[index] for index in members],
                eos=eos,
                decoding=decoding,
                columns=None if self.shortlist is None else [self.shortlist.columns(ids) for ids in given],
                attention=attention,
                slots=max(1, slots),
                times=self.times(max(limits[index] for index in members)),
            )

        return self._shared(part, sources)

    def score(self, sources: Sequence[Ids], inputs: Sequence[Ids], targets: Sequence[Ids]) -> list[float]:
        """Return the log probability of each sentence's targets, in nats."""

        def part(members: list[int]) -> list[float]:
            found = self.engine().score(
                *([side[index] for index in members] for side in (sources, inputs, targets))
            )
            return [-math.fsum(nll.tolist()) for nll in found]

        return self._shared(part, targets)

    def stream_nll(self, tokens: Any, eos: int) -> float:
        """Return the negative log probability of one stream of tokens, the first predicted from `eos`."""
        targets = [int(token) for token in tokens]
        inputs = [eos, *targets[:-1]]
        starts = range(0, len(targets), WINDOW)
        found = self.engine().score(
            [()] * len(starts),
            [inputs[first : first + WINDOW] for first in starts],
            [targets[first : first + WINDOW] for first in starts],
            carried=True,
        )
        return math.fsum(value for nll in found for value in nll.tolist())

    def times(self, tokens: int) -> NDArray[np.int64] | None:
        """Return where the clock readings of so many tokens of one sentence go; None without a clock."""
        if self.clock is None:
            return None
        self.clock.append(np.zeros(tokens + 2, np.int64))
        return self.clock[-1]

    def engine(self) -> Engine:
        """Return this thread's own engine."""
        engine: Engine | None = getattr(self._local, "engine", None)
        if engine is None:
            engine = self._local.engine = Engine(self.model)
        return engine

    def _shared(self, work: Callable[[list[int]], list[R]], sentences: Sequence[Ids]) -> list[R]:
        """Share sentences out among threads, long ones first; give the results in order."""
        order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index]))
        threads = min(self.threads, len(order))
        parts = [order[first::threads] for first in range(threads)]
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(work, parts))
        else:
            found = [work(part) for part in parts]
        results: dict[int, R] = {}
        for part, outputs in zip(parts, found):
            results.update(zip(part, outputs))
        return [results[index] for index in range(len(sentences))]


def timed_inside(
    timed: TimedDecoder, pipeline: Any, decode: Callable[[Any, str, int | None], object]
) -> TimedDecoder:
    """Return a decoder that the engine of its pipeline times, from inside the compiled call.

    Parameters
    ----------
    timed : TimedDecoder
        What it is otherwise.
    pipeline : TranslationPipeline or LanguagePipeline
        With an engine.
    decode : callable
        ``decode(pipeline, line, length)`` decodes a line to at most `length` tokens, if that is not None.
    """

    @cache
    def made(length: int | None, clocked: bool) -> Any:
        """Return the pipeline with the same engine, forced to a length and with a clock inside or without."""
        engine = replace(pipeline.engine, fewest=length or 1, clock=[] if clocked else None)
        return replace(pipeline, engine=engine)

    def clocked(line: str, length: int | None) -> list[Readings]:
        inside = made(length, True)
        inside.engine.clock.clear()
        decode(inside, line, length)
        return [Readings.inside(times[times > 0].tolist()) for times in inside.engine.clock]

    return replace(
        timed,
        decode=lambda line, length: decode(made(length, False), line, length),
        clocked=clocked,
        engine=f"compiled {pipeline.engine.model.precision}",
    )


def uniform(seed: int, count: int) -> NDArray[np.float64]:
    """Return the float64 numbers from 0 to 1 that ``torch.rand`` draws after ``manual_seed(seed)``.

    Both are of the Mersenne Twister, 53 bits of two draws of 32 each, the first in front.
    """
    generator: Any = np.random.RandomState(seed & 0xFFFFFFFF)._bit_generator
    raw = generator.random_raw(2 * count).astype(np.uint64).reshape(-1, 2)
    bits = (raw[:, 0] << np.uint64(32) | raw[:, 1]) & np.uint64((1 << 53) - 1)
    drawn: NDArray[np.float64] = bits.astype(np.float64) * 2.0**-53
    return drawn
