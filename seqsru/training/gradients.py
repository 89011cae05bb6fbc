"""Where the gradients of an update lie when CUDA graphs add to them, which know only places in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Gradients:
    """The gradients of an update, which lie in buffers of their own as soon as a graph has added to them.

    Parameters
    ----------
    parameters : list of Parameter
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self._buffers: dict[nn.Parameter, Tensor] = {}

    @property
    def none(self) -> bool:
        """Whether no batch of this update came before."""
        return all(parameter.grad is None for parameter in self.parameters)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Within it there are none yet; afterwards there are those of before."""
        before = [parameter.grad for parameter in self.parameters]
        self._set([None] * len(before))
        try:
            yield
        finally:
            self._set(before)

    def _set(self, gradients: Sequence[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient

    def reached(self) -> list[nn.Parameter]:
        """The parameters that have a gradient, each of them with a buffer from now on."""
        reached = [parameter for parameter in self.parameters if parameter.grad is not None]
        for parameter in reached:
            if parameter not in self._buffers:
                self._buffers[parameter] = torch.empty_like(parameter, requires_grad=False)
        return reached

    def collect(self, reached: list[nn.Parameter], first: bool) -> None:
        """Put the gradients of a batch into the buffers, or add them to what is there."""
        buffers = [self._buffers[parameter] for parameter in reached]
        found = [parameter.grad for parameter in reached if parameter.grad is not None]
        with torch.no_grad():
            if first:
                torch._foreach_copy_(buffers, found)
            else:
                torch._foreach_add_(buffers, found)

    def take(self, reached: list[nn.Parameter], first: bool) -> None:
        """Make the buffers the gradients of the parameters, with what is there of earlier batches."""
        for parameter in reached:
            buffer, there = self._buffers[parameter], parameter.grad
            if there is buffer:
                continue
            if there is not None:
                buffer.copy_(there)
            elif not first:
                buffer.fill_(-0.0)
            parameter.grad = buffer
