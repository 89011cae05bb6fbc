"""What a checkpoint says of the files that a run has only once: its settings and its tokenizers.

Settings have two sums: of the file, and of what it says but for paths, which change where a run or its texts
are moved: whatever lies at a path is told by its own sum when a run goes on.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqsru.settings.places import parse
from seqsru.training.checkpoints import Checkpoint, CheckpointError
from seqsru.training.lock import CONFIG

SETTINGS = f"{CONFIG} but for paths"


def config_sums(content: bytes) -> dict[str, str]:
    """The two sums of settings, by name."""
    try:
        said = json.dumps(_without_paths(parse(content.decode(), str).plain()))
    except ValueError:  # damaged: like nothing else
        said = ""
    return {
        CONFIG: hashlib.sha256(content).hexdigest(),
        SETTINGS: hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest(),
    }


def check_covered(checkpoint: Checkpoint, sums: Mapping[str, str], run: Path) -> None:
    """Refuse files of a run that are not those that a checkpoint was trained with.

    Of settings in which nothing but paths differs a warning says so.

    Parameters
    ----------
    checkpoint : Checkpoint
    sums : mapping of str to str
        What `seqsru.training.RunDirectory.sums_now` gives.
    run : Path
        The run directory.

    Raises
    ------
    CheckpointError
        One differs, or is missing.
    """
    covered = checkpoint.covered
    differing = [name for name, accepted in covered.items() if sums.get(name) not in accepted]
    if differing == [CONFIG] and SETTINGS in covered:
        warnings.warn(
            f"expected {run / CONFIG} as the training wrote it, found other paths in it; "
            "they are used as they are",
            RuntimeWarning,
            stacklevel=2,
        )
        return
    for name in differing:
        file, accepted = CONFIG if name == SETTINGS else name, covered[name]
        raise CheckpointError(
            f"{run / file} as the training wrote it, with sha256 {accepted[-1] if accepted else 'unknown'}",
            sums.get(name, "none"),
            "restore it from a copy; a setting is changed with `seqsru train RUN key=value`",
        )


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_paths(below) for name, below in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return None if isinstance(value, str) and os.path.isabs(value) else value
