"""What every tokenizer does, the registry of them, and loading one whatever its kind."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Protocol

from seqsru.data.subwords import Pieces
from seqsru.data.tokenizer_record import read_record
from seqsru.data.vocabulary import Characters, Words
from seqsru.errors import Refused, did_you_mean


class Tokenizer(Protocol):
    """Text to ids and back.

    Attributes
    ----------
    kind : str
        Its name in `TOKENIZERS`.
    size : int
        Number of types; ids are below it.
    unk, eos, bos, pad : int
        Ids of the unknown type, the end of a sentence, what a decoder starts from, and padding. The last two
        may be `eos`: never tell padding by its id, use the masks.
    fingerprint : str
        sha256 of the content; two tokenizers with the same fingerprint encode alike.
    """

    kind: str
    size: int
    unk: int
    eos: int
    bos: int
    pad: int
    fingerprint: str

    def encode(self, line: str) -> list[int]:
        """Return the ids of a line, no special ones added."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text, without the end of the sentence."""
        ...

    def labels(self, ids: Iterable[int]) -> list[str]:
        """Return one printable label an id."""
        ...

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.json`` and whatever belongs to it."""
        ...


# Each has classmethods train(lines, *, options) and load(folder, name).
TOKENIZERS: dict[str, type[Words] | type[Characters] | type[Pieces]] = {
    "words": Words,
    "characters": Characters,
    "sentencepiece": Pieces,
}


def load_tokenizer(folder: str | PathLike[str], name: str) -> Tokenizer:
    """Load what `save` of any tokenizer wrote under `name`.

    Raises
    ------
    NotFound
        A file is missing.
    Refused
        A file is damaged, or of a kind that is not known; it is named.
    """
    path = Path(folder) / f"{name}.json"
    kind = read_record(path)["kind"]
    if kind not in TOKENIZERS:
        raise Refused(
            f"a tokenizer of kind {', '.join(TOKENIZERS)} in {path}",
            repr(kind),
            "; ".join(filter(None, ["restore the file or train again", did_you_mean(kind, TOKENIZERS)])),
        )
    return TOKENIZERS[kind].load(folder, name)
