"""Settings that tasks share: tokenizers, cells and stacks, and what a signature calls them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from seqsru.cells import CELLS, Stack
from seqsru.data import TOKENIZERS, Tokenizer, load_tokenizer
from seqsru.errors import Refused, check_at_least
from seqsru.settings import Choice, Section, Values, from_signature, registry


def tokenizer_section() -> Choice:
    """A tokenizer to train, of any kind, or those of another run."""
    return registry(
        {**{name: kind.train for name, kind in TOKENIZERS.items()}, "saved": saved}, skip=["lines", "file"]
    )


def saved(file: str, *, run: Path) -> Tokenizer:
    """The tokenizer of another run, as it is.

    Parameters
    ----------
    file : str
        Name of its file.
    run : Path
        The other run's directory.
    """
    try:
        return load_tokenizer(run, file)
    except Refused as refusal:
        raise Refused(refusal.expected, refusal.found, refusal.do, "run") from refusal


def new_tokenizer(values: Values, lines: Iterable[str], file: str) -> Tokenizer:
    """The tokenizer that the settings ask for."""
    given = {"file": file} if values.chosen == "saved" else {"lines": lines}
    tokenizer: Tokenizer = values.make(**given)
    return tokenizer


def embedding_size(model: Values) -> int:
    """The features of an embedding, which what reads it is made for."""
    with model.blamed():
        check_at_least(1, embedding_size=model["embedding_size"])
    size: int = model["embedding_size"]
    return size


def cell_section() -> Choice:
    """The cells with the options that are left to the user, for a parameter ``cell`` beside ``options``."""
    return Choice(
        {
            name: from_signature(cell, skip=["input_size", "hidden_size", *cell.set_by_stack])
            for name, cell in CELLS.items()
        },
        options="options",
    )


def stack_section() -> Section:
    """Settings of a `Stack`, its cell a section of its own."""
    return from_signature(Stack, skip=["input_size"], sections={"cell": cell_section()})


def cell_name(values: Values) -> str:
    """What a signature calls the cell of a stack's settings: ``sru-v2``, ``lstm``."""
    cell: Values = values["cell"]
    return f"{cell.chosen}-v{cell['version']}" if "version" in cell else cell.chosen
