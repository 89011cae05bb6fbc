"""A translator that is a program: what is on disk, the memory that a search needs, and the call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import types
from numpy.typing import NDArray

from seqsru.engine import layout as a
from seqsru.engine.program import Place, placed

Call = Any


@dataclass(frozen=True, eq=False)
class Part:
    """One of a model's programs.

    Attributes
    ----------
    table : ndarray of shape (operations, FIELDS)
        Buffers by number.
    widths : ndarray of shape (buffers,)
    state : int
        Numbers of a row's state.
    x, y : Place
        Where the program reads and where it leaves its result.
    """

    table: NDArray[np.int64]
    widths: NDArray[np.int64]
    state: int
    x: Place
    y: Place


@dataclass(frozen=True, eq=False)
class Model:
    """A translator's numbers and programs.

    Attributes
    ----------
    numbers : ndarray of float32
        Everything that was learned, packed.
    int8 : bool
        Whether products have int8 weights.
    encoder, decoder : Part
    memory : int
        Numbers that a slot keeps for each position of its source.
    output : ndarray of shape (6,)
        Inputs, tiles, and the places of weights, scales, shift and bias of the output product.
    source_embedding, target_embedding : int
        Where they are, each row as wide as `embedded`.
    embedded, vocabulary : int
    """

    numbers: NDArray[np.float32]
    int8: bool
    encoder: Part
    decoder: Part
    memory: int
    output: NDArray[np.int64]
    source_embedding: int
    target_embedding: int
    embedded: int
    vocabulary: int
    widest: int


@cache
def _entry(name: str) -> Call:
    from seqsru.engine import search

    build = numba.cfunc(types.int64(types.CPointer(types.int64)), error_model="numpy", fastmath={"contract"})
    made: Any = build(getattr(search, name))
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(made.address)
    function.kept = made
    return function


def _room(length: int) -> int:
    return -(-length // 16) * 16


class Workspace:
    """Memory for searches of one size, made once and used for every sentence that fits."""

    def __init__(self, model: Model, *, slots: int, beam: int, room: int, longest: int, n_best: int, keep: bool, columns: int) -> None:
        rows = slots * beam
        self.size = (slots, beam, room, longest, n_best, keep, columns)
        self.model = model
        floats: dict[str, int] = {}
        total = 0

        def floats_at(name: str, count: int) -> int:
            nonlocal total
            where = total
            total += -(-count // 16) * 16
            floats[name] = where
            return where

        e, d = model.encoder, model.decoder
        encoder_at = floats_at("encoder", int(e.widths.sum()) * room)
        decoder_at = floats_at("decoder", int(d.widths.sum()) * rows)
        floats_at("encoder_state", e.state)
        floats_at("state_a", rows * d.state)
        floats_at("state_b", rows * d.state)
        memory = floats_at("memory", slots * model.memory * room)
        tiles = columns // 16 if columns else int(model.output[1])
        floats_at("logits", rows * tiles * 16)
        floats_at("shown", rows * room)
        floats_at("scratch", max(model.widest * 8, room) + 64)
        if keep:
            floats_at("kept", slots * longest * beam * room)
        compact = (columns * (3 + (-(-int(model.output[0]) // 4) if model.int8 else int(model.output[0])))) if columns else 0
        floats_at("compact", slots * compact)
        self.floats = np.zeros(total + 32, np.float32)
        base = self.floats.ctypes.data
        offset = (-base % 64) // 4
        base += 4 * offset
        self.encoder = placed(e.table, e.widths, room, encoder_at)
        self.decoder = placed(d.table, d.widths, rows, decoder_at)

        def place(part: Part, of: Place, first: int, count: int) -> tuple[int, int]:
            starts = np.concatenate([[0], np.cumsum(part.widths * count)])
            return first + int(starts[of.buffer]) + of.column, int(part.widths[of.buffer])

        count = 2 * beam
        self._arrays: list[NDArray[Any]] = []

        def ints(n: int) -> int:
            return self._kept(np.zeros(max(n, 1), np.int64))

        def doubles(n: int) -> int:
            return self._kept(np.zeros(max(n, 1), np.float64))

        g = self.g = np.zeros(len(a.NAMES), np.int64)
        g[a.NUMBERS], g[a.INT8] = model.numbers.ctypes.data, model.int8
        g[a.EMBEDDING_SOURCE], g[a.EMBEDDING_TARGET] = model.source_embedding, model.target_embedding
        g[a.EMBEDDED] = model.embedded
        g[a.ENCODER], g[a.ENCODER_COUNT] = self.encoder.ctypes.data, len(self.encoder)
        g[a.DECODER], g[a.DECODER_COUNT] = self.decoder.ctypes.data, len(self.decoder)
        g[a.ENCODER_STATE], g[a.ENCODER_STATE_ROW], g[a.STATE_ROW] = floats["encoder_state"], e.state, d.state
        g[a.SOURCE_AT], g[a.SOURCE_ROW] = place(e, e.x, encoder_at, room)
        g[a.TARGET_AT], g[a.TARGET_ROW] = place(d, d.x, decoder_at, rows)
        g[a.FEATURES_AT], g[a.FEATURES_ROW] = place(d, d.y, decoder_at, rows)
        for name, value in zip(("INPUTS", "TILES", "WEIGHTS", "SCALES", "SHIFT", "BIAS"), model.output):
            g[getattr(a, f"OUTPUT_{name}")] = value
        g[a.SLOTS], g[a.BEAM], g[a.N_BEST] = slots, beam, n_best
        g[a.FLOATS], g[a.ROOM], g[a.LONGEST] = base, room, longest
        g[a.STATES], g[a.NEXT_STATES] = floats["state_a"], floats["state_b"]
        memories = memory + np.arange(slots) * model.memory * room
        g[a.MEMORIES] = self._kept(memories.astype(np.int64))
        g[a.LOGITS], g[a.LOGITS_ROW] = floats["logits"], tiles * 16
        g[a.SHOWN], g[a.SCRATCH] = floats["shown"], floats["scratch"]
        g[a.KEPT_ATTENTION] = base + 4 * floats["kept"] if keep else 0
        g[a.COMPACT], g[a.COMPACT_SIZE] = base + 4 * floats["compact"], compact
        for name in ("ROW_SLOT", "PICKED"):
            g[getattr(a, name)] = ints(rows)
        for name in ("SOURCE_LENGTHS", "SENTENCE", "WIDTH", "DONE", "FINISHED", "ORDER"):
            g[getattr(a, name)] = ints(slots)
        for name in ("PARENTS", "WORDS"):
            g[getattr(a, name)] = ints(slots * longest * beam)
        for name in ("FINISHED_AT", "FINISHED_ROW", "FINISHED_END"):
            g[getattr(a, name)] = ints(rows)
        for name in ("TOTALS", "FINISHED_TOTAL", "FINISHED_SCORE"):
            g[getattr(a, name)] = doubles(rows)
        g[a.CANDIDATE_SUM] = doubles(count)
        for name in ("CANDIDATE_ROW", "CANDIDATE_COLUMN", "BEST_COLUMN"):
            g[getattr(a, name)] = ints(count)
        g[a.BEST_VALUE] = self._kept(np.zeros(count, np.float32))
        g[a.HISTORY] = ints(longest + 1)
        g[a.COVERED] = doubles(room)

    def _kept(self, array: NDArray[Any]) -> int:
        self._arrays.append(array)
        return array.ctypes.data


@dataclass(frozen=True)
class Found:
    """One output: tokens with ``</s>`` where it ended, its log probability and score, its attention or None."""

    tokens: list[int]
    log_prob: float
    score: float
    attention: NDArray[np.float32] | None


def translate(
    model: Model,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    bos: int,
    eos: int,
    beam: int = 5,
    n_best: int = 1,
    stop: str = "first",
    penalties: NDArray[np.float64],
    coverage: float = 0.0,
    minimum: int = 0,
    forbidden: Sequence[int] = (),
    ngrams: Sequence[int] = (),
    attention: bool = False,
    slots: int = 32,
    columns: Sequence[NDArray[np.int64]] | None = None,
    workspace: Workspace | None = None,
    times: NDArray[np.int64] | None = None,
) -> list[list[Found]]:
    """Search the best outputs of each source; longest first is fastest."""
    if not sources:
        return []
    room, longest = _room(max(map(len, sources))), max(limits)
    slots, keep = min(slots, len(sources)), attention or coverage > 0
    widest = max((-(-len(c) // 64) * 64 for c in columns), default=0) if columns is not None else 0
    if workspace is None:
        workspace = Workspace(
            model, slots=slots, beam=beam, room=room, longest=longest, n_best=n_best, keep=keep, columns=widest
        )
    slots, beam, room, longest, n_best, _, _ = workspace.size
    g = workspace.g
    count = len(sources)
    tokens = np.concatenate([np.asarray(s, np.int64) for s in sources])
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sources])]).astype(np.int64)
    wanted = np.asarray(limits, np.int64)
    outs = count * n_best
    out_count, out_lengths = np.zeros(count, np.int64), np.zeros(outs, np.int64)
    out_tokens = np.zeros(outs * longest, np.int64)
    out_totals, out_scores = np.zeros(outs), np.zeros(outs)
    out_attention = np.zeros(outs * longest * room if attention else 1, np.float32)
    weight, no = np.array([coverage]), np.asarray(list(forbidden) or [0], np.int64)
    sizes = np.asarray(list(ngrams) or [0], np.int64)
    g[a.SENTENCES], g[a.TOKENS], g[a.OFFSETS], g[a.LIMITS] = count, tokens.ctypes.data, offsets.ctypes.data, wanted.ctypes.data
    g[a.BOS], g[a.EOS] = bos, eos
    g[a.COLUMNS] = 0
    if columns is not None:
        flat = np.concatenate(columns)
        starts = np.concatenate([[0], np.cumsum([len(c) for c in columns])]).astype(np.int64)
        g[a.COLUMNS], g[a.COLUMN_OFFSETS] = flat.ctypes.data, starts.ctypes.data
    g[a.STOP] = ("first", "exact", "all").index(stop)
    g[a.COVERAGE], g[a.PENALTIES], g[a.MINIMUM] = weight.ctypes.data, penalties.ctypes.data, minimum
    g[a.FORBIDDEN], g[a.FORBIDDEN_COUNT] = no.ctypes.data, len(forbidden)
    g[a.NGRAMS], g[a.NGRAM_COUNT], g[a.ATTENTION] = sizes.ctypes.data, len(ngrams), attention
    g[a.OUT_COUNT], g[a.OUT_TOKENS], g[a.OUT_LENGTHS] = out_count.ctypes.data, out_tokens.ctypes.data, out_lengths.ctypes.data
    g[a.OUT_TOTALS], g[a.OUT_SCORES], g[a.OUT_ATTENTION] = out_totals.ctypes.data, out_scores.ctypes.data, out_attention.ctypes.data
    g[a.TIMES] = 0
    if times is not None:
        g[a.TIMES], g[a.TIMES_COUNT], g[a.TIMES_ROOM] = times.ctypes.data, 0, len(times)
    if _entry("translate")(g.ctypes.data):
        raise FloatingPointError("NaN")
    found: list[list[Found]] = []
    for index in range(count):
        of_one = []
        for number in range(out_count[index]):
            out = index * n_best + number
            n = int(out_lengths[out])
            weights = None
            if attention:
                block = out_attention.reshape(outs, longest, room)[out]
                weights = block[:n, : len(sources[index])].copy()
            of_one.append(Found(out_tokens[out * longest : out * longest + n].tolist(), float(out_totals[out]), float(out_scores[out]), weights))
        found.append(of_one)
    return found
