"""Numbers, dates and times in English and German: real translation with a known answer, and no download.

Every phrase has one right translation, and no English and no German phrase occurs twice, so held-out phrases
were never seen, in either language.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

from seqsru.data.outputs import write_output
from seqsru.data.phrases import KINDS, Pair, Picker


class Splits(NamedTuple):
    """Phrases by what they are for; no phrase is in two of them."""

    train: list[Pair]
    validation: list[Pair]
    test: list[Pair]


def generate(*, seed: int = 1, train: int = 20_000, validation: int = 500, test: int = 1_000) -> Splits:
    """Make phrases, the same ones for the same arguments on every machine.

    Parameters
    ----------
    seed : int
        Of the choice.
    train, validation, test : int
        Phrases in each split. The test phrases depend on the seed and their number alone, the validation
        phrases also on `test`, so a longer training set is measured on the same ones.
    """
    pick = Picker(seed)
    seen: set[str] = set()
    splits: list[list[Pair]] = []
    for size in (test, validation, train):
        split: list[Pair] = []
        while len(split) < size:
            pair = pick.of(KINDS)(pick)
            if pair.english not in seen and pair.german not in seen:
                seen.update(pair)
                split.append(pair)
        splits.append(split)
    return Splits(splits[2], splits[1], splits[0])


def write(
    folder: str | PathLike[str],
    *,
    seed: int = 1,
    train: int = 20_000,
    validation: int = 500,
    test: int = 1_000,
) -> None:
    """Write `generate`'s splits to ``folder/{train,valid,test}.{en,de}``, a phrase a line.

    Parameters
    ----------
    folder : path
        Made if needed.
    seed, train, validation, test : int
        As in `generate`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    splits = generate(seed=seed, train=train, validation=validation, test=test)
    for split, pairs in zip(("train", "valid", "test"), splits):
        for language, phrases in zip(("en", "de"), zip(*pairs)):
            write_output(
                folder / f"{split}.{language}", "".join(phrase + "\n" for phrase in phrases).encode()
            )
