"""Embeddings that others trained, where a model's own begin."""

# Annotations are read at run time: the fields of `Pretrained` are settings.
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from seqsru.data import Tokenizer
from seqsru.data.vectors import VectorFormat, read_vectors
from seqsru.errors import Refused
from seqsru.settings import Values
from seqsru.tasks.answers import Tell


@dataclass(frozen=True)
class Pretrained:
    """Embeddings that others trained.

    Parameters
    ----------
    vectors : Path or None
        File of word vectors, as word2vec or GloVe write them: where the embedding of each word in it starts.
    vectors_form : {"text", "binary"}
        text: a word and its numbers a line, with or without a first line of counts. binary: word2vec's.
    """

    vectors: Path | None = None
    vectors_form: VectorFormat = "text"


def check_embeddings(settings: Values) -> None:
    """Refuse vectors where the weights of another run would replace them."""
    data = settings["data"]
    if data["vectors"] is not None and settings["start_from"] is not None:
        expected = "no vectors beside start_from, whose weights they would replace"
        raise data.error(Refused(expected, str(data["vectors"]), "leave out one of them", "vectors"))


def load_embeddings(settings: Values, embedding: nn.Embedding, tokenizer: Tokenizer, tell: Tell) -> None:
    """Put the vectors that the section data names, if any, into an embedding."""
    pretrained: Pretrained = settings["data"].of(Pretrained).make()
    if pretrained.vectors is None:
        return
    # A piece of sentencepiece that begins a word is that word.
    words = {
        word.lstrip("\u2581"): number for number, word in enumerate(tokenizer.labels(range(tokenizer.size)))
    }
    with settings.blamed():
        found = read_vectors(pretrained.vectors, words, embedding.embedding_dim, form=pretrained.vectors_form)
    with torch.no_grad():
        weight = embedding.weight
        weight[torch.from_numpy(found.ids).to(weight.device)] = torch.from_numpy(found.rows).to(weight)
    tell(str(found))
