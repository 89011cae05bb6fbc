"""A language model that trains in a second, for the tests of the loop; as a program it trains in a folder."""

import sys
from pathlib import Path

import torch

from seqsru.cells import Stack
from seqsru.data.stream import StreamBatches, TokenStream
from seqsru.data.vocabulary import Words
from seqsru.models import LanguageModel
from seqsru.tasks.language_modelling import LanguageModelObjective
from seqsru.training import OPTIMIZERS, SCHEDULES, RunDirectory, Trainer, TrainingOptions

LINES = [" ".join("abcdefgh"[(i * k + k) % 8] for k in range(3 + i % 5)) for i in range(57)]


def make(
    folder,
    *,
    lines=LINES,
    averaging=None,
    optimizer="adamw",
    schedule="cosine",
    lr=0.01,
    optimizer_options=None,
    schedule_options=None,
    device="cpu",
    **options,
):
    """A trainer of a model with every dropout, always the same: 15 windows an epoch, the last one ragged."""
    torch.manual_seed(1)
    words = Words.train(LINES)
    backend = "reference" if device == "cpu" else "auto"
    stack = Stack("sru", 12, 16, 2, dropout=0.2, options={"backend": backend})
    model = LanguageModel(words.size, stack, 12, embedding_dropout=0.1, word_dropout=0.1, output_dropout=0.2)
    model.to(device)
    train = TokenStream.from_lines(lines, words)
    windows = StreamBatches(train.tokens, 4, 6, words.eos)
    validation = TokenStream.from_lines(LINES[:9], words)
    objective = LanguageModelObjective(
        windows, validation, {"tokenizer": words.fingerprint}, label_smoothing=0.1
    )
    return Trainer(
        model,
        objective,
        OPTIMIZERS[optimizer](model.named_parameters(), lr, **optimizer_options or {}),
        SCHEDULES[schedule](lr, **schedule_options or {}),
        RunDirectory(folder),
        TrainingOptions(**{"epochs": 3, "clip": 1.0, "tensorboard": False, "log_every": 5, **options}),
        averaging=averaging,
    )


def files(folder):
    """Bytes of every tensor file and the counters of the newest checkpoint, time left out."""
    newest = sorted((Path(folder) / "checkpoints").glob("step-*"))[-1]
    return newest.name, {p.name: p.read_bytes() for p in newest.glob("*.safetensors")}


if __name__ == "__main__":
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    make(sys.argv[1], save_every=3, keep=100).fit()
