"""Before a language model scores a text: values chosen on the validation text, squares of gradients seen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seqsru.data import read_lines
from seqsru.data.files import text_digest
from seqsru.data.lines import OnBadLine
from seqsru.evaluation.adaptation import check_carried, no_adaptation
from seqsru.evaluation.signature import DIGITS
from seqsru.evaluation.wanted import Wanted
from seqsru.tasks.answers import Tell, Trained, chosen_files


@dataclass(frozen=True)
class Adapted:
    """How a text is to be scored.

    Parameters
    ----------
    given : mapping
        To the pipeline's ``perplexity``: ``adaptation`` and ``rms``.
    fields : mapping
        For the signature.
    values : mapping
        For JSON: ``adaptation``, and ``tuning`` where something was chosen.
    """

    given: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, object] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


UNADAPTED = Adapted()


def adapt(trained: Trained, wanted: Wanted, carried: bool, on_bad_line: OnBadLine, tell: Tell) -> Adapted:
    """Choose on the validation text of a run what is asked to be chosen.

    Parameters
    ----------
    trained : Trained
        A run of a language model; of its texts the training text is read for the rule rms, and the validation
        text where a value is to be chosen.
    wanted : Wanted
    carried : bool
        Whether the text to measure is one stream.
    on_bad_line : {"error", "skip", "replace"}
        Of the validation text.
    tell : callable
        Is given what was seen.

    Raises
    ------
    Refused
        An engine without gradients, lines apart, or a run without the texts that are needed.
    """
    if trained.engine is not None:
        raise no_adaptation()
    check_carried(wanted.carries, carried)
    import torch

    from seqsru.data.stream import TokenStream
    from seqsru.evaluation.learning import ROWS, first_windows, gradient_rms
    from seqsru.evaluation.tuning import Seen, check_enough, tuned, tuned_apart

    task, pipeline = trained.task, trained.pipeline
    tokenizer, rms = pipeline.tokenizer, None
    fields: dict[str, object] = {}
    tokens, files = torch.empty(0, dtype=torch.int64), []
    apart: TokenStream | None = None
    if wanted.chosen:
        files = chosen_files(task, [], "validation")
        lines = read_lines(files[0], on_bad_line=on_bad_line).lines
        tokens = TokenStream.from_lines(lines, tokenizer).tokens[: wanted.tuned_on]
        if not carried:  # whole lines, as each is scored by itself
            ends = (tokens == tokenizer.eos).sum().item()
            apart = TokenStream.from_lines(lines[: max(1, int(ends))], tokenizer)
            tokens = apart.tokens
        check_enough(wanted, len(tokens))  # before the work
        fields = {
            "tuned": ",".join(wanted.chosen),
            "tuned_on": files[0].name,
            "tuned_tokens": len(tokens),
            "tuned_text": text_digest(lines),
        }
    if wanted.dynamic == "rms":
        windows = task.training_windows({"tokenizer": tokenizer}, ROWS, wanted.segment, lambda line: None)
        first = list(first_windows(windows, wanted.statistics))
        seen = sum(window.count for window in first)
        tell(f"squares of gradients: {seen:,} tokens of the training text")
        rms = gradient_rms(pipeline.model, first)
        read = hashlib.sha256(b"".join(window.targets.numpy().tobytes() for window in first))
        fields = {"dynamic_statistics": seen, "dynamic_text": read.hexdigest()[:DIGITS], **fields}

    def told(one: Seen) -> None:
        tell(f"{files[0].name}, {len(tokens):,} tokens: {one}")

    if apart is not None:
        adaptation, found = tuned_apart(pipeline.model, apart, told)
    else:
        adaptation, found = tuned(pipeline.model, tokens, tokenizer.eos, wanted, rms, told)
    values: dict[str, Any] = {"adaptation": {**adaptation.fields(), **fields}}
    if wanted.chosen:
        trials = [
            {**one.values, "token_perplexity": one.perplexity if math.isfinite(one.perplexity) else None}
            for one in found
        ]
        values["tuning"] = {"data": str(files[0]), "tokens": len(tokens), "seen": trials}
    return Adapted({"adaptation": adaptation, "rms": rms}, {**adaptation.fields(), **fields}, values)
