"""The memory that compiled calls work in, and where in it everything is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.engine import layout as a
from seqsru.engine import program as p
from seqsru.engine.model import Model, Part
from seqsru.engine.packing import GROUP, LANES, MOST_ROWS, product_room
from seqsru.engine.program import Place, placed

# Bytes that sentences decoded at once may read at a step, besides weights: what a core has of the last cache
# for sure. With more the memory behind it is what limits a step; results do not depend on it.
CACHED = 6 * 2**20
SCORED = 12  # rows of scores at once when given tokens are scored: two blocks of a product


@dataclass(frozen=True)
class Size:
    """How much room a call needs.

    Parameters
    ----------
    slots : int
        Sentences at once.
    beam : int
        Hypotheses of each.
    room : int
        Positions of the longest source.
    longest : int
        Tokens of the longest output.
    steps : int
        Given tokens of the longest sentence that the decoder reads at once.
    n_best : int
        Outputs of each.
    keep : bool
        Whether weights of attention are kept.
    columns : int
        Types of the largest shortlist; 0 without.
    """

    slots: int = 1
    beam: int = 1
    room: int = 1
    longest: int = 1
    steps: int = 1
    n_best: int = 1
    keep: bool = False
    columns: int = 0

    def covers(self, other: Size) -> bool:
        """Say whether a workspace of this size does for the other.

        What numbers a call goes by, the beam and the outputs of a sentence above all, has to be the same.
        """
        same = ("beam", "n_best", "keep")
        least = ("slots", "room", "longest", "steps", "columns")
        return (
            all(getattr(self, name) == getattr(other, name) for name in same)
            and all(getattr(self, name) >= getattr(other, name) for name in least)
            and (self.columns > 0) == (other.columns > 0)
        )

    def rounded(self) -> Size:
        """Return a size that sentences a little longer fit in too."""
        return Size(
            self.slots,
            self.beam,
            _up(self.room, LANES),
            _up(self.longest, LANES),
            _up(self.steps, LANES),
            self.n_best,
            self.keep,
            _up(self.columns, GROUP),
        )


class Workspace:
    """Memory for calls of a model, made once and used for all that fit.

    Parameters
    ----------
    model : Model
    size : Size
        Rounded up.

    Attributes
    ----------
    g : int64 ndarray
        What the compiled functions are given; see `layout`.
    """

    def __init__(self, model: Model, size: Size) -> None:
        size = size.rounded()
        self.model, self.size = model, size
        rows = max(size.slots * size.beam, size.steps)
        live = size.slots * size.beam
        encoder, decoder, output = model.encoder, model.decoder, model.output
        tiles = size.columns // LANES if size.columns else int(output[1])
        depth = -(-int(output[0]) // 4) if model.int8 else int(output[0])
        compact = size.columns * (3 + depth)
        counts = {
            "encoder": int(encoder.widths.sum()) * size.room,
            "decoder": int(decoder.widths.sum()) * rows,
            "encoder_state": encoder.state,
            "states": live * decoder.state,
            "next_states": live * decoder.state,
            "memory": size.slots * model.memory * size.room,
            "logits": max(live, SCORED) * max(tiles, int(output[1])) * LANES,
            "shown": rows * size.room,
            "scratch": max(product_room(model.widest), _heads(model) * size.room),
            "kept": size.slots * size.longest * size.beam * size.room if size.keep else 0,
            "compact": size.slots * compact,
        }
        check_memory(4 * sum(counts.values()) + 16 * size.slots * size.longest * size.beam)
        places = dict(zip(counts, np.cumsum([0, *(_up(n, LANES) for n in counts.values())]).tolist()))
        self._floats = np.zeros(places["compact"] + counts["compact"] + 2 * LANES, np.float32)
        base = -(-self._floats.ctypes.data // 64) * 64
        self._arrays: list[NDArray[Any]] = []
        self.g = g = np.zeros(len(a.NAMES), np.int64)
        g[a.NUMBERS], g[a.INT8] = model.numbers.ctypes.data, model.int8
        g[a.EMBEDDING_SOURCE], g[a.EMBEDDING_TARGET] = model.source_embedding, model.target_embedding
        g[a.EMBEDDED], g[a.VOCABULARY] = model.embedded, model.vocabulary
        for name, part, count in (("ENCODER", encoder, size.room), ("DECODER", decoder, rows)):
            table = placed(part.table, part.widths, count, places[name.lower()])
            self._set(**{name: self._kept(table), f"{name}_COUNT": len(table)})
        self._set(
            ENCODER_STATE=places["encoder_state"], ENCODER_STATE_ROW=encoder.state, STATE_ROW=decoder.state
        )
        for name, part, place, count in (
            ("SOURCE", encoder, encoder.x, size.room),
            ("TARGET", decoder, decoder.x, rows),
            ("FEATURES", decoder, decoder.y, rows),
        ):
            first = places["encoder" if part is encoder else "decoder"]
            where, row = _located(part, place, count)
            self._set(**{f"{name}_AT": first + where, f"{name}_ROW": row})
        for name, value in zip(("INPUTS", "TILES", "WEIGHTS", "SCALES", "SHIFT", "BIAS"), output.tolist()):
            self._set(**{f"OUTPUT_{name}": value})
        memories = places["memory"] + np.arange(size.slots, dtype=np.int64) * model.memory * size.room
        self._set(
            BEAM=size.beam,
            N_BEST=size.n_best,
            SLOTS=size.slots,
            FLOATS=base,
            ROOM=size.room,
            LONGEST=size.longest,
            STATES=places["states"],
            NEXT_STATES=places["next_states"],
            MEMORIES=self._kept(memories),
            LOGITS=places["logits"],
            LOGITS_ROW=max(tiles, int(output[1])) * LANES,
            SHOWN=places["shown"],
            SCRATCH=places["scratch"],
            KEPT_ATTENTION=base + 4 * places["kept"] if size.keep else 0,
            COMPACT=base + 4 * places["compact"],
            COMPACT_SIZE=compact,
            BLOCK=SCORED,
            OUTPUT_ROWS=model.output_rows.ctypes.data if size.columns else 0,
        )
        candidates, history = 2 * size.beam, size.slots * size.longest * size.beam
        self._integers(max(rows, 1), "ROW_SLOT", "PICKED")
        self._integers(size.slots, "SOURCE_LENGTHS", "SENTENCE", "WIDTH", "DONE", "FINISHED", "ORDER")
        self._integers(history, "PARENTS", "WORDS")
        self._integers(live, "FINISHED_AT", "FINISHED_ROW", "FINISHED_END")
        self._integers(candidates, "CANDIDATE_ROW", "CANDIDATE_COLUMN", "BEST_COLUMN")
        self._integers(size.longest + 1, "HISTORY")
        self._integers(model.vocabulary + a.BINS, "CHOICES")
        for count, names in (
            (live, ("TOTALS", "FINISHED_TOTAL", "FINISHED_SCORE")),
            (candidates, ("CANDIDATE_SUM",)),
            (size.room, ("COVERED",)),
            (model.vocabulary + a.BINS, ("EXPONENTIALS",)),
        ):
            self._set(**{name: self._kept(np.zeros(count, np.float64)) for name in names})
        self._set(BEST_VALUE=self._kept(np.zeros(candidates, np.float32)))

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            self.g[a.PLACES[name]] = value

    def _kept(self, array: NDArray[Any]) -> int:
        self._arrays.append(array)
        return array.ctypes.data

    def _integers(self, count: int, *names: str) -> None:
        self._set(**{name: self._kept(np.zeros(count, np.int64)) for name in names})


def together(model: Model, size: Size) -> int:
    """Return how many of the sentences that may be decoded at once are to be: as many as the cache holds.

    Where the weights of a step are more than that, so many that these are not most of what a step reads.
    Whole blocks of rows of a product, since a step costs as much with fewer.
    """
    size = size.rounded()
    depth = -(-int(model.output[0]) // 4) if model.int8 else int(model.output[0])
    each = 4 * (model.memory * size.room + size.columns * (3 + depth) + 2 * size.beam * model.decoder.state)
    block = -(-MOST_ROWS // size.beam)
    most: int = max(1, max(CACHED, _weights(model, size)) // max(each, 1) // block) * block
    return min(size.slots, most)


def _weights(model: Model, size: Size) -> int:
    """Return the bytes of the weights that a step reads, those of a shortlist apart."""
    values = 0 if size.columns else int(model.output[0]) * int(model.output[1])
    for row in model.decoder.table:
        if row[p.CODE] in (p.PRODUCT, p.LSTM, p.GRU):
            values += int(row[p.A]) * int(row[p.B if row[p.CODE] == p.PRODUCT else p.C])
    return values * LANES * (1 if model.int8 else 4)


def _heads(model: Model) -> int:
    """Return the most heads of an attention, each of which has a row of scores; at least 1."""
    return max([1, *(int(row[p.B]) for row in model.decoder.table if row[p.CODE] == p.DOT)])


def check_memory(needed: int) -> None:
    """Raise a MemoryError for more than the machine has: the system would promise it, and end the process."""
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # Windows has none, and no such check
        if needed > os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"):
            raise MemoryError


def _located(part: Part, place: Place, count: int) -> tuple[int, int]:
    """Return where a place is in the buffers of a program, each of so many rows, and the distance of rows."""
    if not len(part.widths):
        return 0, 0
    before = int(part.widths[: place.buffer].sum()) * count
    return before + place.column, int(part.widths[place.buffer])


def _up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
