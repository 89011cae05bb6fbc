"""Training a translation model on batches of sentence pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, get_args

from torch import nn

from seqsru.data.lines import ParallelLines
from seqsru.data.pairs import PairBatch, PairBatches
from seqsru.data.tokenizers import Tokenizer
from seqsru.decoding import Decoding, Rule
from seqsru.errors import check_probability
from seqsru.evaluation.bleu import translation_scores
from seqsru.evaluation.translation import TranslationPipeline
from seqsru.models.translator import Translator
from seqsru.training.objective import BatchLoss, Carried, Objective

ValidMetric = Literal["bleu", "perplexity"]


class TranslationTask(Objective):
    """Predict each token of a translation from its source and the tokens before it.

    An epoch is every pair once, in batches drawn from the batches' seed and the epoch's number. Validation
    gives ``perplexity`` of the references' tokens and, with `valid_metric` bleu, ``bleu`` of the
    translations: sacrebleu's, cased, on detokenised text.

    Parameters
    ----------
    batches : PairBatches
        The training pairs.
    valid : ParallelLines
        The validation pairs.
    source_tokenizer, target_tokenizer : Tokenizer
    decoding : Decoding
        How the validation text is translated.
    rules : sequence of Rule
        Applied to every one of those translations.
    fingerprints : dict of str to str
        sha256 of the tokenizers.
    label_smoothing : float
        Share of the target's probability that is spread over the vocabulary (PyTorch's definition); never
        part of a reported perplexity.
    valid_metric : {"bleu", "perplexity"}
        What the best checkpoint is the best in. perplexity spares the time that translating takes.
    valid_beam : int or None
        Beam of the validation's translations, 1 being the fastest; null is that of the decoding section.

    Raises
    ------
    ValueError
        No validation pairs, or an option outside its values.
    """

    def __init__(
        self,
        batches: PairBatches,
        valid: ParallelLines,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        decoding: Decoding,
        rules: Sequence[Rule],
        fingerprints: dict[str, str],
        *,
        label_smoothing: float = 0.0,
        valid_metric: ValidMetric = "bleu",
        valid_beam: int | None = None,
    ) -> None:
        check_probability(label_smoothing=label_smoothing)
        if valid_metric not in get_args(ValidMetric):
            names = " or ".join(get_args(ValidMetric))
            raise ValueError(
                f"translation: expected valid_metric to be {names}, found {valid_metric!r}; choose one"
            )
        if not valid.target:
            raise ValueError("translation: expected validation pairs, found none; check the files")
        self.batch_source, self.valid = batches, valid
        self.source_tokenizer, self.target_tokenizer = source_tokenizer, target_tokenizer
        self.decoding = replace(decoding, n_best=1, beam=decoding.beam if valid_beam is None else valid_beam)
        self.rules, self.fingerprints = rules, fingerprints
        self.label_smoothing = label_smoothing
        self.metric: str = valid_metric
        self.higher_is_better = valid_metric == "bleu"
        self._tokens = sum(len(target_tokenizer.encode(line)) + 1 for line in valid.target)

    def epoch_length(self, epoch: int) -> int:
        return len(self.batch_source)

    def batches(self, epoch: int, start: int) -> Iterator[PairBatch]:
        return (self.batch_source.collate(indices) for indices in self.batch_source.epoch(epoch)[start:])

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
            model, self.source_tokenizer, self.target_tokenizer, decoding=self.decoding, rules=self.rules
        )
        log_probs = pipeline.score(self.valid.source, self.valid.target)
        values = {"perplexity": math.exp(min(700.0, -math.fsum(log_probs) / self._tokens))}
        if self.metric == "bleu":
            translations = [translation.text for translation in pipeline.translate(self.valid.source)]
            values["bleu"] = translation_scores(translations, self.valid.target)[0].value
        return values
