"""Training a language model on windows of one long text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from torch import nn

from seqsru.data.stream import StreamBatches, TokenStream, Window
from seqsru.errors import check_probability
from seqsru.evaluation.perplexity import perplexity
from seqsru.models.language_model import LanguageModel
from seqsru.training.objective import BatchLoss, Carried, Objective

ValidState = Literal["carried", "separate"]
ValidMetric = Literal["perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"]


class LanguageModelTask(Objective):
    """Predict each token from all before it, by truncated backpropagation.

    The state is carried from window to window. An epoch is one pass over the windows in order, from the
    initial state.

    Parameters
    ----------
    windows : StreamBatches
        The training text.
    valid : TokenStream
        The validation text.
    fingerprints : dict of str to str
        sha256 of the tokenizer, as ``{"tokenizer": …}``.
    label_smoothing : float
        Share of the target's probability that is spread over the vocabulary (PyTorch's definition); never
        part of a reported perplexity.
    valid_state : {"carried", "separate"}
        carried: the validation text is one stream. separate: each line begins anew.
    valid_metric : {"perplexity", "token_perplexity", "bits_per_token", "bits_per_byte"}
        The headline of validation: per word and line, per token, bits per token (with a vocabulary of
        characters, per character), bits per byte. They rise and fall together; for text without spaces
        between words take one of the last two, which cannot grow beyond all numbers.

    Raises
    ------
    ValueError
        An option outside its values.
    """

    higher_is_better = False

    def __init__(
        self,
        windows: StreamBatches,
        valid: TokenStream,
        fingerprints: dict[str, str],
        *,
        label_smoothing: float = 0.0,
        valid_state: ValidState = "carried",
        valid_metric: ValidMetric = "perplexity",
    ) -> None:
        check_probability(label_smoothing=label_smoothing)
        for name, value, known in (
            ("valid_state", valid_state, get_args(ValidState)),
            ("valid_metric", valid_metric, get_args(ValidMetric)),
        ):
            if value not in known:
                raise ValueError(
                    f"language model: expected {name} to be one of {', '.join(known)}, found "
                    f"{value!r}; choose one"
                )
        self.windows, self.valid, self.fingerprints = windows, valid, fingerprints
        self.label_smoothing, self.valid_state = label_smoothing, valid_state
        self.metric: str = valid_metric

    def epoch_length(self, epoch: int) -> int:
        return len(self.windows)

    def batches(self, epoch: int, start: int) -> Iterator[Window]:
        return (self.windows[i] for i in range(start, len(self.windows)))

    def loss(self, model: nn.Module, batch: Window, carried: Carried | None) -> BatchLoss:
        assert isinstance(model, LanguageModel)
        device = model.output.weight.device
        inputs, targets = batch.inputs.to(device), batch.targets.to(device)
        valid = None if batch.valid is None else batch.valid.to(device)
        features, carried = model(inputs, carried, valid)
        loss, nll = model.cross_entropy(features, targets, valid, self.label_smoothing)
        return BatchLoss(loss, nll.sum(), batch.count, targets.shape[1], carried)

    def validate(self, model: nn.Module) -> dict[str, float]:
        assert isinstance(model, LanguageModel)
        return perplexity(model, self.valid, carried=self.valid_state == "carried").values()
