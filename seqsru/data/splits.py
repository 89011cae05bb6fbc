"""Labelled lines to learn from, to validate with and to test on: files, folds and held-out shares."""

from __future__ import annotations

from os import fspath
from pathlib import Path

from seqsru.data.labelled import LabelledLines, OnBadLabelledLine, Separator, read_labelled
from seqsru.data.shuffling import draw_from, shuffled
from seqsru.errors import Refused, check_at_least, check_probability


def read_splits(
    train: Path,
    *,
    validation: Path | None = None,
    test: Path | None = None,
    separator: Separator = "whitespace",
    encoding: str = "utf-8",
    on_bad_line: OnBadLabelledLine = "error",
    lowercase: bool = False,
    holdout: float = 0.1,
    folds: int = 0,
    fold: int = 0,
    split_seed: int = 1,
) -> dict[str, LabelledLines]:
    """Read the lines to learn from, to validate with, and to test on.

    A part that has no file of its own is taken from the training file, drawn from `split_seed` alone: first
    the fold for testing, then the share held out for validation.

    Parameters
    ----------
    train : Path
        Lines to learn from: a label and a text each.
    validation : Path, optional
        Lines that tell when the model was best; without it a share of the training lines is held out.
    test : Path, optional
        Lines that `seqsru evaluate` reads.
    separator : {"whitespace", "tab"}
        What ends a label: the first space or tab, or the first tab alone.
    encoding : str
        Of all files: utf-8, latin-1 or another that writes ASCII as ASCII.
    on_bad_line : {"error", "skip"}
        Whether a line that is empty, has no label or no text, or is not in this encoding ends the reading, or
        is left out and reported.
    lowercase : bool
        Whether all text is read in lower case.
    holdout : float
        Share of the training lines for validation where there is no file for it.
    folds : int
        Parts of a k-fold cross-validation; 0 is none. One part of the training file is then the test.
    fold : int
        Which part, from 0: lines whose place in the drawn order is this, modulo `folds`.
    split_seed : int
        Of the order that folds and the held-out share are drawn in; systems that are compared share it.

    Returns
    -------
    dict of str to LabelledLines
        ``train``, ``validation`` and, where there is one, ``test``.

    Raises
    ------
    NotFound, Refused
        As `read_labelled`; also settings that do not go together, too few lines, or a single label.
    """
    check_splits(
        validation=validation, test=test, holdout=holdout, folds=folds, fold=fold, split_seed=split_seed
    )

    def read(path: Path) -> LabelledLines:
        return read_labelled(
            path, separator=separator, encoding=encoding, on_bad_line=on_bad_line, lowercase=lowercase
        )

    lines = read(train)
    order = shuffled(range(len(lines)), draw_from(split_seed))
    tested = set(order[fold::folds]) if folds else set()
    rest = [i for i in order if i not in tested]
    held = set() if validation is not None else set(rest[: max(1, round(holdout * len(rest)))])
    kept = lines.part(i for i in rest if i not in held)
    splits = {"train": kept, "validation": lines.part(held) if validation is None else read(validation)}
    if folds or test is not None:
        splits["test"] = read(test) if test is not None else lines.part(tested)
    for name, part in splits.items():
        if not len(part):
            raise Refused(
                f"lines for {name} in {part.name}",
                f"none ({len(lines)} in {lines.name})",
                "check the file and the splits",
                "folds" if folds and name == "test" else None,
            )
    if len(set(kept.labels)) < 2:
        raise Refused(
            f"lines of at least two labels to learn from in {kept.name}",
            f"only {kept.labels[0]!r}",
            "check the file; separator says what ends a label",
        )
    return splits


def check_splits(
    *, validation: Path | None, test: Path | None, holdout: float, folds: int, fold: int, split_seed: int
) -> None:
    """Refuse settings of `read_splits` that do not go together, before anything is read."""
    check_at_least(0, folds=folds, fold=fold, split_seed=split_seed)
    if folds == 1 or (folds and fold >= folds):
        raise Refused(
            "folds of at least 2, or 0 for none" if folds == 1 else f"a fold below folds = {folds}",
            str(1 if folds == 1 else fold),
            "folds are counted from 0" if folds != 1 else "10 are common",
            "folds" if folds == 1 else "fold",
        )
    if fold and not folds:
        raise Refused("folds for a fold to be one of", f"fold {fold} and folds 0", "set folds", "fold")
    if folds and test is not None:
        raise Refused(
            "no file for testing beside folds, one of which is the test",
            fspath(test),
            "leave out one of them",
            "test",
        )
    check_probability(holdout=holdout)
    if validation is None and not holdout:
        raise Refused("a share above 0 where there is no validation file", "0", "0.1 is common", "holdout")
