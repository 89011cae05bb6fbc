"""The backends of the scans: which there are, the one for a device, and whether each works here."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Literal, get_args

import torch

from seqsru.errors import NotInstalled, Refused, check_threads
from seqsru.ops.calls import IDENTITY

Backend = Literal["auto", "reference", "cpu", "cuda"]
BACKENDS: tuple[str, ...] = get_args(Backend)
# The extra for the CUDA that torch was built with.
EXTRA = "cu12" if (torch.version.cuda or "").startswith("12.") else "cuda"
INSTALL = f'run: pip install "seqsru[{EXTRA}]"'

_loaded: dict[str, ModuleType] = {}


def backend_module(name: str, device: torch.device) -> ModuleType:
    """Import and return the backend `name`, "auto" being the one for `device`.

    Raises
    ------
    Refused
        The backend cannot take tensors of that device.
    NotInstalled
        CUDA without the package numba-cuda.
    """
    kind = device.type
    if name == "auto":
        if kind not in ("cpu", "cuda"):
            raise Refused(
                "tensors on a CPU or CUDA device",
                f"'{device}'",
                "move them to one, or pass backend='reference', which runs anywhere",
            )
        name = kind
    elif name not in ("reference", kind):
        raise Refused(
            f"{name} tensors for backend '{name}'",
            f"tensors on '{device}'",
            "move them there, or pass backend='auto'",
            "backend",
        )
    module = _loaded.get(name)
    if module is None:
        if name == "cuda" and importlib.util.find_spec("numba_cuda") is None:
            raise NotInstalled("the package numba-cuda for the cuda backend", "none installed", INSTALL)
        if name == "cpu":
            _check_numba()
        module = _loaded[name] = importlib.import_module(f"seqsru.ops.{name}")
    return module


def _check_numba() -> None:
    """Refuse what the environment tells Numba and keeps the cpu backend from working."""
    try:
        numba: Any = importlib.import_module("numba")
    except ImportError:
        raise
    except Exception as error:  # what it makes of its environment variables
        do = "check the environment variables whose names begin with NUMBA_"
        raise Refused("settings of Numba that it can be imported with", str(error).rstrip("."), do) from error
    if numba.config.DISABLE_JIT:
        raise Refused(
            "Numba's compiler for backend 'cpu'",
            "NUMBA_DISABLE_JIT=1",
            "unset it, or pass backend='reference'",
        )
    check_threads(NUMBA_NUM_THREADS=numba.config.NUMBA_NUM_THREADS)


def backend_status() -> dict[str, str]:
    """Run each backend once on a tiny scan and say how it went, for ``seqsru doctor``.

    Returns
    -------
    dict
        For each of "reference", "cpu" and "cuda", "ok", or "no: " with the reason and what to do about it.
    """
    return {name: _status(name, torch.device("cuda" if name == "cuda" else "cpu")) for name in BACKENDS[1:]}


def _status(name: str, device: torch.device) -> str:
    try:
        module = backend_module(name, device)
        if name == "cuda" and not torch.cuda.is_available():
            found = "a torch built without CUDA" if torch.version.cuda is None else "no CUDA device"
            return (
                f"no: expected a CUDA build of torch and an NVIDIA GPU with its driver, found {found}; "
                f"install what is missing, or stay on the CPU"
            )
        u = torch.zeros(1, 1, 3, 1, device=device)
        c0, b = torch.ones(1, 1, device=device), torch.zeros(2, 1, device=device)
        h, _, _ = module.sru_forward(u, None, c0, None, b, None, None, IDENTITY, 1.0, False)
        return "ok" if h.item() == 0.25 else f"no: a scan whose result is 0.25 gave {h.item()}; report this"
    except Exception as error:  # whatever keeps a backend from working is what the caller asked to hear
        return f"no: {error}"
