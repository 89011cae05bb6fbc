"""Translation: two texts, an encoder and a decoder, one joint tokenizer or two."""

# Annotations are read at run time: the fields of the dataclasses are the `data` section of a config.
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

from torch import nn

from seqsru.data import (
    LineReport,
    PairBatch,
    PairBatches,
    Pairs,
    ParallelLines,
    Tokenizer,
    read_lines,
    read_parallel,
)
from seqsru.data.lines import OnBadLine
from seqsru.decoding import Decoding
from seqsru.decoding.decoding import MOST_BEAM
from seqsru.errors import Refused, check_at_most, check_known, check_probability
from seqsru.evaluation.bleu import paired_bootstrap, translation_scores
from seqsru.evaluation.clock import TimedDecoder
from seqsru.evaluation.signature import parameters
from seqsru.models import Translator
from seqsru.models.attention import ATTENTIONS
from seqsru.models.decoder import Decoder
from seqsru.pipelines.translation import TranslationPipeline
from seqsru.settings import (
    Schema,
    Section,
    Setting,
    from_signature,
    joined,
    registry,
)
from seqsru.tasks.search import decoding_section, search_flags, searched
from seqsru.tasks.sections import cell_name, cell_section, embedding_size, stack_section, tokenizer_section
from seqsru.tasks.task import (
    Answer,
    Evaluation,
    LineTranslator,
    Scorer,
    Split,
    Task,
    Tell,
    Tokenizers,
    Trained,
    chosen_files,
)
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["bleu", "perplexity"]


@dataclass(frozen=True)
class PairFiles:
    """Two texts that translate each other.

    Parameters
    ----------
    source : Path
        Text to translate, a sentence a line.
    target : Path
        Its translation, line by line.
    """

    source: Path
    target: Path


@dataclass(frozen=True)
class TranslationData:
    """Files of UTF-8 text.

    Parameters
    ----------
    train : PairFiles
        Pairs to learn from.
    validation : PairFiles
        Pairs that tell when the model was best.
    test : PairFiles or None
        Pairs that `seqsru evaluate` translates.
    on_bad_line : {"error", "skip", "replace"}
        What to do with a line that is not UTF-8 or holds a NUL: stop, leave out its pair, or put U+FFFD in
        place of each wrong byte. The last two are counted in the report.
    """

    train: PairFiles
    validation: PairFiles = field(metadata={"formerly": "valid"})
    test: PairFiles | None = None
    on_bad_line: OnBadLine = "error"


class TranslationObjective(Objective):
    """Predict each token of a translation from its source and the tokens before it.

    An epoch is every pair once, in batches drawn from the batches' seed and the epoch's number. Validation
    gives ``perplexity`` of the references' tokens and, with `validation_metric` bleu, ``bleu`` of the
    translations: sacrebleu's, cased, on detokenised text.

    Parameters
    ----------
    pairs : PairBatches
        The training pairs.
    validation : ParallelLines
        The validation pairs; at least one.
    source_tokenizer, target_tokenizer : Tokenizer
    decoding : Decoding
        How the validation text is translated.
    fingerprints : dict of str to str
        sha256 of the tokenizers.
    label_smoothing : float
        Share of the target's probability that is spread over the vocabulary (PyTorch's definition); never
        part of a reported perplexity.
    validation_metric : {"bleu", "perplexity"}
        What the best checkpoint is the best in. perplexity spares the time that translating takes.
    validation_beam : int or None
        Beam of the validation's translations, 1 being the fastest; null is that of the decoding section.

    Raises
    ------
    Refused
        An option outside its values.
    """

    def __init__(
        self,
        pairs: PairBatches,
        validation: ParallelLines,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        decoding: Decoding,
        fingerprints: dict[str, str],
        *,
        label_smoothing: float = 0.0,
        validation_metric: ValidationMetric = "bleu",
        validation_beam: int | None = None,
    ) -> None:
        check_probability(label_smoothing=label_smoothing)
        check_known(get_args(ValidationMetric), validation_metric=validation_metric)
        if validation_beam is not None and validation_beam < 1:
            raise Refused("at least 1", str(validation_beam), "1 is the fastest", "validation_beam")
        if validation_beam is not None:
            check_at_most(MOST_BEAM, validation_beam=validation_beam)
        self.pairs, self.validation = pairs, validation
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        beam = decoding.beam if validation_beam is None else validation_beam
        self.decoding = replace(decoding, n_best=1, beam=beam)
        self.fingerprints, self.label_smoothing = fingerprints, label_smoothing
        self.metric: str = validation_metric
        self.higher_is_better = validation_metric == "bleu"
        self._tokens = sum(len(target_tokenizer.encode(line)) + 1 for line in validation.target)

    def epoch_length(self, epoch: int) -> int:
        return len(self.pairs)

    def batches(self, epoch: int, start: int) -> Iterator[PairBatch]:
        return (self.pairs.collate(indices) for indices in self.pairs.epoch(epoch)[start:])

    def loss(self, model: nn.Module, batch: PairBatch, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, Translator)
        device = model.output_bias.device
        features = model(batch.source.to(device), batch.source_valid.to(device), batch.target_in.to(device))
        loss, nll = model.cross_entropy(
            features, batch.target_out.to(device), batch.target_valid.to(device), self.label_smoothing
        )
        return BatchLoss(loss, nll.sum(), batch.count, batch.target_out.shape[1], ())

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Translator)
        pipeline = TranslationPipeline(
            model, self.source_tokenizer, self.target_tokenizer, decoding=self.decoding
        )
        source, target = self.validation.source, self.validation.target
        log_probs = pipeline.score(source, target)
        values = {"perplexity": math.exp(min(700.0, -math.fsum(log_probs) / self._tokens))}
        if self.metric == "bleu":
            translations = [translation.text for translation in pipeline.translate(source)]
            values["bleu"] = translation_scores(translations, target)[0].value
        return values


# ---- answers to the commands -----------------------------------------------------------------------

AT_ONCE = 1024  # lines that are translated together


def evaluate(
    trained: Trained,
    files: list[Path],
    split: Split,
    tell: Tell,
    *,
    metrics: str = "bleu,chrf",
    translations: Path | None = None,
    baseline: Path | None = None,
    on_bad_line: OnBadLine | None = None,
    **search: object,
) -> Evaluation:
    """BLEU and its relatives, by sacrebleu on detokenised text.

    Parameters
    ----------
    trained : Trained
    files : list of Path
        Source and reference, if not those of the split.
    split : str
    tell : callable
    metrics : str
        Of bleu, chrf and ter, with commas between them.
    translations : Path or None
        Write the translations to this file.
    baseline : Path or None
        Translations to compare with.
    on_bad_line : {"error", "skip", "replace"} or None
        What to do with a line that cannot be used; the run's data.on_bad_line where not given.
    **search : object
        As `search_flags` has them.
    """
    source, reference = chosen_files(trained.task, files, split)
    pipeline: TranslationPipeline = trained.pipeline
    decoding = replace(searched(pipeline.decoding, search), n_best=1)
    names = metrics.split(",")
    translation_scores(["x"], ["x"], names)  # are these metrics? asked before the work
    on_bad_line = on_bad_line or trained.task.settings["data"]["on_bad_line"]
    pair = read_parallel(source, reference, on_bad_line=on_bad_line)
    if pair.report:
        tell(str(pair.report))
    other = None if baseline is None else read_lines(baseline).lines
    if other is not None and len(other) != len(pair.target):
        raise Refused(
            f"as many lines in {baseline} as in {reference}",
            f"{len(other):,} and {len(pair.target):,}",
            "compare translations of one source",
            "baseline",
        )
    texts = [
        translation.text
        for first in range(0, len(pair.source), AT_ONCE)
        for translation in pipeline.translate(pair.source[first : first + AT_ONCE], decoding)
    ]
    if translations is not None:
        with open(translations, "w", encoding="utf-8", newline="\n") as stream:
            stream.writelines(text + "\n" for text in texts)
    scores = translation_scores(texts, pair.target, names)
    signature = trained.signed(
        {
            "data": source.name,
            "lines": len(texts),
            "beam": decoding.beam,
            "penalty": decoding.penalty,
            "alpha": decoding.alpha,
        }
    )
    lines = [*(one.line for one in scores), signature]
    values: dict[str, Any] = {name: one.value for name, one in zip(names, scores)}
    values |= {
        "signatures": {name: one.signature for name, one in zip(names, scores)},
        "lines": len(texts),
        "data": str(source),
        "signature": signature,
    }
    if other is not None:
        compared = paired_bootstrap(other, texts, pair.target, names)
        lines += [comparison.line for comparison in compared]
        values["comparison"] = {name: one.as_dict() for name, one in zip(names, compared)}
    return Evaluation(lines, values)


def score(trained: Trained) -> Scorer:
    """Log probability of each translation, given its source."""
    return Scorer(("SOURCE", "TARGET"), trained.pipeline.score)


def translate(trained: Trained, attention: bool, **search: object) -> LineTranslator:
    """Translations of lines."""
    pipeline: TranslationPipeline = trained.pipeline
    decoding = searched(pipeline.decoding, search)
    return LineTranslator(
        decoding.n_best, lambda lines: pipeline.translate(lines, decoding, attention=attention)
    )


def latency(trained: Trained, name: str, *, beam: int | None = None) -> TimedDecoder:
    """The decoder that `translate` uses.

    Parameters
    ----------
    trained : Trained
    name : str
    beam : int or None
        Beam to measure with; the run's where not given.
    """
    pipeline: TranslationPipeline = trained.pipeline
    decoding = pipeline.decoding if beam is None else replace(pipeline.decoding, beam=beam)
    return pipeline.timed(name, replace(decoding, n_best=1))


class TranslationTask(Task):
    """Translate sentences, learning from pairs of them."""

    text = "Translate sentences, learning from pairs of them."
    noun = "a translation model"
    reads = ("SOURCE", "REFERENCE")
    answers = {
        "evaluate": Answer(
            evaluate,
            joined(
                from_signature(evaluate, skip=["trained", "files", "split", "tell", "search"]), search_flags()
            ),
        ),
        "score": Answer(score),
        "translate": Answer(translate, search_flags()),
        "latency": Answer(latency, from_signature(latency, skip=["trained", "name"])),
    }

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        pair = from_signature(PairFiles)
        tokenizer = tokenizer_section(skip=[])
        joint = Setting(bool, True, "Whether both languages share one tokenizer.")
        decoder = from_signature(
            Decoder,
            skip=["input_size", "memory_size"],
            sections={
                "cell": cell_section(),
                "attention": registry(
                    ATTENTIONS,
                    skip=["query_size", "memory_size", "output_size"],
                    options="attention_options",
                ),
            },
        )
        return {
            "data": from_signature(
                TranslationData,
                sections={
                    "train": replace(pair, text=""),
                    "validation": replace(pair, text=""),
                    "test": replace(pair, text="", optional=True),
                },
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
                sections={"encoder": stack_section(), "decoder": decoder},
            ),
            "batches": from_signature(PairBatches, skip=["pairs", "seed"]),
            "decoding": decoding_section("How translations are searched for, in validation and later."),
        }

    @classmethod
    def objective_section(cls) -> Section:
        given = ["pairs", "validation", "source_tokenizer", "target_tokenizer", "decoding", "fingerprints"]
        return from_signature(
            TranslationObjective,
            skip=given,
            formerly={"validation_metric": "valid_metric", "validation_beam": "valid_beam"},
        )

    def files(self, split: Split) -> list[Path]:
        pair = self.settings["data"][split]
        return [] if pair is None else [pair["source"], pair["target"]]

    def read(self, tell: Tell) -> dict[str, ParallelLines]:
        data: TranslationData = self.settings["data"].make()
        texts = {
            split: read_parallel(pair.source, pair.target, on_bad_line=data.on_bad_line)
            for split, pair in (("train", data.train), ("validation", data.validation))
        }
        tell(str(texts["validation"].report))
        return texts

    def stand_in(self) -> dict[str, ParallelLines]:
        pair = ParallelLines("stand-in", ["a"], ["a"], [1], LineReport("stand-in"))
        return {"train": pair, "validation": pair}

    def sample(self) -> tuple[str, list[str]]:
        source, _ = self.files("test") or self.files("validation")
        return source.name, read_lines(source).lines

    def tokenizer_files(self) -> dict[str, str]:
        joint = self.settings["tokenizer"]["joint"]
        return {f"{side} tokenizer": "tokenizer" if joint else side for side in ("source", "target")}

    def tokenizer_lines(self, texts: dict[str, ParallelLines], file: str) -> Iterable[str]:
        pairs = texts["train"]
        sides = {"source": pairs.source, "target": pairs.target}
        return chain(*sides.values()) if file == "tokenizer" else sides[file]

    def model(self, tokenizers: Tokenizers) -> Translator:
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        model = self.settings["model"]
        if model["tying"] == "all" and source.fingerprint != target.fingerprint:
            raise model.error(
                Refused(
                    "one tokenizer for both languages with all",
                    "two",
                    "set tokenizer.joint to true, or tying to target",
                    "tying",
                )
            )
        size = embedding_size(model)
        encoder = model["encoder"].make(input_size=size)
        decoder = model["decoder"].make(input_size=size, memory_size=encoder.output_size)
        made: Translator = model.make(source.size, target.size, encoder=encoder, decoder=decoder)
        return made

    def objective(self, texts: dict[str, ParallelLines], tokenizers: Tokenizers) -> TranslationObjective:
        if not texts["validation"].target:
            raise self.settings["data"].error(Refused("pairs", "none", "check the files", "validation"))
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        pairs = Pairs.from_lines(texts["train"], source, target)
        batches = self.settings["batches"].make(pairs, seed=self.settings["seed"])
        fingerprints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        options = self.settings["training"].of(TranslationObjective)
        decoding = self.settings["decoding"].make()
        made: TranslationObjective = options.make(
            batches, texts["validation"], source, target, decoding, fingerprints
        )
        return made

    def omissions(self, objective: TranslationObjective) -> list[str]:
        return [str(objective.pairs.report)]

    def pipeline(self, model: Translator, tokenizers: Tokenizers) -> TranslationPipeline:
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        return TranslationPipeline(model, source, target, decoding=self.settings["decoding"].make())

    def fields(self, model: nn.Module) -> dict[str, object]:
        encoder, decoder = self.settings["model"]["encoder"], self.settings["model"]["decoder"]
        cells = dict.fromkeys((cell_name(encoder), cell_name(decoder)))
        return {
            "cell": "+".join(cells),
            "layers": f"{encoder['num_layers']}+{decoder['num_layers']}",
            "attention": decoder["attention"].chosen,
            "params": parameters(model),
        }
