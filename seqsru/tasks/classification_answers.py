"""What a classifier answers to the commands; nothing here needs torch."""

# Annotations are read at run time: the arguments of the functions are flags.
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from seqsru.data.files import text_digest
from seqsru.data.labelled import OnBadLabelledLine
from seqsru.data.outputs import write_output
from seqsru.evaluation.classification import ClassificationScore, classification_score
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.items import label_items
from seqsru.evaluation.plots import new_figure, plot_confusion
from seqsru.settings import from_signature
from seqsru.tasks.answers import Answer, Evaluation, Kind, Split, Tell, Trained, headed
from seqsru.tasks.sharing import leads, shared

MEASURES = ("accuracy", "macro_f1")


def percent(score: ClassificationScore) -> dict[str, float]:
    """Accuracy and macro F1 in percent, as the other measures are."""
    return {name: 100.0 * value for name, value in score.values().items()}


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    confusion: Path | None = None,
    predictions: Path | None = None,
    on_bad_line: OnBadLabelledLine | None = None,
) -> Evaluation:
    """Accuracy, macro F1 and the confusion matrix.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        Labelled lines, if not those of the split.
    split : str
    tell : callable
    confusion : Path or None
        Draw the confusion matrix to this file: .png, .svg or .pdf.
    predictions : Path or None
        Write the predicted labels to this file, a line each.
    on_bad_line : {"error", "skip"} or None
        What to do with a line that cannot be used; the run's data.on_bad_line where not given.
    """
    if confusion is not None:
        new_figure(confusion, width=1.0, height=1.0, setting="confusion")  # can it be drawn?
    task, pipeline = trained.task, trained.pipeline
    lines, data = task.labelled(files, split, on_bad_line)
    if lines.report:
        tell(str(lines.report))
    names = pipeline.labels.names
    gold = [names[number] for number in pipeline.labels.encode(lines)]
    predicted = [found.label for found in shared(pipeline.classify, lines.texts)]
    if predictions is not None and leads():
        write_output(predictions, "".join(label + "\n" for label in predicted).encode())
    score = classification_score(gold, predicted, names)
    text = text_digest(lines.labels, lines.texts)
    signature = trained.signed({"data": data, "lines": score.total, "text": text})
    if confusion is not None and leads():
        plot_confusion(score, confusion)
    told = [f"{name} {value:.2f}" for name, value in percent(score).items()]
    values = {**score.as_dict(), **percent(score), "data": data, "signature": signature}
    measures = headed(MEASURES, task.settings["training"]["validation_metric"])
    return Evaluation(
        [*told, *matrix(score), signature],
        values,
        {name: partial(label_items, name, gold, predicted, names, text) for name in measures},
    )


def matrix(score: ClassificationScore) -> list[str]:
    """The confusion matrix as lines of text: a row for each gold label, a column for each predicted one."""
    head = ["gold \\ predicted", *score.labels, "precision", "recall", "F1"]
    rows = [
        [one.label, *map(str, counts), f"{one.precision:.4f}", f"{one.recall:.4f}", f"{one.f1:.4f}"]
        for one, counts in zip(score.by_label, score.counts)
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in [head, *rows]
    ]


def classify(trained: Trained) -> Callable[[Sequence[str]], list[Any]]:
    """A label for each line, and the probability of every one."""
    function: Callable[[Sequence[str]], list[Any]] = trained.pipeline.classify
    return function


def latency(trained: Trained, name: str) -> TimedDecoder:
    """One line, one call of the model."""
    decoder: TimedDecoder = trained.pipeline.timed(name)
    return decoder


CLASSIFICATION = Kind(
    noun="a classifier",
    reads=("LABELLED",),
    answers={
        "evaluate": Answer(
            evaluate,
            from_signature(evaluate, skip=["trained", "files", "split", "tell"]),
            writes=("confusion", "predictions"),
            measures=MEASURES,
        ),
        "classify": Answer(classify),
        "latency": Answer(latency),
    },
)
