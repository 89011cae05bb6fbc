"""The copy task: a few symbols, a gap, and the same symbols again, for measuring how far a memory reaches.

After Hochreiter and Schmidhuber, *Long Short-Term Memory*, 1997, and Arjovsky, Shah, Bengio, *Unitary
Evolution Recurrent Neural Networks*, ICML 2016 (arXiv 1511.06464), as text: ``c a h . . . . ? c a h``, a
token a word. What comes before the ``?`` cannot be foreseen, but for the gap; what comes after it is known to
whoever remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from seqsru.data.outputs import write_output
from seqsru.data.phrases import Picker
from seqsru.errors import Refused, check_at_least, check_at_most

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
GAP, CUE = ".", "?"
# Where memory is tested: up to four times as far as it is learned.
TESTED = (0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128)


def line(symbols: str, gap: int) -> str:
    """One line: the symbols, so many steps of nothing, the cue, the symbols."""
    return " ".join([*symbols, *GAP * gap, CUE, *symbols])


def generate(gaps: Sequence[int], *, seed: int = 1, symbols: int = 3, alphabet: int = 8) -> list[str]:
    """Make a line for each gap, the same ones for the same arguments on every machine.

    Parameters
    ----------
    gaps : sequence of int
        Steps between the symbols and the cue, of each line.
    seed : int
        Of the symbols.
    symbols : int
        How many there are to remember, in order.
    alphabet : int
        How many different ones there are, up to 26.

    Raises
    ------
    Refused
        A number outside its range.
    """
    check_at_least(1, symbols=symbols, alphabet=alphabet)
    check_at_most(len(ALPHABET), alphabet=alphabet)
    if gaps:
        check_at_least(0, gaps=min(gaps))
    pick = Picker(seed)
    return [line("".join(pick.of(ALPHABET[:alphabet]) for _ in range(symbols)), gap) for gap in gaps]


def write(
    folder: str | PathLike[str],
    *,
    seed: int = 1,
    train: int = 20_000,
    validation: int = 200,
    test: int = 100,
    farthest: int = 32,
    symbols: int = 3,
    alphabet: int = 8,
) -> None:
    """Write ``folder/{train,valid,test}.txt``, a line each.

    In training and validation a gap is anything from 0 to ``farthest``, each as likely; the test has as many
    lines for each gap of `TESTED`.

    Parameters
    ----------
    folder : path
        Made if needed.
    seed : int
        Of everything.
    train, validation : int
        Lines.
    test : int
        Lines of each gap.
    farthest : int
        Longest gap that is learned from.
    symbols, alphabet : int
        As in `generate`.
    """
    check_at_least(0, farthest=farthest)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pick = Picker(seed)
    splits = {
        "test": [gap for gap in TESTED for _ in range(test)],
        "valid": [pick.number(0, farthest) for _ in range(validation)],
        "train": [pick.number(0, farthest) for _ in range(train)],
    }
    for number, (split, gaps) in enumerate(splits.items()):
        lines = generate(gaps, seed=3 * seed + number, symbols=symbols, alphabet=alphabet)
        write_output(folder / f"{split}.txt", "".join(text + "\n" for text in lines).encode())


def parts(text: str) -> tuple[int, int]:
    """Read a line back: its gap, and how many symbols are to be remembered.

    Raises
    ------
    Refused
        The line is of another form.
    """
    words = text.split(" ")
    symbols = (len(words) - 1 - words.count(GAP)) // 2
    gap = len(words) - 1 - 2 * symbols
    if symbols < 1 or words != line("".join(words[:symbols]), gap).split(" "):
        raise Refused(
            "a line of the copy task, such as 'b a . . ? b a'", repr(text), "make it by `fetch copying`"
        )
    return gap, symbols
