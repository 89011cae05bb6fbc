"""State dictionaries of other packages: what every reader of them needs, and refusals that name the key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from seqsru.errors import Refused

Module = TypeVar("Module", bound=nn.Module)
Shape = tuple[int | str, ...]  # a text is any size, and names it

CHECK_FILE = "check the file, and that the arguments are those it was trained with"


class StateDict:
    """Tensors of a state dictionary by key, each checked as it is read.

    Parameters
    ----------
    tensors : mapping of str to Tensor
        The dictionary.
    pattern : re.Pattern
        What every key has to match as a whole.
    needed : str
        A key that has to be there.

    Attributes
    ----------
    matches : list of re.Match
        Of every key.

    Raises
    ------
    Refused
        The needed key is missing, or there is one that does not match.
    """

    def __init__(self, tensors: Mapping[str, Tensor], pattern: re.Pattern[str], needed: str) -> None:
        self.tensors = tensors
        self.matches: list[re.Match[str]] = []
        if needed not in tensors:
            raise missing(needed, tensors)
        left_over = []
        for key in tensors:
            match = pattern.fullmatch(key)
            if match:
                self.matches.append(match)
            else:
                left_over.append(key)
        check_nothing_left(left_over)

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def __call__(self, key: str, *shape: int | str) -> Tensor:
        """Return a tensor that has to be there, of this shape."""
        if key not in self.tensors:
            raise missing(key, self.tensors)
        check_shape(key, self.tensors[key].shape, shape)
        return self.tensors[key]

    def layers(self, group: int | str = "layer") -> int:
        """Return the number of layers, from the numbers that a group of the pattern caught."""
        return 1 + max(int(match[group]) for match in self.matches if match[group])


def refused(expected: str, found: str, do: str) -> Refused:
    """Return the refusal of a state dictionary."""
    return Refused(expected, found, do, "state_dict")


def missing(key: str, present: Iterable[str], where: str = "") -> Refused:
    """Return the refusal of a dictionary without a key, or of a part of one, `where` says which."""
    return refused(
        key,
        f"only {some(present)} {where}" if where else some(present),
        "pass the whole state dictionary of the module itself, without a larger one's prefix",
    )


def check_nothing_left(keys: Iterable[str]) -> None:
    """Refuse keys that stand for nothing here."""
    keys = list(keys)
    if keys:
        raise refused(
            "the keys of such a module",
            f"also {some(keys)}",
            "remove what has no counterpart here, and the prefix of a larger module from the others",
        )


def check_shape(key: str, found: Iterable[int], shape: Shape) -> None:
    """Refuse a tensor of another shape, named by its key."""
    found = tuple(found)
    if len(found) != len(shape) or any(
        not isinstance(wanted, str) and wanted != size for wanted, size in zip(shape, found)
    ):
        wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise refused(f"{key} of shape ({wanted})", str(found), CHECK_FILE)


def some(keys: Iterable[str]) -> str:
    """Return the first keys as text."""
    listed = [repr(key) for key in keys]
    more = f" and {len(listed) - 4} more" if len(listed) > 4 else ""
    return ", ".join(listed[:4]) + more if listed else "nothing"


def filled(module: Module, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Module:
    """Return the module in this dtype, with the tensors as its state dictionary."""
    module = module.to(dtype)
    module.load_state_dict(tensors)
    return module
