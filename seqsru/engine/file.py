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
from seqsru.engine.program import FIELDS, Place
from seqsru.engine.tensor_file import MOST_BYTES, is_regular, read
from seqsru.engine.workspace import check_memory
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
    """Say whether a path is a file, whatever it holds, as a run, which is a folder, is not."""
    path = Path(path)
    return path.exists() and not path.is_dir()


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
    record["sha256"] = checksum(tensors, record)
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
    path = Path(path)
    if not path.exists() or path.is_dir():
        raise NotFound(f"a file of `seqsru quantize` at {path}", "none", "check the path")
    if not is_regular(path):
        do = "save it to a file, and name that"
        raise Refused(f"a file of `seqsru quantize` at {path}", "a pipe, a device or a socket", do)
    if path.stat().st_size > MOST_BYTES:
        raise _damaged(path, f"at most {MOST_BYTES} bytes", f"{path.stat().st_size}")
    try:
        check_memory(path.stat().st_size)
        metadata, tensors = read(path, "numbers")
        if "seqsru" not in metadata:
            raise _damaged(path, "a file of `seqsru quantize`", "another safetensors file")
        record = json.loads(metadata["seqsru"])
        form = record["format"]
        stated = record.pop("sha256")
        found = checksum(tensors, record)
    except MemoryError:
        raise Refused(
            f"a file that fits in memory at {path}",
            f"{path.stat().st_size} bytes",
            "take a machine with more, or quantise a smaller model",
        ) from None
    except _WRONG + (OSError, AttributeError, RecursionError) as error:
        if isinstance(error, Refused):
            raise
        raise _damaged(
            path, "a whole file of `seqsru quantize`", f"one that cannot be read ({_short(error)})"
        ) from None
    if type(form) is not int or form != FORMAT:
        raise Refused(
            f"format {FORMAT} in {path}", repr(form), "quantise the run again with this version of seqsru"
        )
    if found != stated:
        raise _damaged(path, "the content that its checksum was made of", "another")
    try:
        model, rest = _model(tensors, record["sizes"]), record["record"]
        if not isinstance(rest, dict):
            raise ValueError("a record that is no object")
        files, others = _named(tensors, "file."), _named(tensors, "shortlist.")
        if any(content.dtype != np.uint8 for content in files.values()):
            raise ValueError("files that are no bytes")
    except _WRONG as error:
        raise _damaged(path, "a model that the engine can run", f"none ({_short(error)})") from None
    return Package(model, {name: content.tobytes() for name, content in files.items()}, others, rest)


def _named(tensors: Mapping[str, NDArray[Any]], begin: str) -> dict[str, NDArray[Any]]:
    """Return the tensors whose names begin so, by the rest of their names."""
    return {name[len(begin) :]: tensor for name, tensor in tensors.items() if name.startswith(begin)}


def _short(error: BaseException) -> str:
    """Return what an error says, in one line."""
    text = " ".join(str(error).split())
    return text if len(text) <= 100 else text[:97] + "..."


def _model(tensors: Mapping[str, NDArray[Any]], sizes: Mapping[str, Any]) -> Model:
    parts: dict[str, Any] = {}
    for name in _PARTS:
        table, widths = tensors[f"{name}.table"], tensors[f"{name}.widths"]
        state, *places = map(_whole, sizes[name])
        if table.dtype != np.int64 or widths.dtype != np.int64 or table.shape[1:] != (FIELDS,):
            raise ValueError(f"{name} is no program")
        parts[name] = Part(table, widths, state, Place(*places[:2]), Place(*places[2:]))
    numbers, output = tensors["numbers"], tensors["output"]
    if not isinstance(sizes["int8"], bool):
        raise ValueError("int8 is neither true nor false")
    if numbers.dtype != np.float32 or numbers.ndim != 1 or output.dtype != np.int64:
        raise ValueError("numbers are not float32, or the output no product")
    model = Model(
        numbers=numbers,
        int8=sizes["int8"],
        output=output,
        encoder=parts["encoder"],
        decoder=parts["decoder"],
        **{name: _whole(sizes[name]) for name in _SIZES},
    )
    check_model(model)
    return model


def _whole(value: Any) -> int:
    if type(value) is not int:  # bool is one too
        raise ValueError(f"{value!r} is no whole number")
    return value


def checksum(tensors: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> str:
    """Return the sha256 of tensors and of a record without one."""
    total = hashlib.sha256(json.dumps(record, ensure_ascii=False, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        total.update(f"\n{name} {tensor.dtype} {tensor.shape}\n".encode())
        total.update(tensor.data)
    return total.hexdigest()


def _damaged(path: Path, expected: str, found: str) -> Refused:
    return Refused(f"{expected} at {path}", found, "copy it again, or make it with `seqsru quantize`")
