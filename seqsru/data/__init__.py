"""Data: lines, tokenizers, streams, pairs, named public corpora and synthetic phrases.

Nothing here needs sentencepiece before a `Pieces` is made, or the network before `fetch`.
"""

from seqsru.data.corpora import CORPORA, GENERATED, fetch
from seqsru.data.errors import DataError
from seqsru.data.lines import Lines, ParallelLines, Report, count_lines, iter_lines, read_lines, read_parallel
from seqsru.data.pairs import PairBatch, PairBatches, Pairs, Ragged, pad_sources
from seqsru.data.stream import StreamBatches, TokenStream, Window
from seqsru.data.subwords import Pieces
from seqsru.data.tokenizers import TOKENIZERS, Tokenizer, load_tokenizer
from seqsru.data.vocabulary import Characters, Words, split_words

__all__ = [
    "CORPORA",
    "Characters",
    "DataError",
    "GENERATED",
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
    "pad_sources",
    "read_lines",
    "read_parallel",
    "split_words",
]
