"""What a language model answers to the commands; nothing here needs torch."""

# Annotations are read at run time: the arguments of the functions are flags.
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqsru.data import read_lines
from seqsru.data.files import text_digest
from seqsru.data.inputs import opened, readable_once
from seqsru.data.lines import OnBadLine
from seqsru.data.vocabulary import split_words
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.items import Items
from seqsru.evaluation.wanted import Wanted
from seqsru.pipelines.language import LanguagePipeline, no_shares
from seqsru.settings import from_signature, joined
from seqsru.tasks.adapting import UNADAPTED, adapt
from seqsru.tasks.answers import (
    Answer,
    Evaluation,
    Kind,
    Scorer,
    Split,
    Tell,
    Trained,
    chosen_files,
    headed,
)

MEASURES = ("perplexity", "token_perplexity", "bits_per_token", "bits_per_byte")
TextState = Literal["carried", "separate"]


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    state: TextState | None = None,
    on_bad_line: OnBadLine | None = None,
    **adapting: object,
) -> Evaluation:
    """Perplexity and its relatives.

    What is to be chosen is chosen on the validation text before the text to measure is read, once.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        The text, if not that of the split.
    split : str
    tell : callable
    state : {"carried", "separate"} or None
        Carried from line to line, or each line alone; the run's training.validation_state where not given.
    on_bad_line : {"error", "skip", "replace"} or None
        What to do with a line that cannot be used; the run's data.on_bad_line where not given.
    **adapting : object
        The arguments of `seqsru.evaluation.wanted.Wanted`.
    """
    (file,) = chosen_files(trained.task, files, split)
    settings = trained.task.settings
    bad: OnBadLine = on_bad_line or settings["data"]["on_bad_line"]
    state = state or settings["training"]["validation_state"]
    adapted = UNADAPTED
    if adapting:
        if not readable_once(file):
            with opened(file):  # one that is not there is refused before the work
                pass
        wanted = Wanted(**adapting)  # type: ignore[arg-type]  # flags, checked against its annotations
        adapted = adapt(trained, wanted, state == "carried", bad, tell)
    text = read_lines(file, on_bad_line=bad)
    if text.report:
        tell(str(text.report))
    digest = text_digest(text.lines)
    if adapted.fields.get("tuned_text") == digest:
        tell("the values were chosen on this very text: what follows is no measure of another one")
    pipeline: LanguagePipeline = trained.pipeline
    found, nlls = pipeline.perplexity_by_line(text.lines, carried=state == "carried", **adapted.given)
    signature = trained.signed(
        {
            "data": file.name,
            "tokens": found.tokens,
            "unknown": found.unknown,
            "state": found.state,
            "text": digest,
            **adapted.fields,
        }
    )
    lines = [f"{name} {value:.4f}" for name, value in found.values().items()]
    values = {**found.as_dict(), **adapted.values, "data": str(file), "signature": signature}
    measures = headed(MEASURES, trained.task.settings["training"]["validation_metric"])
    items = {name: partial(_items, name, pipeline.tokenizer, text.lines, nlls) for name in measures}
    return Evaluation([*lines, signature], values, items)


def _items(name: str, tokenizer: Any, lines: list[str], nlls: list[float] | None) -> Items:
    """What each line adds to a measure."""
    if nlls is None:
        raise no_shares()
    size: dict[str, Callable[[str], int]] = {
        "perplexity": lambda line: len(split_words(line)) + 1,
        "bits_per_byte": lambda line: len(line.encode()) + 1,
    }
    units = map(size.get(name, lambda line: len(tokenizer.encode(line)) + 1), lines)
    rows = np.array(list(zip(nlls, units)), dtype=np.float64)
    return Items(name, "bits" if name.startswith("bits") else "exp", False, rows, text_digest(lines))


def score(trained: Trained) -> Scorer:
    """Log probability of each line, alone."""
    return Scorer(("TEXT",), trained.pipeline.score)


def generate(trained: Trained, **drawing: object) -> Callable[[str], list[str]]:
    """Lines that continue a prompt."""
    pipeline: LanguagePipeline = trained.pipeline
    return lambda prompt: pipeline.generate(prompt, **drawing)  # type: ignore[arg-type]


def latency(trained: Trained, name: str) -> TimedDecoder:
    """The decoder that `generate` uses."""
    pipeline: LanguagePipeline = trained.pipeline
    return pipeline.timed(name)


EVALUATING = joined(
    from_signature(evaluate, skip=["trained", "files", "split", "tell", "adapting"]), from_signature(Wanted)
)
LANGUAGE = Kind(
    noun="a language model",
    reads=("TEXT",),
    answers={
        "evaluate": Answer(evaluate, EVALUATING, measures=MEASURES),
        "score": Answer(score),
        "generate": Answer(generate, from_signature(LanguagePipeline.generate, skip=["self", "prompt"])),
        "latency": Answer(latency),
    },
)
