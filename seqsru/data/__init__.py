"""Data: lines, tokenizers, streams, pairs, named public corpora and synthetic phrases.

Nothing here needs sentencepiece before a `Pieces` is made, or the network before `fetch`.
"""

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
from seqsru.data.padding import Ragged, pad, padded_length
from seqsru.data.pairs import PairBatch, PairBatches, Pairs, pad_sources
from seqsru.data.stream import StreamBatches, TokenStream, Window
from seqsru.data.subwords import Pieces
from seqsru.data.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer
from seqsru.data.vocabulary import Characters, Words, split_words
from seqsru.errors import Refused

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
