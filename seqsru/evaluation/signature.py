"""The line that stands beside a number and says what it is of, in the manner of sacreBLEU's signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from seqsru import __version__
from seqsru.errors import Refused

if TYPE_CHECKING:  # torch takes a second to import, and not every number needs it
    import torch
    from torch import nn

DIGITS = 12  # hexadecimal ones of a digest


def signature(fields: Mapping[str, object]) -> str:
    """``seqsru VERSION|name:value|…``, in the order given; a field that is None is left out.

    A value may be any text, such as the name of a file: a line end, ``|`` and ``%`` in it are written as an
    address would, ``%0A``, ``%7C`` and ``%25``.

    Raises
    ------
    Refused
        A name holds ``|``, ``:`` or a line end, so that the line could not be read back.
    """
    parts = [f"seqsru {__version__}"]
    for name, value in fields.items():
        if value is None:
            continue
        if any(sign in name for sign in "|:\n"):
            raise Refused("the name of a field without '|', ':' or line end", repr(name), "rename it")
        text = str(value).replace("%", "%25").replace("|", "%7C").replace("\n", "%0A")
        parts.append(f"{name}:{text}")
    return "|".join(parts)


def parameters(model: nn.Module) -> str:
    """Number of trained parameters in millions, each shared one once: ``11.6M``."""
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f}M"


def machine(device: torch.device) -> dict[str, object]:
    """The last fields of every signature: ``torch``, ``device``, ``threads``."""
    import torch

    version = torch.__version__.split("+")[0]
    return {"torch": version, "device": device.type, "threads": torch.get_num_threads()}
