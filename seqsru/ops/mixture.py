"""The cross entropy of a mixture of softmaxes, by blocks of rows: no table of all rows is ever there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from seqsru.errors import Refused, check_probability
from seqsru.ops.calls import LEFT_OUT
from seqsru.ops.cross_entropy import BLOCK, GPU_BLOCK, _softmax_for
from seqsru.ops.products import linear, product_dtype
from seqsru.ops.reference import accumulation_dtype
from seqsru.ops.watchers import recorded, transformed


def mixture_log_probs(log_prior: Tensor, logits: Tensor) -> Tensor:
    """Equation 3 of `mixture_cross_entropy` (..., V), of log priors (..., K) and logits (..., K, V)."""
    log_q = torch.log_softmax(logits.to(accumulation_dtype(logits.dtype)), dim=-1)  # 2
    return torch.logsumexp(log_prior.unsqueeze(-1) + log_q, dim=-2)  # 3


def mixture_cross_entropy(
    latent: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    valid: Tensor | None = None,
    smoothing: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Negative log probability of targets under ``Σ_k π_k softmax(l_k Wᵀ + b)``, summed (Yang et al. 2018).

    For a row with latents ``l_k`` and priors ``π_k`` of K components, V the vocabulary, ε the smoothing and y
    the target,

    1. ``z_k = W l_k + b``
    2. ``log q_k = z_k − log Σ_v exp z_kv``
    3. ``log p_v = log Σ_k exp(log π_k + log q_kv)``
    4. ``nll = −log p_y``,  ``loss = Σ (1−ε)·nll + (ε/V)·Σ_v(−log p_v)``
    5. ``A_kv = exp(log π_k + log q_kv − log p_v) · ((1−ε)·[v = y] + ε/V)``
    6. ``∂loss/∂z_kv = q_kv·Σ_u A_ku − A_kv``,  ``∂loss/∂log π_k = −Σ_v A_kv``

    Without smoothing the gradient of component k is that of its own cross entropy times
    ``A_ky``, the share that it has in the probability of the target: that is how a block is finished then.
    Gradients are computed in the forward pass, for one backward pass; for more of them, for gradients of
    gradients, under transforms of functions and where operators are recorded, separate operations compute
    the loss, which hold the whole table.

    Parameters
    ----------
    latent : Tensor of shape (..., K, E)
        What each component reads; finite where a row is left out too.
    log_prior : Tensor of shape (..., K)
        log π, summing to one in π.
    weight : Tensor of shape (V, E)
        Output weights, of all components.
    bias : Tensor of shape (V,) or None
        Output bias, of all components.
    targets : int64 Tensor of shape (...)
        Indices into the vocabulary.
    valid : bool Tensor of shape (...), optional
        False marks rows that are left out: their loss and gradient are 0.
    smoothing : float
        ε, from 0 to below 1.

    Returns
    -------
    loss : Tensor of shape ()
        Differentiable.
    nll : Tensor of shape (...)
        Of each row, without a gradient; 0 at rows left out.

    Raises
    ------
    Refused
        Shapes that do not fit, or a smoothing outside [0, 1).
    """
    if latent.shape[:-1] != log_prior.shape or targets.shape != log_prior.shape[:-1]:
        raise Refused(
            "latents (..., K, E), priors (..., K) and targets (...)",
            f"{tuple(latent.shape)}, {tuple(log_prior.shape)} and {tuple(targets.shape)}",
            "give K latents and priors and one target for each row",
            "targets",
        )
    check_probability(smoothing=smoothing)
    product = product_dtype(weight)
    if transformed() or recorded():
        return _separately(latent, log_prior, weight, bias, targets, valid, smoothing, product)
    if valid is not None:
        targets = torch.where(valid, targets, LEFT_OUT)
    components = log_prior.shape[-1]
    apply: Any = _MixtureCrossEntropy.apply  # torch has no types here
    loss, nll = apply(
        latent.reshape(-1, components, latent.shape[-1]),
        log_prior.reshape(-1, components),
        weight,
        bias,
        targets.reshape(-1),
        smoothing,
        product,
        torch.is_grad_enabled(),
    )
    return loss, nll.view(targets.shape)


def _separately(
    latent: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    valid: Tensor | None,
    smoothing: float,
    product: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Return loss and nll by torch's operators one after the other: what defines them."""
    sums = accumulation_dtype(product)
    with torch.autocast(latent.device.type, enabled=False):
        z = functional.linear(latent.to(product), weight.to(product)).to(sums)  # 1
        z = z if bias is None else z + bias.to(sums)
        log_p = mixture_log_probs(log_prior.to(sums), z)
        kept = torch.ones_like(targets, dtype=torch.bool) if valid is None else valid
        wanted = torch.where(kept, targets, 0).unsqueeze(-1)
        nll = torch.where(kept, -log_p.gather(-1, wanted).squeeze(-1), 0.0)
        spread = torch.where(kept, -log_p.sum(-1), 0.0)
        loss = (1.0 - smoothing) * nll.sum() + smoothing / weight.shape[0] * spread.sum()  # 4
        return loss, nll.detach()


class _MixtureCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        latent: Tensor,
        log_prior: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        product: torch.dtype,
        tracked: bool,
    ) -> tuple[Tensor, Tensor]:
        inputs = (latent, log_prior, weight, bias)
        wanted = tracked and any(ctx.needs_input_grad[:4])
        with torch.autocast(latent.device.type, enabled=False):
            loss, nll, gradients = _by_blocks(
                latent.to(product), log_prior, weight.to(product), bias, targets, smoothing, wanted
            )
        ctx.gradients = [None if g is None or t is None else g.to(t.dtype) for g, t in zip(gradients, inputs)]
        ctx.mark_non_differentiable(nll)
        ctx.save_for_backward(*inputs, targets)
        ctx.smoothing, ctx.product = smoothing, product
        return loss, nll

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled() or ctx.gradients is None:  # with create_graph, or for the second time
            return _gradients_again(ctx, grad_loss)
        scaled = [
            g.mul_(grad_loss) if g is not None and needed else None
            for g, needed in zip(ctx.gradients, ctx.needs_input_grad)
        ]
        ctx.gradients = None  # so that autograd may keep these tensors as .grad without a copy
        return (*scaled, None, None, None, None)


def _gradients_again(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
    """Return the gradients of all inputs, themselves differentiable where this is wanted."""
    inputs: list[Any]
    *inputs, targets = ctx.saved_tensors
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # New names: one may have been computed from another, and is no path to it here.
        latent, log_prior, weight, bias = (None if t is None else t.view_as(t) for t in inputs)
        assert latent is not None and log_prior is not None and weight is not None
        loss, _ = _separately(
            latent, log_prior, weight, bias, targets, targets != LEFT_OUT, ctx.smoothing, ctx.product
        )
        given = (latent, log_prior, weight, bias)
        wanted = [t for t in given if t is not None and t.requires_grad]
        found = iter(torch.autograd.grad(loss, wanted, grad_loss, create_graph=further))
    gradients = [None if t is None or not t.requires_grad else next(found) for t in given]
    return (*gradients, None, None, None, None)


def _by_blocks(
    latent: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    smoothing: float,
    wanted: bool,
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Loss, nll and all gradients, for latents (N, K, E) and weights in the type of the products."""
    (rows, components, width), vocabulary = latent.shape, weight.shape[0]
    sums = accumulation_dtype(latent.dtype)
    log_prior = log_prior.to(sums)
    bias = None if bias is None else bias.to(sums).contiguous()
    nll, spread = latent.new_empty(rows, dtype=sums), latent.new_zeros(rows, dtype=sums)
    to_latent = latent.new_empty(rows, components, width) if wanted else None
    to_prior = torch.empty_like(log_prior) if wanted else None
    to_weight = weight.new_zeros(weight.shape, dtype=sums) if wanted else None
    to_bias = weight.new_zeros(vocabulary, dtype=sums) if wanted and bias is not None else None
    size = BLOCK if latent.device.type == "cpu" else GPU_BLOCK // latent.element_size()
    block = max(1, size // (vocabulary * components))
    softmax, column_sums = _softmax_for(latent)
    for start in range(0, rows, block):
        here = slice(start, start + block)
        part, prior, wanted_here = latent[here].reshape(-1, width), log_prior[here], targets[here]
        kept = wanted_here != LEFT_OUT  # (n,)
        table = linear(part, weight).contiguous()  # (n·K, V)
        if smoothing:
            nll[here], spread[here], share = _smoothed(table, prior, bias, wanted_here, smoothing, wanted)
        else:
            each = torch.where(kept, wanted_here, 0).repeat_interleave(components)
            own, _ = softmax(table, bias, each, 0.0, wanted)  # −log q_ky; q_k − [v = y] in the table's place
            joint = prior - own.view(-1, components)
            whole = torch.logsumexp(joint, dim=1)  # 3
            nll[here] = torch.where(kept, -whole, 0.0)
            share = torch.exp(joint - whole.unsqueeze(1)) * kept.unsqueeze(1)  # A_ky
        if to_latent is None or to_prior is None or to_weight is None:
            continue
        to_prior[here] = -share
        if smoothing:  # the table has the whole of equation 6
            scaled = part
            to_latent[here] = (table @ weight).view(-1, components, width)
        else:
            weights = share.reshape(-1, 1).to(part.dtype)
            scaled = part * weights
            to_latent[here] = ((table @ weight) * weights).view(-1, components, width)
        to_weight += (table.t() @ scaled).to(sums)
        if to_bias is not None:
            to_bias += column_sums(table) if smoothing else (table.t() @ weights).squeeze(1).to(sums)
    loss = nll.sum()
    if smoothing:
        loss = (1.0 - smoothing) * loss + smoothing / vocabulary * spread.sum()
    return loss, nll, [to_latent, to_prior, to_weight, to_bias]


def _smoothed(
    table: Tensor, prior: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float, gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return nll, Σ_v(−log p_v) and Σ_v A_kv; the gradient goes in the place of the logits (n·K, V)."""
    (n, components), vocabulary = prior.shape, table.shape[1]
    kept = targets != LEFT_OUT
    known = ~kept | ((targets >= 0) & (targets < vocabulary))
    if targets.device.type == "cpu" and not known.all():
        raise Refused(
            f"indices from 0 to {vocabulary - 1}",
            int(targets[~known][0]),
            "check that the vocabulary is the model's",
            "targets",
        )
    wanted = torch.where(kept & known, targets, 0)
    z = table.to(prior.dtype)
    log_q = torch.log_softmax(z if bias is None else z + bias, dim=1).view(n, components, vocabulary)  # 2
    joint = prior.unsqueeze(-1) + log_q
    log_p = torch.logsumexp(joint, dim=1)  # 3
    nll = torch.where(kept, -log_p.gather(1, wanted.unsqueeze(1)).squeeze(1), 0.0)
    nll = nll.masked_fill(~known, math.nan)
    spread = torch.where(kept, -log_p.sum(1), 0.0)
    if not gradient:
        return nll, spread, prior
    shares = joint.sub_(log_p.unsqueeze(1)).exp_()
    of_target = shares.gather(2, wanted.view(n, 1, 1).expand(n, components, 1)) * (1.0 - smoothing)
    shares.mul_(smoothing / vocabulary)
    shares.scatter_add_(2, wanted.view(n, 1, 1).expand(n, components, 1), of_target)  # 5
    shares.mul_(kept.view(n, 1, 1))
    whole = shares.sum(2)
    table.copy_(log_q.exp_().mul_(whole.unsqueeze(-1)).sub_(shares).view(table.shape))  # 6
    return nll, spread, whole
