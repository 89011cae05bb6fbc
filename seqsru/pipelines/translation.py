"""A trained translation model with its tokenizers: text in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

from seqsru.data.lines import LineReport, text_lines, unbroken
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, Hypothesis
from seqsru.engine.inference import Output
from seqsru.errors import Refused
from seqsru.evaluation.clock import TimedDecoder
from seqsru.pipelines.compiled import CompiledModel, timed_inside
from seqsru.pipelines.guard import Guarded
from seqsru.settings import checked_arguments

if TYPE_CHECKING:  # torch takes a second to import, and the engine does without it
    from seqsru.models.ensemble import Ensemble
    from seqsru.models.translator import Translator


@dataclass(frozen=True)
class Translation:
    """The translation of one line.

    Attributes
    ----------
    text : str
        The translation, one line whatever its tokens are; empty for an empty line.
    tokens : list of int
        Its tokens in the target vocabulary, without ``</s>``.
    log_prob : float
        Sum of the tokens' log probabilities, ``</s>`` included, in nats.
    score : float
        What translations are ordered by: length and coverage penalties applied.
    attention : Tensor of shape (target length, source length), float32, or None
        Weights on the source at each target token, both lengths with ``</s>``; where asked for. An ndarray
        from the engine.
    source_labels, target_labels : list of str
        A printable label for each column and row of `attention`; empty without it.
    cut : int
        Source tokens left out because the line was longer than `max_source`.
    alternatives : tuple of Translation
        The next best translations, best first, where more than one was asked for.
    """

    text: str
    tokens: list[int]
    log_prob: float
    score: float
    attention: Any  # a Tensor or an ndarray, or None
    source_labels: list[str]
    target_labels: list[str]
    cut: int
    alternatives: tuple[Translation, ...]

    def as_dict(self, attention: bool = False) -> dict[str, Any]:
        """Text, score, log probability, tokens and alternatives, as plain JSON values.

        Parameters
        ----------
        attention : bool
            Whether the weights, None without them, and their labels are among them.
        """
        plain: dict[str, Any] = {
            "text": self.text,
            "score": self.score,
            "log_prob": self.log_prob,
            "tokens": list(self.tokens),
        }
        if attention:
            plain |= {
                "attention": None if self.attention is None else self.attention.tolist(),
                "source_labels": list(self.source_labels),
                "target_labels": list(self.target_labels),
            }
        plain["alternatives"] = [other.as_dict(attention) for other in self.alternatives]
        return plain


@checked_arguments
@dataclass(frozen=True, eq=False, repr=False)
class TranslationPipeline:
    """Translate lines, and score given translations. Nothing in it changes, so that threads may share it.

    Output is in input order, a line out for each line in. On a CPU in float32 neither text nor the bits of a
    score depend on the other lines, their order, or the batch size.

    Parameters
    ----------
    model : Translator or Ensemble
        Put in evaluation mode. Only its `begin` and `step` translate.
    source_tokenizer, target_tokenizer : Tokenizer
        The ones it was trained with.
    decoding : Decoding
        How `translate` decodes unless told otherwise.
    engine : CompiledModel, optional
        The same model compiled, which then decodes in place of `model`; `model` may be None beside it.

    Raises
    ------
    Refused
        A tokenizer has another number of types than the model, or there is no model.
    """

    model: Any  # a Translator, an Ensemble or None: naming them would import torch
    source_tokenizer: Tokenizer
    target_tokenizer: Tokenizer
    _: KW_ONLY
    decoding: Decoding = Decoding()
    engine: CompiledModel | None = None

    def __post_init__(self) -> None:
        if self.model is not None:
            from seqsru.models.ensemble import Ensemble
            from seqsru.models.translator import Translator

            if not isinstance(self.model, (Translator, Ensemble)):
                raise Refused("a Translator", type(self.model).__name__, "give a translation model", "model")
            sizes = self.model.source_vocabulary, self.model.target_vocabulary
            self.model.eval()
        elif self.engine is not None:
            sizes = self.engine.model.source_vocabulary, self.engine.model.vocabulary
        else:
            raise Refused("a model, or an engine that has one", "neither", "give one of them", "model")
        for side, tokenizer, size in zip(
            ("source", "target"), (self.source_tokenizer, self.target_tokenizer), sizes
        ):
            if tokenizer.size != size:
                raise Refused(
                    f"a {side} tokenizer of {size} types",
                    f"one of {tokenizer.size}",
                    "use the one the model was trained with",
                    f"{side}_tokenizer",
                )

    @checked_arguments
    def translate(
        self,
        lines: Sequence[str],
        decoding: Decoding | None = None,
        *,
        attention: bool = False,
        **changes: Any,
    ) -> list[Translation]:
        """Translate lines of text.

        Parameters
        ----------
        lines : sequence of str
            One sentence a line; an empty line, or one of white space, gives an empty translation.
        decoding : Decoding, optional
            How to decode; None is as the pipeline was made.
        attention : bool
            Whether translations carry their attention.
        **changes
            Fields of `Decoding` with other values for this call, such as ``beam=1``; None changes nothing.

        Returns
        -------
        list of Translation
            One a line, in order. What was cut is in `Translation.cut`; `cut_report` counts it.

        Raises
        ------
        Refused
            A change is no field of `Decoding`, or cannot be meant.
        """
        decoding, lines = self._decoding(decoding, changes), text_lines(lines)
        if decoding.guards:
            guarded = Guarded(self._translate, self.source_tokenizer, self.target_tokenizer, decoding)
            return guarded(lines, attention)
        return self._translate(lines, decoding, attention)

    def _translate(self, lines: Sequence[str], decoding: Decoding, attention: bool) -> list[Translation]:
        """Translate lines without guards."""
        eos = self.source_tokenizer.eos
        sources: list[list[int]] = []
        cuts = []
        for line in lines:
            tokens = self.source_tokenizer.encode(line) if line.strip() else []
            cuts.append(max(0, len(tokens) + 1 - decoding.max_source))
            sources.append([*tokens[: decoding.max_source - 1], eos] if tokens else [])
        translations = [Translation("", [], 0.0, 0.0, None, [], [], 0, ()) for _ in lines]
        for members in self._groups(sources, decoding):
            found = self._search([sources[index] for index in members], decoding, attention)
            for index, hypotheses in zip(members, found):
                best, *others = [self._translation(sources[index], cuts[index], h) for h in hypotheses]
                translations[index] = replace(best, alternatives=tuple(others))
        return translations

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """Log probability of each translation and its ``</s>``, given its source, in nats and in input order.

        Parameters
        ----------
        sources, targets : sequence of str
            Lines and their translations; an empty line is a sentence of ``</s>`` alone.

        Raises
        ------
        Refused
            The counts differ.
        """
        sources, targets = text_lines(sources, "sources"), text_lines(targets, "targets")
        if len(sources) != len(targets):
            raise Refused(
                f"a translation for each of the {len(sources)} lines",
                len(targets),
                "give files of equal length",
                "targets",
            )
        start, eos = self.target_tokenizer.bos, self.target_tokenizer.eos
        pairs = [
            (
                [*self.source_tokenizer.encode(source), self.source_tokenizer.eos],
                [*self.target_tokenizer.encode(target), eos],
            )
            for source, target in zip(sources, targets)
        ]
        if self.engine is not None:
            outputs = [translation for _, translation in pairs]
            return self.engine.score(
                [line for line, _ in pairs], [[start, *output[:-1]] for output in outputs], outputs
            )
        from seqsru.pipelines.eager import score_pairs

        return score_pairs(self._torch(), pairs, self.source_tokenizer.pad, self.target_tokenizer)

    def cut_report(self, translations: Sequence[Translation], name: str) -> LineReport:
        """Return which of the lines named `name` were cut; false where none was."""
        report = LineReport(name, len(translations))
        for number, translation in enumerate(translations, start=1):
            if translation.cut:
                report.add("longer than max_source, cut", number)
        return report

    def timed(self, name: str, decoding: Decoding | None = None, **changes: Any) -> TimedDecoder:
        """Give `translate`, with the settings it would take, to the meter; only the best output is kept.

        Parameters
        ----------
        name : str
            What the report calls it.
        decoding, **changes
            As in `translate`.
        """
        decoding = self._decoding(decoding, {**changes, "n_best": 1})

        def decode(pipeline: TranslationPipeline, line: str, length: int | None) -> list[Translation]:
            if length is None:
                return pipeline.translate([line], decoding)
            return pipeline.translate([line], decoding, length_factor=0.0, length_offset=length)

        eos, how = self.target_tokenizer.eos, decoding.signature_fields()
        timed = TimedDecoder(
            name, self.model, eos, f"beam {decoding.beam}", lambda *given: decode(self, *given), how
        )
        return timed if self.engine is None else timed_inside(timed, self, decode)

    def _decoding(self, decoding: Decoding | None, changes: dict[str, Any]) -> Decoding:
        """Return how to decode: as given or as the pipeline was made, with changes that are not None."""
        base = self.decoding if decoding is None else decoding
        return base.changed(
            **{name: getattr(base, name, None) if value is None else value for name, value in changes.items()}
        )

    def _torch(self) -> Translator | Ensemble:
        """Return the model, where torch is to decode."""
        model: Translator | Ensemble = self.model
        assert model is not None  # else there is an engine
        return model

    def _groups(self, sources: list[list[int]], decoding: Decoding) -> Iterable[list[int]]:
        """Return which sentences go through `_search` together: for the engine, which sees to it, all."""
        if self.engine is None:
            from seqsru.pipelines.batches import alike

            return alike(sources, decoding.batch_size, decoding.batch_by)
        return [[index for index, tokens in enumerate(sources) if tokens]]

    def _search(
        self, sources: list[list[int]], decoding: Decoding, attention: bool
    ) -> Sequence[Sequence[Hypothesis | Output]]:
        """Decode sources; without an engine all are padded to the same length."""
        if self.engine is not None:
            return self.engine.search(
                sources,
                [self.target_tokenizer.bos] * len(sources),
                eos=self.target_tokenizer.eos,
                decoding=decoding,
                limits=[decoding.longest(len(tokens)) for tokens in sources],
                attention=attention,
            )
        from seqsru.pipelines.eager import search

        pad, target = self.source_tokenizer.pad, self.target_tokenizer
        return search(self._torch(), sources, pad, target, decoding, attention)

    def _translation(self, source: list[int], cut: int, hypothesis: Hypothesis | Output) -> Translation:
        """Turn a hypothesis into text."""
        eos = self.target_tokenizer.eos
        tokens = [token for token in hypothesis.tokens if token != eos]
        attention, source_labels, target_labels = hypothesis.attention, [], []
        if attention is not None:
            attention = attention[:, : len(source)]
            source_labels = self.source_tokenizer.labels(source)
            target_labels = self.target_tokenizer.labels(hypothesis.tokens)
        text, scores = self.target_tokenizer.decode(tokens), (hypothesis.log_prob, hypothesis.score)
        text = unbroken(text)  # a piece may be a byte, and the byte a line feed
        return Translation(text, tokens, *scores, attention, source_labels, target_labels, cut, ())
