"""Weights that go on learning from the text that they score: dynamic evaluation."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from seqsru.cells import State
from seqsru.data.stream import StreamBatches, Window
from seqsru.errors import Refused
from seqsru.evaluation.adaptation import Dynamic
from seqsru.models.language_model import LanguageModel

# Elements of a parameter that are updated at a time: what belongs to them stays in the processor's cache, and
# an update takes a third of the time of one that goes through memory for every operation.
CHUNK = 1 << 17
ROWS = 10  # of the windows whose gradients are squared: each of a segment's length


class Learner:
    """A copy of a model, and how its weights follow a text; the model itself is never changed.

    Parameters
    ----------
    model : LanguageModel
    dynamic : Dynamic
    rms : sequence of Tensor, optional
        r of each parameter, from `gradient_rms`: needed for the rule rms.

    Attributes
    ----------
    model : LanguageModel
        The copy, in evaluation mode.
    """

    def __init__(self, model: LanguageModel, dynamic: Dynamic, rms: Sequence[Tensor] | None = None) -> None:
        self.model, self.parameters = trainable_copy(model)
        self._trained = [p.detach().clone() for p in self.parameters]
        self._rates: list[Tensor] | None = None
        self._decays: list[Tensor] | None = None
        self.dynamic = dynamic
        if dynamic.rule == "rms":
            if rms is None:
                raise Refused("the gradients' statistics for rms", "none", "take gradient_rms's", "rms")
            mean = sum(r.sum(dtype=torch.float64) for r in rms) / sum(r.numel() for r in rms)
            self._rates = [dynamic.rate / (r + dynamic.epsilon) for r in rms]
            self._decays = [(r * (dynamic.decay / float(mean))).clamp_(max=1.0) for r in rms]  # 2

    def learn(self, loss: Tensor) -> None:
        """Take a step that makes a loss smaller."""
        gradients = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        with torch.no_grad():
            scale = self._scale([gradient for gradient in gradients if gradient is not None])  # 3
            for number, gradient in enumerate(gradients):
                if gradient is not None:
                    self._step(number, gradient, scale)

    def _scale(self, gradients: Sequence[Tensor]) -> float:
        """What clips the gradients where they are multiplied by it."""
        if not self.dynamic.clip:
            return 1.0
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])).item()
        return min(1.0, self.dynamic.clip / norm) if norm else 1.0

    def _step(self, number: int, gradient: Tensor, scale: float) -> None:
        weights = _chunks(self.parameters[number].detach())
        trained, slopes = _chunks(self._trained[number]), _chunks(gradient.contiguous())
        if self._rates is None or self._decays is None:
            for weight, start, slope in zip(weights, trained, slopes):
                weight.lerp_(start, self.dynamic.decay).sub_(slope, alpha=self.dynamic.rate * scale)  # 5
            return
        rates, decays = _chunks(self._rates[number]), _chunks(self._decays[number])
        for weight, start, slope, rate, decay in zip(weights, trained, slopes, rates, decays):
            weight.lerp_(start, decay).addcmul_(slope, rate, value=-scale)  # 4


def gradient_rms(model: LanguageModel, windows: Iterable[Window]) -> list[Tensor]:
    """Root mean square of the gradients of each parameter over windows of text: r of `Dynamic`'s equation 1.

    The state is carried from window to window, as in training; no dropout is drawn.

    Parameters
    ----------
    model : LanguageModel
        Its gradients are left as they are.
    windows : iterable of Window
        At least one; all of the same number of rows.
    """
    model, parameters = trainable_copy(model)
    device = model.embedding.weight.device
    squares, count = [torch.zeros_like(p) for p in parameters], 0
    state: State | None = None
    for window in windows:
        inputs, targets = window.inputs.to(device), window.targets.to(device)
        valid = None if window.valid is None else window.valid.to(device)
        features, state = model(inputs, state, valid)
        state = tuple(t.detach() for t in state)
        loss, _ = model.cross_entropy(features, targets, valid)
        gradients = torch.autograd.grad(loss / window.count, parameters, allow_unused=True)
        for square, gradient in zip(squares, gradients):
            if gradient is not None:
                for part, slope in zip(_chunks(square), _chunks(gradient.contiguous())):
                    part.addcmul_(slope, slope)
        count += 1
    return [square.div_(max(count, 1)).sqrt_() for square in squares]  # 1


def trainable_copy(model: LanguageModel) -> tuple[LanguageModel, list[nn.Parameter]]:
    """Return a copy of a model that draws no dropout and can be trained, and its parameters."""
    made = copy.deepcopy(model).eval()
    for module in made.modules():
        if isinstance(module, nn.RNNBase) and not module.dropout:
            module.train()  # cuDNN has no gradients else, and a layer without dropout is the same in both
    parameters = list(made.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
        parameter.data = parameter.data.contiguous()
    return made, parameters


def first_windows(windows: StreamBatches, tokens: int) -> Iterator[Window]:
    """The first windows that together have at least so many tokens, or all there are."""
    seen = 0
    for number in range(len(windows)):
        if seen >= tokens:
            return
        window = windows[number]
        seen += window.count
        yield window


def _chunks(tensor: Tensor) -> Sequence[Tensor]:
    return torch.split(tensor.view(-1), CHUNK)
