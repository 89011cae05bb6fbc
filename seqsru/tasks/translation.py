"""Translation: two texts, an encoder and a decoder, one joint tokenizer or two."""

# Annotations are read at run time: the fields of the dataclasses are the `data` section of a config.
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from torch import nn

from seqsru.data import (
    LineReport,
    PairBatch,
    PairBatches,
    ParallelLines,
    Tokenizer,
    read_lines,
)
from seqsru.data.files import text_digest
from seqsru.data.lines import OnBadLine
from seqsru.data.references import ReferencedLines, read_references
from seqsru.data.shares import Share, check_weight
from seqsru.data.text_cache import TextCache
from seqsru.data.texts import Again, TextFiles
from seqsru.decoding import Decoding
from seqsru.decoding.decoding import MOST_BEAM
from seqsru.errors import Refused, check_at_most, check_known, check_probability
from seqsru.evaluation.bleu import make_metrics, metric_fields
from seqsru.evaluation.bleu_tokenizers import BleuTokenizer, unspaced
from seqsru.evaluation.signature import parameters
from seqsru.models import Ensemble, Translator
from seqsru.pipelines.translation import Translation, TranslationPipeline
from seqsru.settings import (
    Schema,
    Section,
    Setting,
    from_signature,
)
from seqsru.tasks.corpora import TrainingTexts, each, shares_told
from seqsru.tasks.search import decoding_section
from seqsru.tasks.sections import (
    cell_name,
    decoder_section,
    embedding_size,
    stack_section,
    tokenizer_section,
)
from seqsru.tasks.task import (
    Split,
    Task,
    Tell,
    Tokenizers,
)
from seqsru.tasks.translation_answers import TRANSLATION
from seqsru.training import BatchLoss, Objective
from seqsru.training.objective import Carried

ValidationMetric = Literal["bleu", "chrf", "perplexity"]


@dataclass(frozen=True)
class PairFiles:
    """Two texts that translate each other.

    Parameters
    ----------
    source : Path
        Text to translate, a sentence a line.
    target : Path
        Its translation, line by line.
    references : list of Path
        Further translations of the same source, which BLEU and chrF take as references too.
    """

    source: Path
    target: Path
    references: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TrainingFiles:
    """Two texts that translate each other, and how often an epoch has each pair of them.

    Parameters
    ----------
    source : Path
        Text to translate, a sentence a line.
    target : Path
        Its translation, line by line.
    weight : float
        Times that each pair is in an epoch on average, above 0; 1.5 is all of them once and half of them,
        drawn anew for each epoch, a second time.
    """

    source: Path
    target: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no weight."""
        check_weight(self.weight)


@dataclass(frozen=True)
class TranslationData:
    """Files of UTF-8 text.

    Parameters
    ----------
    train : TrainingFiles, or list of them
        Pairs to learn from.
    validation : PairFiles
        Pairs that tell when the model was best.
    test : PairFiles or None
        Pairs that `seqsru evaluate` translates, with any number of references.
    on_bad_line : {"error", "skip", "replace"}
        What to do with a line that is not UTF-8 or holds a NUL: stop, leave out its pair, or put U+FFFD in
        place of each wrong byte. The last two are counted in the report.
    """

    train: TrainingFiles | list[TrainingFiles]
    validation: PairFiles = field(metadata={"formerly": "valid"})
    test: PairFiles | None = field(default=None, metadata={"may_change": True})
    on_bad_line: OnBadLine = "error"


class Texts(NamedTuple):
    """What is trained on and validated with."""

    train: TrainingTexts
    validation: ReferencedLines


class TranslationObjective(Objective):
    """Predict each token of a translation from its source and the tokens before it.

    An epoch is every pair once, in batches drawn from the batches' seed and the epoch's number. Validation
    gives ``perplexity`` of the first reference's tokens and, with `validation_metric` bleu or chrf, that of
    the translations: sacrebleu's, cased, on detokenised text. Of equal values the one of lower perplexity is
    the best.

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
    further : sequence of sequence of str
        More references of each validation line.
    validation_metric : {"bleu", "chrf", "perplexity"}
        What the best checkpoint is the best in. perplexity spares the time that translating takes; chrf needs
        no words, as in Chinese, Japanese or Thai.
    validation_tokenize : str
        sacrebleu's tokenizer for BLEU, in validation and later: zh for Chinese, ja-mecab for Japanese,
        ko-mecab for Korean, char or flores200 for any language without spaces.
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
        further: Sequence[Sequence[str]] = (),
        label_smoothing: float = 0.0,
        validation_metric: ValidationMetric = "bleu",
        validation_tokenize: BleuTokenizer = "13a",
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
        self.higher_is_better = validation_metric != "perplexity"
        self.further, self.tokenize = further, validation_tokenize
        made = make_metrics(["bleu", "chrf"], validation_tokenize, "validation_tokenize")
        self._scorer = made.get(validation_metric)
        if self._scorer is not None:
            self.tie_breaker = "perplexity"
        if validation_metric == "bleu":
            doubt = unspaced([validation.target, *further], self._scorer)
            do = "set training.validation_tokenize to zh, char or another, or validation_metric to chrf"
            self.notes = (f"warning: {doubt}; {do}",) if doubt else ()
        encoded = [target_tokenizer.encode(line) for line in validation.target]
        self._tokens = sum(map(len, encoded)) + len(encoded)
        self._unknown = sum(line.count(target_tokenizer.unk) for line in encoded)

    def epoch_length(self) -> int:
        return len(self.pairs)

    def batches(self, epoch: int, start: int) -> Iterator[PairBatch]:
        return (self.pairs.collate(indices) for indices in self.pairs.batches(epoch, start))

    def counts(self, batch: PairBatch) -> tuple[int, int]:
        return batch.count, batch.target_out.shape[1]

    def loss(self, model: nn.Module, batch: PairBatch, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, Translator)
        device = model.output_bias.device
        features = model(batch.source.to(device), batch.source_valid.to(device), batch.target_in.to(device))
        loss, nll = model.cross_entropy(
            features, batch.target_out.to(device), batch.target_valid.to(device), self.label_smoothing
        )
        return BatchLoss(loss, nll.sum(), *self.counts(batch), ())

    def places(self, epoch: int, number: int) -> dict[str, list[int]]:
        return self.pairs.lines_of(next(self.pairs.batches(epoch, number)))

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, Translator)
        pipeline = TranslationPipeline(
            model, self.source_tokenizer, self.target_tokenizer, decoding=self.decoding
        )
        source, target = self.validation.source, self.validation.target
        pairs = list(zip(source, target))
        log_probs = self.processes.map(lambda share: pipeline.score(*_sides(share)), pairs)
        values = {"perplexity": math.exp(min(700.0, -math.fsum(log_probs) / self._tokens))}
        if self._scorer is not None:
            translations = self.processes.map(lambda share: _texts(pipeline.translate(share)), source)
            references = [list(target), *map(list, self.further)]
            values[self.metric] = self._scorer.corpus_score(translations, references).score
        return values

    def signature_fields(self) -> dict[str, object]:
        fields: dict[str, object] = {
            "lines": len(self.validation.target),
            "tokens": self._tokens,
            "unknown": self._unknown,
        }
        if self._scorer is None:
            return fields
        return {
            **fields,
            **self.decoding.signature_fields(),
            **metric_fields(self._scorer, 1 + len(self.further)),
        }


def _sides(pairs: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [source for source, _ in pairs], [target for _, target in pairs]


def _texts(translations: Sequence[Translation]) -> list[str]:
    return [translation.text for translation in translations]


class TranslationTask(Task):
    """Translate sentences, learning from pairs of them."""

    text = "Translate sentences, learning from pairs of them."
    noun = TRANSLATION.noun
    reads = TRANSLATION.reads
    further = TRANSLATION.further
    answers = TRANSLATION.answers

    @classmethod
    def sections(cls) -> dict[str, Schema]:
        pair, held_out = from_signature(TrainingFiles), from_signature(PairFiles)
        tokenizer = tokenizer_section(skip=[])
        joint = Setting(bool, True, "Whether both languages share one tokenizer.")
        return {
            "data": from_signature(
                TranslationData,
                sections={
                    "train": replace(pair, text="", several=pair),
                    "validation": replace(held_out, text=""),
                    "test": replace(held_out, text="", optional=True),
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
                sections={"encoder": stack_section(), "decoder": decoder_section()},
            ),
            "batches": from_signature(PairBatches, skip=["pairs", "seed"]),
            "decoding": decoding_section("How translations are searched for, in validation and later."),
        }

    @classmethod
    def objective_section(cls) -> Section:
        given = ["pairs", "validation", "source_tokenizer", "target_tokenizer", "decoding", "fingerprints"]
        given += ["further"]
        return from_signature(
            TranslationObjective,
            skip=given,
            formerly={"validation_metric": "valid_metric", "validation_beam": "valid_beam"},
        )

    def files(self, split: Split) -> list[Path]:
        pair = self.settings["data"][split]
        if pair is None:
            return []
        return [
            file for one in each(pair) for file in (one["source"], one["target"], *one.get("references", ()))
        ]

    def read(self, tell: Tell) -> Texts:
        data: TranslationData = self.settings["data"].make()
        cache = TextCache(self.settings["cache"], tell)
        train: list[Share[TextFiles | ParallelLines]] = [
            Share(TextFiles([files.source, files.target], cache, data.on_bad_line), files.weight)
            for files in (data.train if isinstance(data.train, list) else [data.train])
        ]
        source, *references = self.files("validation")
        validation = read_references(source, references, on_bad_line=data.on_bad_line)
        for report in validation.reports:
            tell(str(report))
        return Texts(TrainingTexts(train), validation)

    def stand_in(self) -> Texts:
        self.settings["data"].make()
        pair = ParallelLines("stand-in", ["a"], ["a"], [1], LineReport("stand-in"))
        return Texts(TrainingTexts([Share(pair)]), ReferencedLines(pair, [], [pair.report]))

    def sample(self) -> tuple[str, list[str]]:
        source, *_ = self.files("test") or self.files("validation")
        return source.name, read_lines(source).lines

    def tokenizer_files(self) -> dict[str, str]:
        joint = self.settings["tokenizer"]["joint"]
        return {f"{side} tokenizer": "tokenizer" if joint else side for side in ("source", "target")}

    def tokenizer_lines(self, texts: Texts, file: str) -> Iterable[str]:
        sides = {"source": texts.train.source, "target": texts.train.target}
        return (
            Again(*(partial(iter, side) for side in sides.values())) if file == "tokenizer" else sides[file]
        )

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

    def objective(self, texts: Texts, tokenizers: Tokenizers) -> TranslationObjective:
        validation = texts.validation.pair
        if not validation.target:
            raise self.settings["data"].error(Refused("pairs", "none", "check the files", "validation"))
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        pairs = texts.train.pairs(source, target)
        batches: PairBatches = self.settings["batches"].make(pairs, seed=self.settings["seed"])
        fingerprints = {role: tokenizer.fingerprint for role, tokenizer in tokenizers.items()}
        options = self.settings["training"].of(TranslationObjective)
        decoding = self.settings["decoding"].make()
        made: TranslationObjective = options.make(
            batches, validation, source, target, decoding, fingerprints, further=texts.validation.further
        )
        made.text = text_digest(validation.source, *texts.validation.references)
        corpora = [(part.of.report.name, part.weight) for part in pairs]
        made.notes += shares_told(corpora, batches.counts, "pairs")
        return made

    def omissions(self, objective: TranslationObjective) -> list[str]:
        return list(map(str, objective.pairs.reports))

    def pipeline(self, model: Translator, tokenizers: Tokenizers) -> TranslationPipeline:
        source, target = tokenizers["source tokenizer"], tokenizers["target tokenizer"]
        decoding = self.settings["decoding"].make()
        return TranslationPipeline(model, source, target, decoding=decoding)

    def together(self, runs: Sequence[str], pipelines: Sequence[TranslationPipeline]) -> TranslationPipeline:
        first, *others = pipelines
        for side in ("target", "source"):
            role = f"{side}_tokenizer"
            for run, other in zip(runs[1:], others):
                if getattr(other, role).fingerprint != getattr(first, role).fingerprint:
                    raise Refused(
                        f"the {side} tokenizer of {runs[0]} in every run",
                        f"another in {run}",
                        "train them with one: start_from.run, or the same training text and settings",
                        "ensemble",
                    )
        return replace(first, model=Ensemble([pipeline.model for pipeline in pipelines]))

    def fields(self, model: nn.Module) -> dict[str, object]:
        encoder, decoder = self.settings["model"]["encoder"], self.settings["model"]["decoder"]
        cells = dict.fromkeys((cell_name(encoder), cell_name(decoder)))
        return {
            "cell": "+".join(cells),
            "layers": f"{encoder['num_layers']}+{decoder['num_layers']}",
            "attention": decoder["attention"].chosen,
            "params": parameters(model),
        }
