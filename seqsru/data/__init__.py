"""Data: lines, tokenizers, streams, pairs, named public corpora and synthetic phrases.

Nothing here needs sentencepiece before a `Pieces` is made, or the network before `fetch`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from seqsru.data.corpora import CORPORA, GENERATED, fetch
from seqsru.data.lines import (
    LineReport,
    Lines,
    ParallelLines,
    count_lines,
    iter_lines,
    read_lines,
    read_parallel,
)
from seqsru.data.subwords import Pieces
from seqsru.data.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer
from seqsru.data.vocabulary import Characters, Words, split_words
from seqsru.errors import Refused

if TYPE_CHECKING:  # what __getattr__ gives, for editors and checkers of types
    from seqsru.data.padding import Ragged as Ragged
    from seqsru.data.padding import pad as pad
    from seqsru.data.padding import padded_length as padded_length
    from seqsru.data.pairs import PairBatch as PairBatch
    from seqsru.data.pairs import PairBatches as PairBatches
    from seqsru.data.pairs import Pairs as Pairs
    from seqsru.data.pairs import pad_sources as pad_sources
    from seqsru.data.stream import StreamBatches as StreamBatches
    from seqsru.data.stream import TokenStream as TokenStream
    from seqsru.data.stream import Window as Window

# Where what needs torch is: importing it takes a second.
_PLACES = {
    "PairBatch": "pairs",
    "PairBatches": "pairs",
    "Pairs": "pairs",
    "Ragged": "padding",
    "StreamBatches": "stream",
    "TokenStream": "stream",
    "Window": "stream",
    "pad": "padding",
    "pad_sources": "pairs",
    "padded_length": "padding",
}

# Names that came before: for those who use the package, not for it.
DataError = Refused
Report = LineReport

__all__ = [
    "CORPORA",
    "Characters",
    "DataError",
    "GENERATED",
    "LineReport",
    "Lines",
    "PairBatch",
    "PairBatches",
    "Pairs",
    "ParallelLines",
    "Pieces",
    "Ragged",
    "Report",
    "StreamBatches",
    "TOKENIZERS",
    "TokenStream",
    "Tokenizer",
    "Window",
    "Words",
    "count_lines",
    "fetch",
    "iter_lines",
    "load_tokenizer",
    "pad",
    "pad_sources",
    "padded_length",
    "read_lines",
    "read_parallel",
    "split_words",
]


def __getattr__(name: str) -> object:
    """Import what the package exports when it is first asked for."""
    if name in _PLACES:
        return getattr(import_module(f"seqsru.data.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'seqsru.data' has no attribute {name!r}")
