"""A translator and a classifier that train in seconds, with every dropout, for the tests of the loop."""

import torch

from seqsru.cells import Stack
from seqsru.data.examples import ExampleBatches, Examples, Labels
from seqsru.data.labelled import LabelledLines
from seqsru.data.lines import LineReport, ParallelLines
from seqsru.data.pairs import PairBatches, Pairs
from seqsru.data.vocabulary import Words
from seqsru.decoding import Decoding
from seqsru.models import Decoder, Translator
from seqsru.models.classifier import Classifier
from seqsru.tasks.classification import ClassificationObjective
from seqsru.tasks.translation import TranslationObjective
from seqsru.training import OPTIMIZERS, SCHEDULES, RunDirectory, Trainer, TrainingOptions

LINES = [" ".join("abcdef"[(i * k + k * k) % 6] for k in range(2 + i % 3)) for i in range(60)]
BACKWARDS = [" ".join(reversed(line.upper().split())) for line in LINES]


def translation(folder, cell="sru", **options):
    """Pairs of 2 to 4 words, nine batches an epoch."""
    torch.manual_seed(2)
    source, target = Words.train(LINES), Words.train(BACKWARDS)
    lines = ParallelLines("pairs", LINES, BACKWARDS, range(1, 61), LineReport("pairs", 60))
    encoder = Stack(cell, 8, 8, 2, bidirectional=True, dropout=0.1)
    attention = {"heads": 2, "dropout": 0.1}
    decoder = Decoder(cell, 8, 16, 8, 2, dropout=0.1, context_dropout=0.1, attention_options=attention)
    dropped = {"embedding_dropout": 0.1, "word_dropout": 0.1, "output_dropout": 0.1}
    model = Translator(source.size, target.size, encoder, decoder, 8, **dropped)
    objective = TranslationObjective(
        PairBatches(Pairs.from_lines(lines, source, target), 60, seed=3),
        lines,
        source,
        target,
        Decoding(beam=1),
        {},
        label_smoothing=0.1,
        validation_metric="perplexity",
    )
    return _trainer(folder, model, objective, "adam", **options)


def classification(folder, **options):
    """Texts of 2 to 4 words, eight batches an epoch."""
    torch.manual_seed(2)
    labels = ["long" if len(line) > 5 else "short" for line in LINES]
    lines = LabelledLines("set", labels, LINES, list(range(1, 61)), LineReport("set", 60))
    words, names = Words.train(LINES), Labels.train(lines)
    examples = Examples.from_lines(lines, words, names)
    encoder = Stack("sru", 8, 8, 2, bidirectional=True, dropout=0.1)
    dropped = {"embedding_dropout": 0.1, "word_dropout": 0.1, "output_dropout": 0.2}
    model = Classifier(words.size, names.size, encoder, 8, pooling="attention", **dropped)
    objective = ClassificationObjective(
        ExampleBatches(examples, 8, seed=3), examples, {}, label_smoothing=0.1
    )
    return _trainer(folder, model, objective, "sgd", {"momentum": 0.9}, **options)


def _trainer(folder, model, objective, optimizer, optimizer_options=None, device="cpu", **options):
    model.to(device)
    return Trainer(
        model,
        objective,
        OPTIMIZERS[optimizer](model.parameters(), 0.01, **optimizer_options or {}),
        SCHEDULES["constant"](0.01),
        RunDirectory(folder),
        TrainingOptions(**{"clip": 1.0, "tensorboard": False, "log_every": 5, **options}),
    )
