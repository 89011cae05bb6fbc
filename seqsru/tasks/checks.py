"""What is refused before a training reads anything: sizes that no memory has, files that are not there."""

from __future__ import annotations

from pathlib import Path

import torch

from seqsru.data.inputs import STANDARD, descriptor
from seqsru.data.room import memory
from seqsru.errors import Refused
from seqsru.regular import size_text
from seqsru.settings import SettingsError, Values
from seqsru.tasks.task import Task, Tokenizers


def check_size(task: Task, tokenizers: Tokenizers) -> None:
    """Refuse a model whose weights alone do not fit into memory, before any of it is asked for."""
    most = memory()
    try:
        with torch.device("meta"):  # shapes only
            model = task.model(tokenizers)
        size = float(sum(p.numel() * p.element_size() for p in model.parameters()))
    except (RuntimeError, TypeError) as error:  # torch's, of numbers that it cannot count with
        if "overflow" not in str(error).lower():
            raise
        size = 2.0**63
    if size > most:
        section = task.settings["model"]
        sizes = {path: value for path, value in section.flat().items() if type(value) is int}
        largest = max(sizes, key=sizes.__getitem__)
        raise section.error(
            Refused(
                f"a model that fits into the memory of {most / 2**30:,.0f} GiB",
                f"{sizes[largest]:,}, which takes {size / 2**30:,.0f} GiB",
                "lower it",
                largest.removeprefix(f"{section.path}."),
            )
        )


def check_vocabulary(task: Task) -> None:
    """Refuse a vocabulary of which one embedding alone does not fit into memory, before any text is read."""
    tokenizer, model = task.settings["tokenizer"], task.settings["model"]
    types = tokenizer.get("vocabulary_size")
    if tokenizer.chosen != "sentencepiece" or types is None:  # the others have as many as the text has
        return
    # A model without an embedding has a bias a type at least.
    size, most = 4.0 * types * model.get("embedding_size", 1), memory()
    if size > most:
        raise tokenizer.error(
            Refused(
                f"embeddings that fit into the memory of {size_text(most)}",
                f"{types:,} pieces, whose own take {size_text(size)}",
                "lower it",
                "vocabulary_size",
            )
        )


def check_files(settings: Values) -> None:
    """Raise a SettingsError naming the line of each data file that is not there, or is none."""
    problems = [
        settings.error(Refused(f"a file at {path}", *wrong, name)).problems[0]
        for name, path in settings["data"].flat().items()
        if isinstance(path, Path) and (wrong := _no_file(path)) is not None
    ]
    if problems:
        raise SettingsError(problems)


def _no_file(path: Path) -> tuple[str, str] | None:
    """What a path is that does not name the same file at every start of a run, and what to do."""
    if str(path) == STANDARD or descriptor(path) is not None:
        return "a stream of this process alone", "save it to a file, a run reads it at every start"
    if path.is_file():
        return None
    if path.is_dir():
        return "a folder", "name a file in it"
    if path.exists():
        return "a pipe or a device", "save it to a file, a run reads it at every start"
    return "none", "check the path"
