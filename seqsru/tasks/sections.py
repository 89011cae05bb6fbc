"""Settings that tasks share: tokenizers, cells and stacks, and what a signature calls them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from seqsru.cells import CELLS, Stack
from seqsru.data import TOKENIZERS, LineReport, Pieces, Tokenizer, load_tokenizer
from seqsru.errors import Refused, check_at_least
from seqsru.models.attention import ATTENTIONS
from seqsru.models.decoder import Decoder
from seqsru.settings import Choice, Section, Values, from_signature, registry


def tokenizer_section(*, skip: Iterable[str] = ("target_model",)) -> Choice:
    """A tokenizer to train, of any kind, those of another run, or a model that sentencepiece made."""
    taken: dict[str, Callable[..., Tokenizer]] = {
        "sentencepiece_model": sentencepiece_model,
        "saved": saved,
    }
    return registry(
        {**{name: kind.train for name, kind in TOKENIZERS.items()}, **taken},
        skip=["lines", "file", "report", *skip],
    )


def sentencepiece_model(
    file: str, *, model: Path, target_model: Path | None = None, vocabulary_size: int | None = None
) -> Pieces:
    """A model that sentencepiece trained, copied into the run.

    Parameters
    ----------
    file : str
        Name of the tokenizer's file.
    model : Path
        A .model file of spm_train with an end of sentence.
    target_model : Path, optional
        That of the target language, where joint is false; null takes `model` for both.
    vocabulary_size : int, optional
        How many pieces it must have; null takes as many as there are.
    """
    path, setting = model, "model"
    if target_model is not None:
        if file == "tokenizer":
            do = "set joint to false, or leave it out"
            raise Refused("one model with joint true", f"another, {target_model}", do, "target_model")
        if file == "target":
            path, setting = target_model, "target_model"
    try:
        pieces = Pieces.read(path)
    except Refused as refusal:
        raise Refused(refusal.expected, refusal.found, refusal.do, setting) from refusal
    if vocabulary_size not in (None, pieces.size):
        do = f"change it to {pieces.size}, or leave it out"
        raise Refused(f"the {pieces.size} pieces of {path}", str(vocabulary_size), do, "vocabulary_size")
    return pieces


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


def new_tokenizer(values: Values, lines: Iterable[str], file: str, report: LineReport) -> Tokenizer:
    """The tokenizer that the settings ask for; what a training leaves out of the lines goes to the report."""
    (maker,) = values.section.makers
    wanted = inspect.signature(maker.function).parameters
    given = {"lines": lines, "file": file, "report": report}
    tokenizer: Tokenizer = values.make(**{name: value for name, value in given.items() if name in wanted})
    return tokenizer


def check_tokenizer(values: Values, file: str) -> None:
    """Refuse settings that no text could mend: every kind looks at them before it reads the first line."""

    class Reading(Exception):
        pass

    def unread() -> Iterator[str]:
        raise Reading
        yield

    with suppress(Reading):
        new_tokenizer(values, unread(), file, LineReport(file))


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


def decoder_section() -> Section:
    """Settings of a `Decoder`, its cell and its attention sections of their own."""
    attention = registry(
        ATTENTIONS, skip=["query_size", "memory_size", "output_size"], options="attention_options"
    )
    sections = {"cell": cell_section(), "attention": attention}
    return from_signature(Decoder, skip=["input_size", "memory_size"], sections=sections)


def cell_name(values: Values) -> str:
    """What a signature calls the cell of a stack's settings: ``sru-v2``, ``lstm``."""
    cell: Values = values["cell"]
    return f"{cell.chosen}-v{cell['version']}" if "version" in cell else cell.chosen
