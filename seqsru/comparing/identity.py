"""What made a result: which sources of the package, on which machine. Others are never put beside it."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import torch

from seqsru import __version__, runs
from seqsru.evaluation.environment import cpu_name
from seqsru.evaluation.signature import DIGITS
from seqsru.settings import Values


def sources(package: Path | None = None) -> str:
    """The version, and the first digits of the sha256 over every Python file of the package.

    A version may stand for any number of states of the sources, and an installed package has no commit.
    """
    folder = Path(__file__).parent.parent if package is None else package
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return f"{__version__},{digest.hexdigest()[:DIGITS]}"


def machine(settings: Values) -> dict[str, Any]:
    """What the time and the last bits of a training depend on, besides its settings."""
    device = runs.choose_device(settings["device"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": settings["training"]["threads"] or torch.get_num_threads(),
        "device": name,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def differing(now: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """What is different, in words: ``threads 2 instead of 1``."""
    names = [*now, *(name for name in before if name not in now)]
    return [f"{n} {now.get(n)} instead of {before.get(n)}" for n in names if now.get(n) != before.get(n)]
