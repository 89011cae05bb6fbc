"""The tasks: what each reads, and the objects it makes of its settings."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from torch import nn

from seqsru.builder import (
    Builder,
    Values,
    cell_name,
    cell_section,
    make_rules,
    make_stack,
    rules_section,
    stack_section,
    tokenizer_section,
)
from seqsru.config import Settings
from seqsru.data import (
    PairBatches,
    Pairs,
    ParallelLines,
    Report,
    StreamBatches,
    Tokenizer,
    TokenStream,
    read_lines,
    read_parallel,
)
from seqsru.data.labelled import ExampleBatches, Examples, LabelledLines, Labels, read_splits
from seqsru.data.tokenizers import load_tokenizer
from seqsru.decoding import Decoding, Rule
from seqsru.evaluation.language import LanguagePipeline
from seqsru.evaluation.signature import parameters
from seqsru.evaluation.translation import TranslationPipeline
from seqsru.models import LanguageModel
from seqsru.models.attention import ATTENTIONS
from seqsru.models.classifier import Classifier, Convolution
from seqsru.models.decoder import Decoder
from seqsru.models.translator import Translator
from seqsru.pipelines.classification import ClassificationPipeline
from seqsru.schema import Choice, Schema, Section, Setting, from_signature, registry
from seqsru.training import ClassificationTask, LanguageModelTask, TranslationTask


class LanguageModelling(Builder):
    """One text, one stack, one tokenizer."""

    text = "Predict each word, subword or character of a text from those before it."

    def sections(self) -> dict[str, Schema]:
        return {
            "data": Section(
                {
                    "train": Setting(
                        Path, text="Text to learn from, a sentence or any piece of text a line."
                    ),
                    "valid": Setting(Path, text="Text that tells when the model was best."),
                    "test": Setting(Path | None, None, "Text that `seqsru evaluate` reads."),
                    **from_signature(read_lines, skip=["path"]).entries,
                },
                "Files of UTF-8 text.",
            ),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                LanguageModel, skip=["vocabulary_size"], sections={"stack": stack_section()}
            ),
            "batches": from_signature(StreamBatches, skip=["tokens", "eos"]),
        }

    def task_section(self) -> Section:
        return from_signature(LanguageModelTask, skip=["windows", "valid", "fingerprints"])

    def files(self, values: Values, split: str) -> list[Path]:
        return [values["data"][split]] if values["data"][split] is not None else []

    def read(self, values: Values, say: Callable[[str], None]) -> dict[str, list[str]]:
        data = values["data"]
        texts = {}
        for split in ("train", "valid"):
            lines = read_lines(data[split], on_bad_line=data["on_bad_line"])
            texts[split] = lines.lines
            say(str(lines.report))
        return texts

    def stand_in(self, values: Values) -> dict[str, list[str]]:
        return {"train": [""] * values["batches"]["batch_size"], "valid": [""]}

    def tokenizer_files(self, values: Values) -> dict[str, str]:
        return {"tokenizer": "tokenizer"}

    def training_lines(self, texts: dict[str, list[str]], file: str) -> Iterable[str]:
        return texts["train"]

    def model(self, values: Values, tokenizers: Mapping[str, Tokenizer]) -> LanguageModel:
        options = dict(values["model"])
        stack = make_stack(options.pop("stack"), options["embedding_size"])
        return LanguageModel(tokenizers["tokenizer"].size, stack, **options)

    def task(
        self, settings: Settings, texts: dict[str, list[str]], tokenizers: Mapping[str, Tokenizer]
    ) -> LanguageModelTask:
        values, tokenizer = settings.values, tokenizers["tokenizer"]
        train, valid = (TokenStream.from_lines(texts[split], tokenizer) for split in ("train", "valid"))
        with settings.at("batches"):
            windows = StreamBatches(train.tokens, eos=tokenizer.eos, **values["batches"])
        options = {name: values["training"][name] for name in self.task_section().entries}
        with settings.at("training"):
            return LanguageModelTask(windows, valid, {"tokenizer": tokenizer.fingerprint}, **options)

    def reports(self, task: LanguageModelTask) -> list[str]:
        return []

    def pipeline(
        self, settings: Settings, model: LanguageModel, tokenizers: Mapping[str, Tokenizer]
    ) -> LanguagePipeline:
        return LanguagePipeline(model, tokenizers["tokenizer"])

    def fields(self, values: Values, model: nn.Module) -> dict[str, object]:
        stack = values["model"]["stack"]
        return {"cell": cell_name(stack), "layers": stack["num_layers"], "params": parameters(model)}


class Translation(Builder):
    """Two texts, an encoder and a decoder, one joint tokenizer or two."""

    text = "Translate sentences, learning from pairs of them."

    def sections(self) -> dict[str, Schema]:
        reading = from_signature(read_parallel, skip=["source", "target"])
        pair = {
            "source": Setting(Path, text="Text to translate, a sentence a line."),
            "target": Setting(Path, text="Its translation, line by line."),
        }
        tokenizer = tokenizer_section()
        joint = Setting(bool, True, "Whether both languages share one tokenizer.")
        return {
            "data": Section(
                {
                    "train": Section(pair, "Pairs to learn from."),
                    "valid": Section(pair, "Pairs that tell when the model was best."),
                    "test": Section(pair, "Pairs that `seqsru evaluate` translates.", optional=True),
                    **reading.entries,
                },
                "Files of UTF-8 text.",
            ),
            "tokenizer": replace(
                tokenizer,
                entries={
                    name: replace(section, entries={**section.entries, "joint": joint})
                    for name, section in tokenizer.entries.items()
                },
            ),
            "model": from_signature(
                Translator,
                skip=["source_vocabulary", "target_vocabulary"],
                sections={
                    "encoder": stack_section(),
                    "decoder": from_signature(
                        Decoder,
                        skip=["input_size", "memory_size", "options", "attention_options"],
                        sections={
                            "cell": cell_section(),
                            "attention": registry(
                                ATTENTIONS, skip=["query_size", "memory_size", "output_size"]
                            ),
                        },
                    ),
                },
            ),
            "batches": from_signature(PairBatches, skip=["pairs", "seed"]),
            "decoding": Section(
                {**from_signature(Decoding).entries, "rules": rules_section()},
                "How translations are searched for, in validation and later.",
            ),
        }

    def task_section(self) -> Section:
        return from_signature(
            TranslationTask,
            skip=[
                "batches",
                "valid",
                "source_tokenizer",
                "target_tokenizer",
                "decoding",
                "rules",
                "fingerprints",
            ],
        )

    def files(self, values: Values, split: str) -> list[Path]:
        pair = values["data"][split]
        return [pair["source"], pair["target"]] if pair is not None else []

    def read(self, values: Values, say: Callable[[str], None]) -> dict[str, ParallelLines]:
        data = values["data"]
        texts = {}
        for split in ("train", "valid"):
            pair = data[split]
            texts[split] = read_parallel(pair["source"], pair["target"], on_bad_line=data["on_bad_line"])
        say(str(texts["valid"].report))
        return texts

    def stand_in(self, values: Values) -> dict[str, ParallelLines]:
        pair = ParallelLines("stand-in", ["a"], ["a"], [1], Report("stand-in"))
        return {"train": pair, "valid": pair}

    def tokenizer_files(self, values: Values) -> dict[str, str]:
        if values["tokenizer"]["joint"]:
            return {"source tokenizer": "tokenizer", "target tokenizer": "tokenizer"}
        return {"source tokenizer": "source", "target tokenizer": "target"}

    def training_lines(self, texts: dict[str, ParallelLines], file: str) -> Iterable[str]:
        pairs = texts["train"]
        return chain(pairs.source, pairs.target) if file == "tokenizer" else getattr(pairs, file)

    def model(self, values: Values, tokenizers: Mapping[str, Tokenizer]) -> Translator:
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        options = dict(values["model"])
        if options["tying"] == "all" and source.fingerprint != target.fingerprint:
            raise ValueError(
                "expected one tokenizer for both languages with tying all, found two; set "
                "tokenizer.joint to true, or tying to target"
            )
        size = options["embedding_size"]
        encoder = make_stack(options.pop("encoder"), size)
        rest = dict(options.pop("decoder"))
        cell, attention = dict(rest.pop("cell")), dict(rest.pop("attention"))
        decoder = Decoder(
            cell.pop("name"),
            size,
            encoder.output_size,
            attention=attention.pop("name"),
            options=cell,
            attention_options=attention,
            **rest,
        )
        return Translator(source.size, target.size, encoder, decoder, **options)

    def task(
        self, settings: Settings, texts: dict[str, ParallelLines], tokenizers: Mapping[str, Tokenizer]
    ) -> TranslationTask:
        values = settings.values
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        pairs = Pairs.from_lines(texts["train"], source, target)
        with settings.at("batches"):
            batches = PairBatches(pairs, seed=values["seed"], **values["batches"])
        decoding, rules = self.search(settings)
        options = {name: values["training"][name] for name in self.task_section().entries}
        prints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        with settings.at("training"):
            return TranslationTask(
                batches, texts["valid"], source, target, decoding, rules, prints, **options
            )

    def reports(self, task: TranslationTask) -> list[str]:
        return [str(task.batch_source.report)]

    def search(self, settings: Settings) -> tuple[Decoding, list[Rule]]:
        """How the settings say that translations are searched for."""
        options = dict(settings.values["decoding"])
        with settings.at("decoding"):
            rules = make_rules(options.pop("rules"))
            return Decoding(**options), rules

    def pipeline(
        self, settings: Settings, model: Translator, tokenizers: Mapping[str, Tokenizer]
    ) -> TranslationPipeline:
        decoding, rules = self.search(settings)
        return TranslationPipeline(
            model,
            tokenizers["source tokenizer"],
            tokenizers["target tokenizer"],
            decoding=decoding,
            rules=rules,
        )

    def fields(self, values: Values, model: nn.Module) -> dict[str, object]:
        encoder, decoder = values["model"]["encoder"], values["model"]["decoder"]
        cells = dict.fromkeys((cell_name(encoder), cell_name(decoder)))
        return {
            "cell": "+".join(cells),
            "layers": f"{encoder['num_layers']}+{decoder['num_layers']}",
            "attention": decoder["attention"]["name"],
            "params": parameters(model),
        }


class Classification(Builder):
    """Labelled lines, an encoder, one tokenizer and the labels."""

    text = "Tell which label a text has, learning from lines of labels and texts."

    def sections(self) -> dict[str, Schema]:
        encoders = {"stack": stack_section(), "convolution": from_signature(Convolution, skip=["input_size"])}
        return {
            "data": from_signature(read_splits),
            "tokenizer": tokenizer_section(),
            "model": from_signature(
                Classifier,
                skip=["vocabulary_size", "classes"],
                sections={"encoder": Choice(encoders, default="stack")},
            ),
            "batches": from_signature(ExampleBatches, skip=["examples", "seed"]),
        }

    def task_section(self) -> Section:
        return from_signature(ClassificationTask, skip=["batches", "validation", "fingerprints"])

    def files(self, values: Values, split: str) -> list[Path]:
        data = values["data"]
        path = data["validation"] or data["train"] if split == "valid" else data[split]
        return [path] if path is not None else []

    def read(self, values: Values, say: Callable[[str], None]) -> dict[str, LabelledLines]:
        splits = read_splits(**values["data"])
        for report in dict.fromkeys(str(part.report) for part in splits.values()):
            say(report)
        return splits

    def stand_in(self, values: Values) -> dict[str, LabelledLines]:
        lines = LabelledLines("stand-in", ["a", "b"], ["a", "b"], [1, 2], Report("stand-in"))
        return {"train": lines, "validation": lines}

    def tokenizer_files(self, values: Values) -> dict[str, str]:
        return {"tokenizer": "tokenizer", "labels": "labels"}

    def training_lines(self, texts: dict[str, LabelledLines], file: str) -> Iterable[str]:
        return texts["train"].texts

    def new_tokenizer(self, values: Values, texts: dict[str, LabelledLines], file: str) -> Tokenizer | Labels:
        return (
            Labels.train(texts["train"]) if file == "labels" else super().new_tokenizer(values, texts, file)
        )

    def load_tokenizers(self, folder: Path, values: Values) -> dict[str, Any]:
        return {"tokenizer": load_tokenizer(folder, "tokenizer"), "labels": Labels.load(folder, "labels")}

    def stand_in_tokenizer(self, file: str) -> Tokenizer | Labels:
        return Labels(["a", "b"]) if file == "labels" else super().stand_in_tokenizer(file)

    def model(self, values: Values, tokenizers: Mapping[str, Any]) -> Classifier:
        options = dict(values["model"])
        encoder = dict(options.pop("encoder"))
        size = options["embedding_size"]
        made = make_stack if encoder.pop("name") == "stack" else make_convolution
        return Classifier(
            tokenizers["tokenizer"].size, tokenizers["labels"].size, made(encoder, size), **options
        )

    def task(
        self, settings: Settings, texts: dict[str, LabelledLines], tokenizers: Mapping[str, Any]
    ) -> ClassificationTask:
        values = settings.values
        examples = {
            split: Examples.from_lines(texts[split], tokenizers["tokenizer"], tokenizers["labels"])
            for split in ("train", "validation")
        }
        with settings.at("batches"):
            batches = ExampleBatches(examples["train"], seed=values["seed"], **values["batches"])
        options = {name: values["training"][name] for name in self.task_section().entries}
        prints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        with settings.at("training"):
            return ClassificationTask(batches, examples["validation"], prints, **options)

    def reports(self, task: ClassificationTask) -> list[str]:
        return []

    def pipeline(
        self, settings: Settings, model: Classifier, tokenizers: Mapping[str, Any]
    ) -> ClassificationPipeline:
        lowercase = settings.values["data"]["lowercase"]
        return ClassificationPipeline(
            model, tokenizers["tokenizer"], tokenizers["labels"], lowercase=lowercase
        )

    def fields(self, values: Values, model: nn.Module) -> dict[str, object]:
        encoder = values["model"]["encoder"]
        if encoder["name"] == "convolution":
            return {"encoder": "convolution", "params": parameters(model)}
        return {
            "cell": cell_name(encoder),
            "layers": encoder["num_layers"],
            "pooling": values["model"]["pooling"],
            "params": parameters(model),
        }


def make_convolution(values: Values, input_size: int) -> Convolution:
    """A convolution from its section."""
    return Convolution(input_size, **values)


BUILDERS: dict[str, Builder] = {
    "classification": Classification(),
    "language_model": LanguageModelling(),
    "translation": Translation(),
}
