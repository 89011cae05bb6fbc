"""Reading a safetensors file: once, through limits, into memory that compiled code can use as it is.

The format is a header's length in 8 bytes, the header, which is JSON, and the tensors' bytes end to end. The
library of that name reads it too, in two copies; this takes none, and trusts nothing.
"""

from __future__ import annotations

import json
import os
import stat
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 16 * 2**30  # more than any model that one core decodes with
MOST_HEADER = 4 * 2**20  # far more than all settings and rules that anyone wrote down
ALIGNED = 64

_KINDS = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def is_regular(path: Path) -> bool:
    """Say whether a path leads to a regular file: reading anything else may never end."""
    return stat.S_ISREG(os.stat(path).st_mode)


def read(path: Path, first: str) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Read a file.

    Parameters
    ----------
    path : Path
        Of a regular file of at most `MOST_BYTES`.
    first : str
        Name of the tensor that is to begin at a multiple of `ALIGNED` bytes; each other one is a copy.

    Returns
    -------
    metadata : dict of str to str
    tensors : dict of str to ndarray

    Raises
    ------
    ValueError, KeyError, TypeError, RecursionError, OverflowError
        It is none, or damaged.
    OSError
        It cannot be read.
    MemoryError
        There is no room for it.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("a header that is no object")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("metadata that is no text")
        places = _places(header, size - 8 - length)
        ahead = places[first][2] if first in places else 0
        room = np.empty(size - 8 - length + ALIGNED, np.uint8)
        begin = -(room.ctypes.data + ahead) % ALIGNED
        content = room[begin : begin + size - 8 - length]
        if file.readinto(content.data) != len(content):
            raise ValueError("a file that ends too early")
    tensors = {}
    for name, (kind, shape, start, end) in places.items():
        tensor = content[start:end]
        tensors[name] = (tensor if name == first else tensor.copy()).view(kind).reshape(shape)
    return metadata, tensors


def _places(header: dict[str, Any], size: int) -> dict[str, tuple[Any, list[int], int, int]]:
    """Return kind, shape, and first and last byte of each tensor; together they are all `size` bytes."""
    places = {}
    for name, entry in header.items():
        kind, shape, (start, end) = np.dtype(_KINDS[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if len(entry) != 3 or not all(type(n) is int and 0 <= n <= MOST_BYTES for n in (*shape, start, end)):
            raise ValueError(f"the entry of {name!r}")
        if len(shape) > 8 or end - start != prod(shape) * kind.itemsize:
            raise ValueError(f"the size of {name!r}")
        places[name] = (kind, shape, start, end)
    reached = 0
    for name, (_, _, start, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if start != reached:
            raise ValueError(f"bytes of nobody or of two before {name!r}")
        reached = end
    if reached != size:
        raise ValueError(f"{size} bytes of tensors, where the header has {reached}")
    return places
