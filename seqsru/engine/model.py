"""A model as the engine has it: numbers, and the programs that read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from seqsru.engine.packing import LANES
from seqsru.engine.program import Place


@dataclass(frozen=True, eq=False)
class Part:
    """One of a model's programs.

    Attributes
    ----------
    table : int64 ndarray of shape (operations, FIELDS)
        Buffers by number.
    widths : int64 ndarray of shape (buffers,)
    state : int
        Numbers in the state of a row.
    x, y : Place
        Where the program reads, and where it leaves its result.
    """

    table: NDArray[np.int64]
    widths: NDArray[np.int64]
    state: int
    x: Place
    y: Place


NOTHING = Part(np.zeros((0, 16), np.int64), np.zeros(0, np.int64), 0, Place(0), Place(0))


@dataclass(frozen=True, eq=False)
class Model:
    """A translator's or a language model's numbers and programs.

    Attributes
    ----------
    numbers : float32 ndarray
        Everything that was learned, packed; aligned to 64 bytes.
    int8 : bool
        Whether products have int8 weights.
    encoder : Part
        Reads a source; empty for a language model.
    decoder : Part
    memory : int
        Numbers that are kept for each position of a source.
    output : int64 ndarray of shape (6,)
        Inputs, tiles, and the places of weights, scales, shift and bias of the output product.
    source_embedding, target_embedding : int
        Where rows of `embedded` numbers stand.
    embedded : int
        Features of an embedding.
    source_vocabulary, vocabulary : int
        Types of the source, and of the target.
    widest : int
        Most inputs of a product.
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
    source_vocabulary: int
    vocabulary: int
    widest: int

    @property
    def precision(self) -> str:
        """int8 or float32: of the weights."""
        return "int8" if self.int8 else "float32"

    @cached_property
    def output_rows(self) -> NDArray[np.float32]:
        """The weights of the output product, a row a token, that shortlists are gathered from."""
        inputs, tiles, weights = self.output[:3].tolist()
        depth = -(-inputs // 4) if self.int8 else inputs
        packed = self.numbers[weights : weights + tiles * depth * LANES].reshape(tiles, depth, LANES)
        return np.ascontiguousarray(packed.transpose(0, 2, 1)).reshape(-1)
