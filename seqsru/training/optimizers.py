"""Optimizers by name: torch's own, with the two forms of weight decay the published recipes use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from seqsru.errors import check_between, check_probability, check_share

MOST_LR = 1000.0  # wide: recipes have up to 30, and a factor of `noam` is no rate
MOST_DECAY = 100.0
LEAST_EPS = 1e-45  # the smallest number that float32 has

# Where torch's fused optimizers look for a number that is not 0 if the step is not to be made.
FOUND = "found_inf"


def step(optimizer: torch.optim.Optimizer, bad: Tensor) -> None:
    """Make a step, or none, as a number on the device says: without waiting for it.

    Parameters
    ----------
    optimizer : Optimizer
        One of `OPTIMIZERS`.
    bad : bool Tensor of shape ()
        Where it is True neither weights nor the optimizer's own state change.
    """
    setattr(optimizer, FOUND, bad.float())
    try:
        optimizer.step()
    finally:
        delattr(optimizer, FOUND)


def adam(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba 2015).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    beta1 : float
        Decay of the mean of the gradients.
    beta2 : float
        Decay of the mean of their squares.
    eps : float
        Added to the root of that mean.
    weight_decay : float
        λ of an L2 penalty: λ·w is added to the gradient.

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_between(LEAST_EPS, 1.0, eps=eps)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_probability(beta1=beta1, beta2=beta2)
    return torch.optim.Adam(
        parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


def adamw(
    parameters: Iterable[nn.Parameter],
    lr: float = 1e-3,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    beta1 : float
        Decay of the mean of the gradients.
    beta2 : float
        Decay of the mean of their squares.
    eps : float
        Added to the root of that mean.
    weight_decay : float
        λ: every weight is multiplied by 1 − lr·λ before the step.

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_between(LEAST_EPS, 1.0, eps=eps)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_probability(beta1=beta1, beta2=beta2)
    return torch.optim.AdamW(
        parameters, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay, fused=True
    )


def sgd(
    parameters: Iterable[nn.Parameter],
    lr: float = 1.0,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    shrink: float = 0.0,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent.

    Parameters
    ----------
    parameters : iterable of Parameter
    lr : float
        Peak learning rate; the schedule says how it moves.
    momentum : float
        Share of the last step that is repeated (torch's form: the learning rate is outside).
    weight_decay : float
        λ of an L2 penalty: λ·w is added to the gradient.
    shrink : float
        Every weight is multiplied by 1 − shrink after the step, whatever the learning rate: the weight decay
        of the SRU paper's Penn Treebank recipe (1e-5 there).

    Raises
    ------
    Refused
        An option outside its range.
    """
    check_between(0.0, MOST_LR, lr=lr)
    check_probability(momentum=momentum)
    check_between(0.0, MOST_DECAY, weight_decay=weight_decay)
    check_share(shrink=shrink)
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True)
    if shrink:

        def multiply(optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bad = getattr(optimizer, FOUND, None)
            kept: Any = 1.0 - shrink
            if bad is not None:  # in the type of the weights, so that it rounds as the number does
                kept = torch.full_like(bad, kept, dtype=torch.float64).masked_fill(bad > 0, 1.0)
            with torch.no_grad():
                for parameter in (p for group in optimizer.param_groups for p in group["params"]):
                    parameter.mul_(kept if bad is None else kept.to(parameter.dtype))

        optimizer.register_step_post_hook(multiply)
    return optimizer


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
}
