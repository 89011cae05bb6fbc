"""A fourth task, as somebody would add it: does a line have an even number of words? One file."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from seqsru.cells import Stack
from seqsru.data import read_lines
from seqsru.errors import check_at_least
from seqsru.evaluation.signature import parameters
from seqsru.settings import from_signature
from seqsru.tasks.sections import cell_name, stack_section, tokenizer_section
from seqsru.tasks.task import Answer, Evaluation, Task, chosen_files
from seqsru.training import BatchLoss, Objective


@dataclass(frozen=True)
class ParityData:
    """Files of text.

    Parameters
    ----------
    train : Path
        Text to learn from.
    validation : Path
        Text to validate with.
    """

    train: Path
    validation: Path


class ParityModel(nn.Module):
    """A stack, and one logit from its last output."""

    def __init__(self, vocabulary_size: int, stack: Stack, embedding_size: int = 8):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding_size)
        self.stack, self.output = stack, nn.Linear(stack.output_size, 1)

    def forward(self, tokens):
        return self.output(self.stack(self.embedding(tokens)[:, None])[0][-1, 0])[0]


class ParityObjective(Objective):
    """Cross-entropy of the answer, a line a batch.

    Parameters
    ----------
    texts, tokenizer : object
        What to learn from.
    margin : int
        An option that some value is refused of.
    """

    metric, higher_is_better = "accuracy", True

    def __init__(self, texts, tokenizer, *, margin: int = 1):
        check_at_least(1, margin=margin)
        self.texts, self.tokenizer = texts, tokenizer
        self.fingerprints = {"tokenizer": tokenizer.fingerprint}

    def epoch_length(self):
        return len(self.texts["train"])

    def batches(self, epoch, start):
        return iter(self.texts["train"][start:])

    def loss(self, model, batch, carried):
        logit = model(encoded(self.tokenizer, batch))
        loss = nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor(even(batch)))
        return BatchLoss(loss, loss.detach(), 1, 1, ())

    def validate(self, model):
        return {"accuracy": accuracy(model, self.tokenizer, self.texts["validation"])}


def even(line):
    """1.0 for an even number of words, else 0.0."""
    return float(len(line.split()) % 2 == 0)


def encoded(tokenizer, line):
    """The line's tokens and its end."""
    return torch.tensor([*tokenizer.encode(line), tokenizer.eos])


def accuracy(model, tokenizer, lines):
    """Percent of the lines that are answered rightly."""
    return sum(100.0 * ((model(encoded(tokenizer, line)) > 0) == even(line)).item() for line in lines) / len(
        lines
    )


@dataclass(frozen=True)
class ParityPipeline:
    """Text in, answers out."""

    model: ParityModel
    tokenizer: object


def evaluate(trained, files, split, tell):
    """Accuracy on a text."""
    files = chosen_files(trained.task, files, split)
    lines = read_lines(files[0]).lines
    value = accuracy(trained.pipeline.model, trained.pipeline.tokenizer, lines)
    signature = trained.signed({"data": files[0].name})
    return Evaluation([f"accuracy {value:.2f}", signature], {"accuracy": value, "signature": signature})


class Parity(Task):
    """Tell whether a line has an even number of words."""

    text = "Tell whether a line has an even number of words."
    noun = "a parity model"
    reads = ("TEXT",)
    answers = {"evaluate": Answer(evaluate)}

    @classmethod
    def sections(cls):
        return {
            "data": from_signature(ParityData),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                ParityModel, skip=["vocabulary_size"], sections={"stack": stack_section()}
            ),
        }

    @classmethod
    def objective_section(cls):
        return from_signature(ParityObjective, skip=["texts", "tokenizer"])

    def files(self, split):
        return [] if split == "test" else [self.settings["data"][split]]

    def read(self, tell):
        data = self.settings["data"].make()
        return {"train": read_lines(data.train).lines, "validation": read_lines(data.validation).lines}

    def stand_in(self):
        return {"train": ["a"], "validation": ["a"]}

    def sample(self):
        return "validation", read_lines(self.settings["data"]["validation"]).lines

    def tokenizer_files(self):
        return {"tokenizer": "tokenizer"}

    def tokenizer_lines(self, texts, file):
        return texts["train"]

    def model(self, tokenizers):
        model = self.settings["model"]
        stack = model["stack"].make(input_size=model["embedding_size"])
        return model.make(tokenizers["tokenizer"].size, stack=stack)

    def objective(self, texts, tokenizers):
        return self.settings["training"].of(ParityObjective).make(texts, tokenizers["tokenizer"])

    def omissions(self, objective):
        return []

    def pipeline(self, model, tokenizers):
        return ParityPipeline(model.eval(), tokenizers["tokenizer"])

    def fields(self, model):
        return {"cell": cell_name(self.settings["model"]["stack"]), "params": parameters(model)}
