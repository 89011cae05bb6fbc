"""Where a number was measured: machine, threads, load, versions, and which weights."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:  # torch takes a second to import, and not every measurement needs it
    import torch
    from torch import nn

PACKAGES = ("seqsru", "torch", "numba", "numba-cuda", "numpy", "sentencepiece", "sacrebleu", "safetensors")


class Environment(TypedDict):
    """The machine of a measurement; what an operating system does not tell is None.

    ``threads`` are torch's, ``affinity`` the cores that this process may use, ``load_average`` of 1, 5 and 15
    minutes, ``versions`` of the installed packages.
    """

    device: str
    device_name: str
    cpu: str
    cores: int | None
    threads: int
    affinity: list[int] | None
    load_average: list[float] | None
    system: str
    python: str
    versions: dict[str, str]


def environment(device: torch.device | None) -> Environment:
    """Describe the machine a measurement runs on, at the moment of the call.

    Parameters
    ----------
    device : torch.device or None
        Device that holds the model; None is the CPU with one thread, which torch has no part in.

    Returns
    -------
    Environment
        JSON-able.
    """
    name, threads = cpu_name(), 1
    if device is not None:
        import torch

        threads = torch.get_num_threads()
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else name
    return {
        "device": "cpu" if device is None else device.type,
        "device_name": name,
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": threads,
        "affinity": sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        "load_average": [round(load, 2) for load in os.getloadavg()] if sys.platform != "win32" else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": installed_versions(),
    }


def cpu_name() -> str:
    """Model name of the processor, as the operating system gives it."""
    if sys.platform == "linux" and os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def installed_versions() -> dict[str, str]:
    """Version of each package that a measurement may depend on; one that is not installed is left out."""
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return installed


def weights_hash(model: nn.Module) -> str:
    """First 16 hexadecimal digits of the sha256 over a model's tensors, in name order.

    Names, shapes, dtypes and bytes all count, so two models share a hash only if they compute the same thing.
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        data = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(data.shape)} {data.dtype}\n".encode())
        digest.update(data.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
