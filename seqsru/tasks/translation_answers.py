"""What a translation model answers to the commands; nothing here needs torch."""

# Annotations are read at run time: the arguments of the functions are flags.
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from seqsru.data import read_lines
from seqsru.data.files import text_digest
from seqsru.data.lines import OnBadLine
from seqsru.data.outputs import write_output
from seqsru.data.references import read_references
from seqsru.errors import Refused
from seqsru.evaluation.bleu import METRICS, make_metrics, paired_bootstrap, translation_scores
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer, unspaced
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.closest import Closeness, Closest
from seqsru.evaluation.items import Items, translation_items
from seqsru.pipelines.translation import Translation, TranslationPipeline
from seqsru.settings import from_signature, joined
from seqsru.tasks.answers import (
    Answer,
    Distiller,
    Evaluation,
    Kind,
    LineTranslator,
    Scorer,
    Split,
    Tell,
    Trained,
    chosen_files,
    headed,
)
from seqsru.tasks.search import search_flags, searched
from seqsru.tasks.sharing import leads, shared

AT_ONCE = 1024  # lines that are translated together


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    metrics: str = "bleu,chrf",
    tokenize: BleuTokenizer | None = None,
    lowercase: bool = False,
    translations: Path | None = None,
    baseline: Path | None = None,
    on_bad_line: OnBadLine | None = None,
    **search: object,
) -> Evaluation:
    """BLEU and its relatives, by sacrebleu on detokenised text.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        Source and references, if not those of the split.
    split : str
    tell : callable
    metrics : str
        Of bleu, chrf and ter, with commas between them.
    tokenize : str or None
        sacrebleu's tokenizer for BLEU: zh for Chinese, ja-mecab for Japanese, ko-mecab for Korean, char or
        flores200 for any language without spaces; the run's training.validation_tokenize where not given.
    lowercase : bool
        Give each metric twice, of the texts as they are and of both in lower case; without it as sacrebleu
        does by default, which is as they are, but in lower case for ter.
    translations : Path or None
        Write the translations to this file.
    baseline : Path or None
        What another system gave, to compare with by paired bootstrap: translations, or a file of answers.
    on_bad_line : {"error", "skip", "replace"} or None
        What to do with a line that cannot be used; the run's data.on_bad_line where not given.
    **search : object
        As `search_flags` has them.
    """
    source, *references = chosen_files(trained.task, files, split)
    pipeline: TranslationPipeline = trained.pipeline
    decoding = replace(searched(pipeline.decoding, search), n_best=1)
    names = metrics.split(",")
    if tokenize is not None and "bleu" not in names:
        raise Refused("bleu among the metrics, which alone is tokenized", metrics, "leave it out", "tokenize")
    tokenize = tokenize or trained.task.settings["training"]["validation_tokenize"]
    made = make_metrics(names, tokenize)  # are these metrics? asked before the work
    on_bad_line = on_bad_line or trained.task.settings["data"]["on_bad_line"]
    read = read_references(source, references, on_bad_line=on_bad_line)
    for report in filter(None, read.reports):
        tell(str(report))
    pair = read.pair
    doubt = unspaced(read.references, made["bleu"]) if "bleu" in made else ""
    if doubt:
        tell(f"warning: {doubt}; take --tokenize zh, char or another, or --metrics chrf")
    other = None if baseline is None else read_lines(baseline).lines
    if other is not None and len(other) != len(pair.target):
        raise Refused(
            f"as many lines in {baseline} as in {references[0]}",
            f"{len(other):,} and {len(pair.target):,}",
            "compare translations of one source",
            "baseline",
        )
    signature = trained.signed(
        {
            "data": source.name,
            "lines": len(pair.source),
            **decoding.signature_fields(),
            "text": text_digest(pair.source, *read.references),
        }
    )
    texts = [
        translation.text
        for first in range(0, len(pair.source), AT_ONCE)
        for translation in shared(
            lambda lines: pipeline.translate(lines, decoding), pair.source[first : first + AT_ONCE]
        )
    ]
    if translations is not None and leads():
        write_output(translations, "".join(text + "\n" for text in texts).encode())
    cases = (False, True) if lowercase else (None,)
    how: dict[str, Any] = {"further": read.further, "tokenize": tokenize}
    scores = [translation_scores(texts, pair.target, names, **how, lowercase=case) for case in cases]
    lines = [*(one.line for both in zip(*scores) for one in both), signature]
    figures: list[dict[str, Any]] = [
        {
            **{name: one.value for name, one in zip(names, found)},
            "signatures": {name: one.signature for name, one in zip(names, found)},
        }
        for found in scores
    ]
    if other is not None:
        compared = [
            paired_bootstrap(other, texts, pair.target, names, **how, lowercase=case) for case in cases
        ]
        lines += [one.line for both in zip(*compared) for one in both]
        for values, found in zip(figures, compared):
            values["comparison"] = {name: one.as_dict() for name, one in zip(names, found)}
    values = figures[0] | {"lines": len(texts), "data": str(source), "signature": signature}
    if lowercase:
        values["lowercase"] = figures[1]
    digest, whole = text_digest(pair.source, *read.references), [pair.target, *read.further]

    def items(name: str) -> Items:
        return translation_items(name, texts, whole, tokenize, digest, cases[0])

    return Evaluation(lines, values, {name: partial(items, name) for name in headed(METRICS, names[0])})


def score(trained: Trained) -> Scorer:
    """Log probability of each translation, given its source."""
    return Scorer(("SOURCE", "TARGET"), trained.pipeline.score)


def translate(trained: Trained, attention: bool, **search: object) -> LineTranslator:
    """Translations of lines."""
    pipeline: TranslationPipeline = trained.pipeline
    decoding = searched(pipeline.decoding, search)
    return LineTranslator(
        decoding.n_best, lambda lines: pipeline.translate(lines, decoding, attention=attention)
    )


def distill(
    trained: Trained, referenced: bool, *, pick: Closeness | None = None, **search: object
) -> Distiller:
    """Translations that another model is to learn from.

    Parameters
    ----------
    trained : Trained
    referenced : bool
        Whether there is a reference of each line.
    pick : {"chrf", "bleu"} or None
        Which of the n best translations is written: that with the best chrF (where not given) or smoothed
        BLEU against the reference. All of the beam are looked at where --n-best is not given.
    **search : object
        As `search_flags` has them.
    """
    pipeline: TranslationPipeline = trained.pipeline
    if not referenced:
        for name, found in (("pick", pick), ("n_best", search.get("n_best"))):
            if found is not None:
                do = "name it after SOURCE, or leave this out: the best translation is written"
                raise Refused("a REFERENCE to hold translations against", "none", do, name)
    decoding = searched(pipeline.decoding, search)
    if not referenced:
        decoding = replace(decoding, n_best=1)
    elif "n_best" not in search:
        decoding = replace(decoding, n_best=decoding.beam)
    by: Closeness = pick or "chrf"
    closest = Closest(by)
    fields = {**decoding.signature_fields(), "n_best": decoding.n_best, "pick": by if referenced else None}

    def write(lines: Sequence[str], references: Sequence[str] | None) -> list[Translation]:
        found = pipeline.translate(lines, decoding)
        if references is None:
            return found
        every = [(one, *one.alternatives) for one in found]
        return [
            texts[closest([one.text for one in texts], reference)]
            for texts, reference in zip(every, references)
        ]

    return Distiller(fields, write)


def latency(trained: Trained, name: str, **search: object) -> TimedDecoder:
    """The decoder that `translate` uses; where a length is forced, without the guards that the run has.

    Parameters
    ----------
    trained : Trained
    name : str
    **search : object
        As `search_flags` has them.
    """
    pipeline: TranslationPipeline = trained.pipeline
    decoding = searched(pipeline.decoding, search)
    timed = pipeline.timed(name, decoding)
    if "guard" in search or not decoding.guards:
        return timed
    return replace(timed, forced=pipeline.timed(name, replace(decoding, guard="none")))


# One line at a time and its best output; how long it may be is the protocol's, which can force it.
_TIMED = search_flags(skip=["n_best", "batch_size", "batch_by", "length_factor", "length_offset"])


TRANSLATION = Kind(
    noun="a translation model",
    reads=("SOURCE", "REFERENCE"),
    further="any further REFERENCE",
    answers={
        "evaluate": Answer(
            evaluate,
            joined(
                from_signature(evaluate, skip=["trained", "files", "split", "tell", "search"]),
                search_flags(skip=["n_best"]),  # the best alone is scored
            ),
            writes=("translations",),
            measures=METRICS,
        ),
        "score": Answer(score),
        "translate": Answer(translate, search_flags()),
        "distill": Answer(
            distill, joined(from_signature(distill, skip=["trained", "referenced", "search"]), search_flags())
        ),
        "latency": Answer(latency, _TIMED),
    },
)
