"""The engine's functions: token ids in, token ids and numbers out, each in one compiled call."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.decoding.decoding import Decoding
from seqsru.decoding.penalties import PENALTIES
from seqsru.decoding.rules import ForbiddenTokens, MinimumLength, NoRepeatedNgram
from seqsru.engine import layout as a
from seqsru.engine import processor
from seqsru.engine.model import Model
from seqsru.engine.workspace import Size, Workspace
from seqsru.errors import Refused
from seqsru.ops import compiled
from seqsru.ops.compiled import IGNORED

Ids = Sequence[int]
STOPS = ("first", "exact", "all")  # in the order of `search`'s constants
_HELD = 4  # workspaces kept for the next call


@dataclass(frozen=True)
class Output:
    """What a search found: see `seqsru.decoding.Hypothesis`, whose attention is an array here."""

    tokens: list[int]
    log_prob: float
    score: float
    attention: NDArray[np.float32] | None


class Engine:
    """A model and the memory to run it in; one call at a time.

    Parameters
    ----------
    model : Model
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._workspaces: list[Workspace] = []

    def search(
        self,
        sources: Sequence[Ids],
        starts: Ids,
        limits: Ids,
        *,
        eos: int,
        decoding: Decoding,
        columns: Sequence[NDArray[np.int64]] | None = None,
        attention: bool = False,
        slots: int = 32,
        times: NDArray[np.int64] | None = None,
    ) -> list[list[Output]]:
        """Search the best outputs of each sentence, as `seqsru.decoding.beam_search` defines them.

        Parameters
        ----------
        sources : sequence of token ids
            Of each sentence with ``</s>``; of a language model what was read before its start.
        starts : sequence of int
            Token of the first step of each.
        limits : sequence of int
            Most tokens of each output, ``</s>`` included.
        eos : int
        decoding : Decoding
        columns : sequence of int64 ndarray, optional
            For each sentence, the target types it may use, in order, `eos` among them.
        attention : bool
            Whether outputs carry their attention.
        slots : int
            Most sentences at once.
        times : int64 ndarray, optional
            Is filled with clock readings in nanoseconds, as far as it goes: before sources are read, before
            each step, and at the end.

        Returns
        -------
        list of list of Output
            For each sentence at most `n_best`, best first.

        Raises
        ------
        Refused
            The model gives NaN, or a rule is none that the engine knows.
        """
        count = len(sources)
        if not count:
            return []
        limit, n_best = max(limits), decoding.n_best
        rules = _rules(decoding, self.model.vocabulary)
        language = not len(self.model.encoder.table)
        size = Size(
            slots=min(slots, count),
            beam=decoding.beam,
            room=1 if language else max(map(len, sources)),
            longest=limit,
            steps=max(map(len, sources)) if language else 1,
            n_best=n_best,
            keep=attention or decoding.coverage > 0,
            columns=max(map(len, columns)) if columns is not None else 0,
        )
        space = self._space(size)
        room, longest = space.size.room, space.size.longest
        penalty = PENALTIES[decoding.penalty]
        lengths = [1.0, *(penalty(length, decoding.alpha) for length in range(1, limit + 1))]
        outs = count * n_best
        found, sizes = np.zeros(count, np.int64), np.zeros(outs, np.int64)
        tokens = np.zeros((outs, longest), np.int64)
        totals, scores = np.zeros(outs), np.zeros(outs)
        weights = np.zeros((outs, longest, room) if attention else (1, 1, 1), np.float32)
        minimum, forbidden, ngrams = rules
        flat, offsets = _flat(sources)
        allowed, edges = _flat(columns if columns is not None else [])
        status = _call(
            "search",
            space,
            numbers={
                "SENTENCES": count,
                "SLOTS": size.slots,
                "EOS": eos,
                "STOP": STOPS.index(decoding.stop),
                "MINIMUM": minimum,
                "FORBIDDEN_COUNT": len(forbidden),
                "NGRAM_COUNT": len(ngrams),
                "ATTENTION": attention,
                "TIMES_COUNT": 0,
                "TIMES_ROOM": 0 if times is None else len(times),
            },
            arrays={
                "TOKENS": flat,
                "OFFSETS": offsets,
                "STARTS": _ids(starts),
                "LIMITS": _ids(limits),
                "COLUMNS": None if columns is None else allowed,
                "COLUMN_OFFSETS": edges,
                "COVERAGE": np.array([decoding.coverage], np.float64),
                "PENALTIES": np.array(lengths, np.float64),
                "FORBIDDEN": _ids(forbidden),
                "NGRAMS": _ids(ngrams),
                "OUT_COUNT": found,
                "OUT_TOKENS": tokens,
                "OUT_LENGTHS": sizes,
                "OUT_TOTALS": totals,
                "OUT_SCORES": scores,
                "OUT_ATTENTION": weights,
                "TIMES": times,
            },
        )
        _check(status)
        return [
            [
                Output(
                    tokens[out, : sizes[out]].tolist(),
                    float(totals[out]),
                    float(scores[out]),
                    weights[out, : sizes[out], : len(sources[index])].copy() if attention else None,
                )
                for out in range(index * n_best, index * n_best + int(found[index]))
            ]
            for index in range(count)
        ]

    def score(
        self, sources: Sequence[Ids], inputs: Sequence[Ids], targets: Sequence[Ids], *, carried: bool = False
    ) -> list[NDArray[np.float64]]:
        """Return the negative log probability of each target token, in nats.

        Parameters
        ----------
        sources : sequence of token ids
            Of each sentence with ``</s>``; empty ones for a language model.
        inputs, targets : sequences of token ids
            What the decoder reads, and what it is to predict; as many of each.
        carried : bool
            Whether a sentence starts from the state that the one before it left.

        Raises
        ------
        Refused
            The model gives NaN.
        """
        if not targets:
            return []
        space = self._space(Size(room=max(1, *map(len, sources), 1), steps=max(1, *map(len, targets), 1)))
        flat, offsets = _flat(sources)
        read, ends = _flat(inputs)
        wanted, _ = _flat(targets)
        nll = np.zeros(len(wanted))
        status = _call(
            "score",
            space,
            numbers={"SENTENCES": len(targets), "CARRIED": carried},
            arrays={
                "TOKENS": flat,
                "OFFSETS": offsets,
                "INPUTS": read,
                "TARGETS": wanted,
                "TARGET_OFFSETS": ends,
                "COLUMNS": None,
                "NLL": nll,
            },
            fresh=True,
        )
        _check(status)
        return [nll[first:last] for first, last in zip(ends[:-1], ends[1:])]

    def follow(self, sources: Sequence[Ids], inputs: Sequence[Ids]) -> NDArray[np.float32]:
        """Return the log probabilities of every next token, (sentences, V), after what the decoder has read.

        Parameters, errors : those of `score`.
        """
        space = self._space(Size(room=max(1, *map(len, sources), 1), steps=max(1, *map(len, inputs), 1)))
        flat, offsets = _flat(sources)
        read, ends = _flat(inputs)
        log_probs = np.zeros((len(inputs), self.model.vocabulary), np.float32)
        status = _call(
            "follow",
            space,
            numbers={"SENTENCES": len(inputs)},
            arrays={
                "TOKENS": flat,
                "OFFSETS": offsets,
                "INPUTS": read,
                "TARGET_OFFSETS": ends,
                "COLUMNS": None,
                "NLL": log_probs,
            },
        )
        _check(status)
        return log_probs

    def draw(
        self,
        prompt: Ids,
        start: int,
        count: int,
        *,
        eos: int,
        max_length: int,
        temperature: float,
        top_k: int,
        top_p: float,
        uniform: NDArray[np.float64],
        minimum: int = 0,
        slots: int = 32,
        times: NDArray[np.int64] | None = None,
    ) -> list[Output]:
        """Draw continuations of one prompt, as `seqsru.decoding.sample` defines them.

        Parameters
        ----------
        prompt : token ids
            Read before `start`.
        start : int
            Token of the first step.
        count : int
        eos, max_length, temperature, top_k, top_p
            As in `sample`.
        uniform : float64 ndarray of shape (max_length, count)
            Random numbers from 0 to 1, one a step and continuation.
        minimum : int
            Fewest tokens of a continuation, its end included.
        slots : int
            Continuations at once.
        times : int64 ndarray, optional
            As in `search`; of the last continuations that are drawn at once.

        Raises
        ------
        Refused
            The model gives NaN.
        """
        outputs: list[Output] = []
        for first in range(0, count, slots):
            here = min(slots, count - first)
            space = self._space(Size(slots=here, longest=max_length, steps=max(1, len(prompt))))
            longest = space.size.longest
            flat, offsets = _flat([prompt] * here)
            tokens, sizes, totals = (
                np.zeros((here, longest), np.int64),
                np.zeros(here, np.int64),
                np.zeros(here),
            )
            status = _call(
                "draw",
                space,
                numbers={
                    "SENTENCES": here,
                    "EOS": eos,
                    "TOP_K": top_k,
                    "UNIFORM_ROW": here,
                    "MINIMUM": minimum,
                    "TIMES_COUNT": 0,
                    "TIMES_ROOM": 0 if times is None else len(times),
                },
                arrays={
                    "TOKENS": flat,
                    "OFFSETS": offsets,
                    "STARTS": _ids([start] * here),
                    "LIMITS": _ids([max_length] * here),
                    "COLUMNS": None,
                    "TEMPERATURE": np.array([temperature], np.float64),
                    "TOP_P": np.array([top_p], np.float64),
                    "UNIFORM": np.ascontiguousarray(uniform[:, first : first + here]),
                    "OUT_TOKENS": tokens,
                    "OUT_LENGTHS": sizes,
                    "OUT_TOTALS": totals,
                    "TIMES": times,
                },
            )
            _check(status)
            for row in range(here):
                total = float(totals[row])
                outputs.append(Output(tokens[row, : sizes[row]].tolist(), total, total, None))
        return outputs

    def _space(self, size: Size) -> Workspace:
        """Return a workspace that does: one that is there, or a new one."""
        for place, space in enumerate(self._workspaces):
            if space.size.covers(size):
                self._workspaces.insert(0, self._workspaces.pop(place))
                return space
        space = Workspace(self.model, size)
        self._workspaces = [space, *self._workspaces][:_HELD]
        return space


def _rules(decoding: Decoding, vocabulary: int) -> tuple[int, list[int], list[int]]:
    """Return what the rules ask for: fewest tokens, forbidden tokens, lengths that may not repeat."""
    minimum, forbidden, ngrams = 0, set[int](), []
    for rule in decoding.rules:
        if isinstance(rule, MinimumLength):
            minimum = max(minimum, rule.length)
        elif isinstance(rule, ForbiddenTokens):
            rule.check(vocabulary)
            forbidden |= set(rule.tokens)
        elif isinstance(rule, NoRepeatedNgram):
            ngrams.append(rule.size)
        else:
            raise Refused(
                "rules that the compiled engine knows", type(rule).__name__, "choose engine torch", "rules"
            )
    return minimum, sorted(forbidden), ngrams


def _check(status: int) -> None:
    if status:
        raise Refused(
            "log probabilities",
            "NaN",
            "the weights are damaged or training diverged: load another checkpoint",
        )


def _ids(values: Ids) -> NDArray[np.int64]:
    return np.array(values or [0], np.int64)


def _flat(sequences: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids one after the other, and where each sequence begins and the last ends."""
    parts = [np.asarray(sequence, np.int64) for sequence in sequences]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return np.concatenate([np.zeros(0, np.int64), *parts, np.zeros(1, np.int64)]), offsets


def _call(
    name: str,
    space: Workspace,
    *,
    numbers: dict[str, int],
    arrays: dict[str, NDArray[Any] | None],
    fresh: bool = False,
) -> int:
    g = space.g.copy()  # a call swaps places in it
    for key, value in numbers.items():
        g[a.NAMES.index(key)] = value
    for key, array in arrays.items():
        g[a.NAMES.index(key)] = 0 if array is None else array.ctypes.data
    if fresh:
        space.clear()
    _entry(name)(g.ctypes.data)
    return int(g[a.STATUS])


@cache
def _entry(name: str) -> Callable[[int], int]:
    """Return a function of the engine, compiled: it takes the address of what `layout` names."""
    here = Path(__file__).parent
    address = compiled.address(
        lambda: _body(name),
        ("int64*",),
        name=f"engine-{name}-{processor.DOT}",
        sources=[*sorted(here.glob("*.py")), here.parent / "ops" / "cpu_math.py"],
        fastmath=("contract",),
    )
    signature = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)
    return partial(signature(address), IGNORED, IGNORED + 8)


def _body(name: str) -> Callable[..., Any]:
    """Import what is to be compiled, and with it Numba."""
    function: Callable[..., Any] = getattr(import_module("seqsru.engine.entries"), name)
    return function
