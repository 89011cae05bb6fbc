"""One file that holds all a decoder needs: packed weights, programs, tokenizers, shortlist and settings.

It is a safetensors file. The metadata's ``seqsru`` is a JSON record, which names the format, the sizes of the
model and what the tokenizers and the task have to say, and carries the sha256 of everything else. Nothing in
the file depends on the processor.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqsru.engine.checks import check_model
from seqsru.engine.model import Model, Part
from seqsru.engine.program import FIELDS, Place, aligned
from seqsru.errors import NotFound, Refused

FORMAT = 1
SUFFIX = ".seqsru"
_PARTS = ("encoder", "decoder")
_WRONG = (ValueError, KeyError, TypeError, IndexError, OverflowError)  # what comes of reading what is wrong
_SIZES = (
    "memory",
    "source_embedding",
    "target_embedding",
    "embedded",
    "source_vocabulary",
    "vocabulary",
    "widest",
)
MOST_BYTES = 16 * 2**30  # more than any model that one core decodes with


@dataclass(frozen=True, eq=False)
class Package:
    """What a file holds.

    Attributes
    ----------
    model : Model
    files : mapping of str to bytes
        Other files, by name: the tokenizers'.
    tensors : mapping of str to ndarray
        Of the shortlist; empty without one.
    record : dict
        Plain JSON values of whoever wrote it: the task and its settings.
    """

    model: Model
    files: Mapping[str, bytes]
    tensors: Mapping[str, NDArray[Any]]
    record: dict[str, Any]


def is_package(path: str | os.PathLike[str]) -> bool:
    """Say whether a path is a file, as a run, which is a folder, is not."""
    return Path(path).is_file()


def dumps(package: Package) -> bytes:
    """Return the content of a file."""
    from safetensors.numpy import save

    model = package.model
    tensors: dict[str, NDArray[Any]] = {"numbers": model.numbers, "output": model.output}
    sizes: dict[str, Any] = {name: getattr(model, name) for name in _SIZES} | {"int8": model.int8}
    for name in _PARTS:
        part: Part = getattr(model, name)
        tensors |= {f"{name}.table": part.table, f"{name}.widths": part.widths}
        sizes[name] = [part.state, part.x.buffer, part.x.column, part.y.buffer, part.y.column]
    tensors |= {f"shortlist.{name}": value for name, value in package.tensors.items()}
    tensors |= {f"file.{name}": np.frombuffer(content, np.uint8) for name, content in package.files.items()}
    record = {"format": FORMAT, "sizes": sizes, "record": package.record}
    record["sha256"] = _sum(tensors, record)
    return save(tensors, {"seqsru": json.dumps(record, ensure_ascii=False, sort_keys=True)})


def load(path: str | os.PathLike[str]) -> Package:
    """Read a file, and verify it.

    Raises
    ------
    NotFound
        There is none.
    Refused
        It is damaged, of another format, or none that the engine can run.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise NotFound(f"a file of `seqsru quantize` at {path}", "none", "check the path")
    if path.stat().st_size > MOST_BYTES:
        raise _damaged(path, f"at most {MOST_BYTES} bytes", f"{path.stat().st_size}")
    try:
        with safe_open(path, framework="numpy") as opened:
            metadata = (opened.metadata() or {}).get("seqsru")
            if metadata is None:
                raise _damaged(path, "a file of `seqsru quantize`", "another safetensors file")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}
        record = json.loads(metadata)
        form = record["format"]
        stated = record.pop("sha256")
        found = _sum(tensors, record)
    except _WRONG + (SafetensorError, OSError, AttributeError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise _damaged(
            path, "a whole file of `seqsru quantize`", f"one that cannot be read ({error})"
        ) from None
    if form != FORMAT:
        raise Refused(
            f"format {FORMAT} in {path}", repr(form), "quantise the run again with this version of seqsru"
        )
    if found != stated:
        raise _damaged(path, "the content that its checksum was made of", "another")
    try:
        model, rest = _model(tensors, record["sizes"]), record["record"]
    except _WRONG as error:
        raise _damaged(path, "a model that the engine can run", f"none ({error})") from None
    return Package(
        model,
        {name.removeprefix("file."): t.tobytes() for name, t in tensors.items() if name.startswith("file.")},
        {name.removeprefix("shortlist."): t for name, t in tensors.items() if name.startswith("shortlist.")},
        rest,
    )


def _model(tensors: Mapping[str, NDArray[Any]], sizes: Mapping[str, Any]) -> Model:
    parts: dict[str, Any] = {}
    for name in _PARTS:
        table, widths = tensors[f"{name}.table"], tensors[f"{name}.widths"]
        state, *places = (int(value) for value in sizes[name])
        if table.dtype != np.int64 or widths.dtype != np.int64 or table.shape[1:] != (FIELDS,):
            raise ValueError(f"{name} is no program")
        parts[name] = Part(table, widths, state, Place(*places[:2]), Place(*places[2:]))
    numbers, output = tensors["numbers"], tensors["output"]
    if numbers.dtype != np.float32 or numbers.ndim != 1 or output.dtype != np.int64:
        raise ValueError("numbers are not float32, or the output no product")
    model = Model(
        numbers=aligned(numbers),
        int8=bool(sizes["int8"]),
        output=output,
        encoder=parts["encoder"],
        decoder=parts["decoder"],
        **{name: int(sizes[name]) for name in _SIZES},
    )
    check_model(model)
    return model


def _sum(tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> str:
    total = hashlib.sha256(json.dumps(record, ensure_ascii=False, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        total.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        total.update(tensor.data)
    return total.hexdigest()


def _damaged(path: Path, expected: str, found: str) -> Refused:
    return Refused(f"{expected} at {path}", found, "copy it again, or make it with `seqsru quantize`")
