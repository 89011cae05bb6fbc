"""Random continuations: temperature, the k likeliest, the nucleus."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqsru.decoding.beam import check_limits
from seqsru.decoding.drawing import check_drawing
from seqsru.decoding.hypothesis import Hypothesis, Memory, State, Step
from seqsru.decoding.rules import Rule
from seqsru.errors import Refused


@torch.no_grad()
def sample(
    step: Step,
    memory: Memory,
    state: State,
    start: Tensor,
    *,
    eos: int,
    max_length: Tensor,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator,
    rules: Sequence[Rule] = (),
) -> list[Hypothesis]:
    """Draw one continuation of each sentence, token by token, until ``</s>`` or `max_length` tokens.

    Log probabilities are divided by `temperature`, then cut to the `top_k` likeliest tokens, then to the
    nucleus: the fewest likeliest tokens whose probability reaches `top_p` (Holtzman et al. 2020, arXiv
    1904.09751). Of equal tokens the lower number counts as likelier. The generator gives one number a
    sentence and step, in order, also for sentences that are done: the first batch drawn with a seed is always
    the same.

    Parameters
    ----------
    step, memory, state, start, eos, rules
        As in `beam_search`.
    max_length : Tensor of shape (B,), integer
        Most tokens; unlike in `beam_search`, the last may be any, and the output is then unfinished.
    temperature : float
        Above 0; below 1 sharpens the distribution, above 1 flattens it.
    top_k : int
        Tokens to choose from; 0 is all of them, 1 always takes the likeliest.
    top_p : float
        Probability to choose from, above 0 and at most 1.
    generator : torch.Generator
        Where the random numbers come from.

    Returns
    -------
    list of Hypothesis
        One a sentence, without attention. `log_prob` is the model's own, whatever the cuts; `score` is the
        same.

    Raises
    ------
    Refused
        If a setting cannot be meant, or nothing is left to choose from.
    """
    check_drawing(temperature, top_k, top_p)
    limits = check_limits(start, max_length)
    outputs: list[list[int]] = [[] for _ in limits]
    sums = [0.0] * len(limits)
    active, tokens = list(range(len(limits))), start
    history = start.new_empty(start.shape[0], 0)
    while active:
        log_probs, _, state = step(tokens, memory, state)
        limited = log_probs
        for rule in rules:
            limited = rule(limited, history, eos)
        uniform = torch.rand(len(limits), generator=generator, device=generator.device, dtype=torch.float64)
        chosen = _draw(limited, uniform[active].to(start.device), temperature, top_k, top_p)
        gained = log_probs.gather(1, chosen.unsqueeze(1)).squeeze(1).tolist()
        kept = []
        for place, (index, token, log_prob) in enumerate(zip(active, chosen.tolist(), gained)):
            outputs[index].append(token)
            sums[index] += log_prob
            if token != eos and len(outputs[index]) < limits[index]:
                kept.append(place)
        if rules:
            history = torch.cat([history, chosen.unsqueeze(1)], dim=1)
        tokens = chosen
        if len(kept) < len(active):
            active = [active[place] for place in kept]
            rows = torch.tensor(kept, device=start.device, dtype=torch.int64)
            tokens, history = tokens.index_select(0, rows), history.index_select(0, rows)
            memory = tuple(tensor.index_select(0, rows) for tensor in memory)
            state = tuple(tensor.index_select(0, rows) for tensor in state)
    return [Hypothesis(output, total, total, None) for output, total in zip(outputs, sums)]


def _draw(log_probs: Tensor, uniform: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Return one token a row, (N,): each row's cumulative distribution inverted at `uniform`, (N,)."""
    # float64: a sum of many thousand probabilities must reach the smallest of them.
    ordered, tokens = (log_probs.double() / temperature).sort(dim=1, descending=True, stable=True)
    if top_k:
        ordered, tokens = ordered[:, :top_k], tokens[:, :top_k]
    if not (ordered[:, 0] > -torch.inf).all():
        raise Refused("a token to choose from", "none or NaN", "loosen the rules, or load another checkpoint")
    sums = ordered.softmax(dim=1).cumsum(dim=1)
    sums = torch.cat([torch.zeros_like(sums[:, :1]), sums], dim=1)  # (N, choices + 1), from 0 up
    size = (sums[:, :-1] < top_p * sums[:, -1:]).sum(dim=1, keepdim=True)  # choices in the nucleus
    target = uniform.unsqueeze(1) * sums.gather(1, size)
    place = (sums[:, 1:] <= target).sum(dim=1, keepdim=True)
    # Rounding may push the last place out by one, or onto a token of probability 0.
    place = torch.minimum(place, torch.minimum(size, (ordered > -torch.inf).sum(dim=1, keepdim=True)) - 1)
    return tokens.gather(1, place).squeeze(1)
