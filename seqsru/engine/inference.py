"""The engine's functions: token ids in, token ids and numbers out, each in one compiled call."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from seqsru.engine.workspace import Size, Workspace, together
from seqsru.errors import Refused, check_at_least
from seqsru.ops import compiled
from seqsru.ops.compiled import IGNORED

Ids = Sequence[int]
STOPS = ("first", "exact", "all")  # in the order of `search`'s constants
COMPILING = "seqsru: compiling the engine for this processor, once: about a minute"  # said when it is
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
            The model gives NaN, a rule is none that the engine knows, a limit is below 1, or an id is none of
            the model's; attention of a language model.
        """
        count = len(sources)
        if not count:
            return []
        limit, n_best = max(limits), decoding.n_best
        _check_limit(min(limits))
        rules = _rules(decoding, self.model.vocabulary)
        language = not len(self.model.encoder.table)
        if language and (attention or decoding.coverage):
            raise Refused(
                "attention weights from the step",
                "None",
                "ask the model for them, or use a model that attends",
                "with_attention" if attention else "coverage",
            )
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
        size = replace(size, slots=together(self.model, size))
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
        flat, offsets = self._sources(sources)
        allowed, edges = self._targets(columns if columns is not None else [])
        self._targets([starts, [eos]])
        if columns is not None and not all((ids == eos).any() for ids in columns):
            raise Refused(
                "</s> in every shortlist", "none", "make the file again with `seqsru quantize`", "columns"
            )
        status = _call(
            a.SEARCH,
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
        flat, offsets = self._sources(sources)
        read, ends = self._targets(inputs)
        wanted, _ = self._targets(targets)
        space = self._space(Size(room=max(1, *map(len, sources), 1), steps=max(1, *map(len, targets), 1)))
        nll = np.zeros(len(wanted))
        status = _call(
            a.SCORE,
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
        )
        _check(status)
        return [nll[first:last] for first, last in zip(ends[:-1], ends[1:])]

    def follow(
        self, sources: Sequence[Ids], inputs: Sequence[Ids], weights: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the log probabilities of every next token, (sentences, V), after what the decoder has read.

        Parameters
        ----------
        sources : sequence of token ids
            As in `score`.
        inputs : sequence of token ids
            What the decoder reads, at least one token each.
        weights : float32 ndarray of shape (sentences, S), optional
            Is filled with the weights of attention at the last input of each; S covers the longest source.

        Raises
        ------
        Refused
            The model gives NaN, or an id is none of the model's.
        """
        check_at_least(1, inputs=min(map(len, inputs), default=1))
        flat, offsets = self._sources(sources)
        read, ends = self._targets(inputs)
        space = self._space(Size(room=max(1, *map(len, sources), 1), steps=max(1, *map(len, inputs), 1)))
        log_probs = np.zeros((len(inputs), self.model.vocabulary), np.float32)
        shown = np.zeros((len(inputs), space.size.room), np.float32)
        status = _call(
            a.FOLLOW,
            space,
            numbers={"SENTENCES": len(inputs), "ATTENTION": weights is not None},
            arrays={
                "TOKENS": flat,
                "OFFSETS": offsets,
                "INPUTS": read,
                "TARGET_OFFSETS": ends,
                "COLUMNS": None,
                "NLL": log_probs,
                "OUT_ATTENTION": shown,
            },
        )
        _check(status)
        if weights is not None:
            weights[:] = shown[:, : weights.shape[1]]
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
        self._targets([[start, eos]])
        _check_limit(max_length)
        for first in range(0, count, slots):
            here = min(slots, count - first)
            space = self._space(Size(slots=here, longest=max_length, steps=max(1, len(prompt))))
            longest = space.size.longest
            flat, offsets = self._sources([prompt] * here)
            tokens, sizes, totals = (
                np.zeros((here, longest), np.int64),
                np.zeros(here, np.int64),
                np.zeros(here),
            )
            status = _call(
                a.DRAW,
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

    def _sources(self, sources: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids of sources, or of prompts, as `_flat` does."""
        return _flat(sources, self.model.source_vocabulary, "source")

    def _targets(self, sequences: Sequence[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return _flat(sequences, self.model.vocabulary, "target")

    def _space(self, size: Size) -> Workspace:
        """Return a workspace that does: one that is there, or a new one."""
        for place, space in enumerate(self._workspaces):
            if space.size.covers(size):
                self._workspaces.insert(0, self._workspaces.pop(place))
                return space
        try:
            space = Workspace(self.model, size)
        except (MemoryError, ValueError, OverflowError):  # the last two of numpy, beyond all addresses
            raise Refused(
                "a search that fits in memory",
                f"{size.slots} x {size.beam} outputs of {size.longest} tokens at once",
                "lower beam, batch_size or the longest output",
                "beam",
            ) from None
        self._workspaces = [space, *self._workspaces][:_HELD]
        return space


def _rules(decoding: Decoding, vocabulary: int) -> tuple[int, list[int], list[int]]:
    """Return what the rules ask for: fewest tokens, forbidden tokens, lengths that may not repeat."""
    minimum, forbidden, ngrams = 0, set[int](), []
    for rule in decoding.rules:
        if type(rule) is MinimumLength:  # a subclass may do anything
            minimum = max(minimum, rule.length)
        elif type(rule) is ForbiddenTokens:
            rule.check(vocabulary)
            forbidden |= set(rule.tokens)
        elif type(rule) is NoRepeatedNgram:
            ngrams.append(rule.size)
        else:
            raise Refused(
                "rules that the compiled engine knows", type(rule).__name__, "choose engine torch", "rules"
            )
    return minimum, sorted(forbidden), ngrams


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise Refused("at least 1", limit, "</s> is a token too", "max_length")


def _check(status: int) -> None:
    if status:
        raise Refused(
            "log probabilities",
            "NaN",
            "the weights are damaged or training diverged: load another checkpoint",
        )


def _ids(values: Ids) -> NDArray[np.int64]:
    return np.array(values if len(values) else [0], np.int64)


def _flat(
    sequences: Sequence[Any], vocabulary: int, side: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return ids one after the other, and where each sequence begins and the last ends.

    Compiled code reads where an id says, so none may be outside the vocabulary.
    """
    parts = [np.asarray(sequence, np.int64) for sequence in sequences]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    flat = np.concatenate([*parts, np.zeros(1, np.int64)])
    if flat.min() < 0 or flat.max() >= vocabulary:
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise Refused(
            f"{side} ids from 0 to {vocabulary - 1}",
            int(wrong),
            "use the tokenizer that belongs to the model",
        )
    return flat, offsets


def _call(
    what: int,
    space: Workspace,
    *,
    numbers: dict[str, int],
    arrays: dict[str, NDArray[Any] | None],
) -> int:
    g = space.g.copy()  # a call swaps places in it
    g[a.WHAT] = what
    for key, value in numbers.items():
        g[a.PLACES[key]] = value
    for key, array in arrays.items():
        g[a.PLACES[key]] = 0 if array is None else array.ctypes.data
    _entry()(g.ctypes.data)
    return int(g[a.STATUS])


# The files that the compiled code follows from.
_SOURCES = (
    "drawing",
    "entries",
    "kernels",
    "layout",
    "machine",
    "memory",
    "packing",
    "processor",
    "products",
    "program",
    "scoring",
    "search",
    "vectors",
)


@cache
def _entry() -> Callable[[int], int]:
    """Return the engine's function, compiled: it takes the address of what `layout` names."""
    here = Path(__file__).parent
    address = compiled.address(
        _body,
        ("int64*",),
        name=f"engine-{processor.DOT}",
        sources=[*(here / f"{name}.py" for name in _SOURCES), here.parent / "ops" / "cpu_math.py"],
        fastmath=("contract",),
    )
    signature = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)
    return partial(signature(address), IGNORED, IGNORED + 8)


def _body() -> Callable[..., Any]:
    """Import what is to be compiled, and with it Numba; it is said, since it takes its time."""
    if sys.stderr is not None:  # it may be closed
        print(COMPILING, file=sys.stderr)
    function: Callable[..., Any] = import_module("seqsru.engine.entries").run
    return function
