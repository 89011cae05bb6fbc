"""Scoring one stream with a temperature, a continuous cache and weights that go on learning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqsru.cells.cell import wide
from seqsru.errors import Refused
from seqsru.evaluation.adaptation import Adaptation, Dynamic
from seqsru.evaluation.learning import Learner
from seqsru.models.language_model import LanguageModel

# Tokens that are scored at once where the weights stay as they are; the result does not depend on it.
WINDOW = 256
# Logits that are held at once where there is a temperature.
LOGITS = 1 << 21
# Pairs of a target and a remembered position that are looked at at once.
SCORES = 1 << 22


@dataclass(frozen=True)
class Choices:
    """Values to score a text with, each with each: one pass over the text gives the sums of all of them.

    Parameters
    ----------
    temperatures : sequence of float
    sizes, thetas, shares : sequence of numbers
        Of the cache; all empty for none.
    """

    temperatures: Sequence[float] = (1.0,)
    sizes: Sequence[int] = ()
    thetas: Sequence[float] = ()
    shares: Sequence[float] = ()


def adapted_nlls(
    model: LanguageModel,
    tokens: Tensor,
    eos: int,
    adaptation: Adaptation,
    rms: Sequence[Tensor] | None = None,
    *,
    window: int = WINDOW,
) -> Tensor:
    """Negative log probability of each token of one stream, as `Adaptation` defines it.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode; it is not changed.
    tokens : integer Tensor of shape (N,)
        Every one is predicted; the first from ``eos`` and the initial state.
    eos : int
    adaptation : Adaptation
    rms : sequence of Tensor, optional
        From `gradient_rms`, for dynamic evaluation by the rule rms.
    window : int
        Tokens in a forward call where the weights stay as they are, else it is the segment.

    Returns
    -------
    float64 Tensor of shape (N,)

    Raises
    ------
    Refused
        The rule rms without its statistics, or weights that diverge as they learn.
    """
    cache = adaptation.cache
    choices = Choices((adaptation.temperature,))
    if cache is not None:
        choices = Choices((adaptation.temperature,), (cache.size,), (cache.theta,), (cache.share,))
    with torch.inference_mode(False):  # weights that learn have gradients, whatever the caller's have
        parts = list(_parts(model, tokens.clone(), eos, choices, adaptation.dynamic, rms, window))
    nlls = torch.cat([part.flatten() for part in parts]) if parts else torch.zeros(0, dtype=torch.float64)
    if adaptation.dynamic is not None and not math.isfinite(nlls.sum().item()):
        rate = f"{nlls.sum().item()} at {adaptation.dynamic.rate:g}"
        do = "lower it: the weights diverge as they learn"
        raise Refused("a rate that gives a finite perplexity", rate, do, "dynamic_rate")
    return nlls


def stream_nlls(
    model: LanguageModel,
    tokens: Tensor,
    eos: int,
    choices: Choices,
    dynamic: Dynamic | None = None,
    rms: Sequence[Tensor] | None = None,
    *,
    window: int = WINDOW,
) -> Tensor:
    """Negative log probability of one stream with each of several values.

    Parameters
    ----------
    model : LanguageModel
    tokens : integer Tensor of shape (N,)
    eos : int
    choices : Choices
    dynamic : Dynamic, optional
    rms : sequence of Tensor, optional
    window : int
        As for `adapted_nlls`.

    Returns
    -------
    float64 Tensor of shape (temperatures,), or (temperatures, sizes, thetas, shares) where there is a cache
    """
    total = torch.zeros((), dtype=torch.float64, device=model.embedding.weight.device)
    for nlls in _parts(model, tokens, eos, choices, dynamic, rms, window):
        total = total + nlls.sum(-1)
    return total


def _parts(
    model: LanguageModel,
    tokens: Tensor,
    eos: int,
    choices: Choices,
    dynamic: Dynamic | None,
    rms: Sequence[Tensor] | None,
    window: int,
) -> Iterator[Tensor]:
    """Nll of each token with each of several values, (…, T) for a window or segment after the other."""
    learner = None if dynamic is None else Learner(model, dynamic, rms)
    scored = model if learner is None else learner.model
    device = model.embedding.weight.device
    tokens = tokens.to(device, torch.int64)
    inputs = torch.cat([tokens.new_tensor([eos]), tokens[:-1]])
    cached = _Cached(choices) if choices.sizes else None
    state = model.initial_state(1)
    step = window if dynamic is None else dynamic.segment
    for start in range(0, len(tokens), step):
        here = slice(start, start + step)
        targets = tokens[here]
        learns = learner is not None and start + step < len(tokens)  # nothing follows the last segment
        with torch.set_grad_enabled(learns):
            features, state = scored(inputs[here, None], state)  # (T, 1, F)
            loss, nll = scored.cross_entropy(features, targets[:, None])
            loss = loss / len(targets)  # here, whatever the caller is in
        state = tuple(t.detach() for t in state)
        with torch.no_grad():
            features = features[:, 0].detach()  # (T, F)
            nlls = tempered_nlls(scored, features, targets, nll[:, 0], choices.temperatures)
            nlls = nlls if cached is None else cached.nlls(features, targets, nlls)
        yield nlls
        if learner is not None and learns:
            learner.learn(loss)
            if not torch.isfinite(nlls.sum(-1)).any():
                break  # it has diverged, and nothing that follows can mend the sum


def tempered_nlls(
    model: LanguageModel, features: Tensor, targets: Tensor, nll: Tensor, temperatures: Sequence[float]
) -> Tensor:
    """Nll of each target at several temperatures: ``log Σ_v exp(z_v / τ) − z_y / τ`` for logits z.

    Parameters
    ----------
    model : LanguageModel
    features : Tensor of shape (T, F)
    targets : int64 Tensor of shape (T,)
    nll : Tensor of shape (T,)
        At temperature 1.
    temperatures : sequence of float

    Returns
    -------
    float64 Tensor of shape (temperatures, T)
    """
    others = [one for one in temperatures if one != 1.0]
    found = {1.0: nll.double(), **{one: torch.empty_like(nll, dtype=torch.float64) for one in others}}
    rows = max(1, LOGITS // model.vocabulary_size)
    for start in range(0, len(targets) if others else 0, rows):
        here = slice(start, start + rows)
        logits = wide(model.logits(features[here]))  # (rows, V)
        wanted = logits.gather(1, targets[here, None]).squeeze(1).double()
        for one in others:
            found[one][here] = torch.logsumexp(logits / one, 1).double() - wanted / one
    return torch.stack([found[one] for one in temperatures])


class _Cached:
    """What the last positions left, and how likely it makes what follows."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._most = max(choices.sizes)
        self._keys: Tensor | None = None  # (n, F), the oldest first
        self._words: Tensor | None = None  # (n,): what followed each

    def nlls(self, features: Tensor, targets: Tensor, nlls: Tensor) -> Tensor:
        """Nll of the targets (temperatures, sizes, thetas, shares, T), which are remembered.

        Parameters
        ----------
        features : Tensor of shape (T, F)
        targets : int64 Tensor of shape (T,)
        nlls : float64 Tensor of shape (temperatures, T)
            Of the targets without a cache.
        """
        before = 0 if self._keys is None else len(self._keys)
        keys = features if self._keys is None else torch.cat([self._keys, features])
        words = targets if self._words is None else torch.cat([self._words, targets])
        self._keys, self._words = keys[-self._most :], words[-self._most :]
        places = torch.arange(len(keys), device=keys.device)
        rows, found = max(1, SCORES // len(keys)), []
        for start in range(0, len(targets), rows):
            here = slice(start, start + rows)
            scores = features[here] @ keys.t()  # (rows, n + T)
            ages = places[before:][here, None] - places  # of each position at each target; 1: the last one
            same = words == targets[here, None]
            found.append(
                torch.stack(
                    [
                        self._mixed(scores, same, (ages >= 1) & (ages <= size), nlls[:, here])
                        for size in self._choices.sizes
                    ],
                    1,
                )
            )
        return torch.cat(found, -1)  # (temperatures, sizes, thetas, shares, T)

    def _mixed(self, scores: Tensor, same: Tensor, remembered: Tensor, nlls: Tensor) -> Tensor:
        """Nll (temperatures, thetas, shares, rows) with a cache of one size."""
        some = remembered.any(1)
        scores = torch.where(remembered, scores, -math.inf)
        # A row with nothing remembered would be −inf less −inf.
        scores = scores - torch.where(some, scores.amax(1), 0.0)[:, None]
        found = []
        for theta in self._choices.thetas:
            likeness = (scores * theta).exp_()  # (T, n + T), 0 where not remembered
            whole = likeness.sum(1, dtype=torch.float64)
            log_q = ((likeness * same).sum(1, dtype=torch.float64) / whole).log()  # −inf where not there
            mixed = [
                torch.where(some, -torch.logaddexp(math.log1p(-share) - nlls, math.log(share) + log_q), nlls)
                for share in self._choices.shares
            ]
            found.append(torch.stack(mixed, 1))  # (temperatures, shares, rows)
        return torch.stack(found, 1)
