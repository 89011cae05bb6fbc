"""Choosing the values of an `Adaptation` on a text held out of training: never on the one measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from seqsru.data.stream import TokenStream
from seqsru.errors import Refused
from seqsru.evaluation.adaptation import Adaptation, Cache, Dynamic
from seqsru.evaluation.adapted import WINDOW, Choices, stream_nlls
from seqsru.evaluation.perplexity import perplexity
from seqsru.evaluation.wanted import Wanted
from seqsru.models.language_model import LanguageModel

TEMPERATURES = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.35, 1.5)
SIZES = (100, 500, 2000)
# θ times the mean square of the features' norm: what it multiplies differs between models by orders of
# magnitude.
LIKENESSES = (1.0, 2.5, 5.0, 7.5, 10.0, 15.0, 25.0, 60.0)
SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45)
# Where the search for η and λ begins, and by what it steps up and down.
RATES = {"sgd": (0.5, 2.0), "rms": (0.002, 2.0)}
DECAYS = {"sgd": (0.002, 4.0), "rms": (0.02, 4.0)}
STEPS = 12  # up or down at most
GAIN = 1e-3  # nats a token that make a further step worth its time


@dataclass(frozen=True)
class Seen:
    """The perplexity that values gave on the text they were chosen on.

    Parameters
    ----------
    values : dict of str to float
        By the name of each.
    perplexity : float
        A token; infinite where it was no number.
    """

    values: dict[str, float]
    perplexity: float

    def __str__(self) -> str:
        named = ", ".join(f"{name} {value:g}" for name, value in self.values.items())
        return f"{named or 'as it is'}: {self.perplexity:.2f}"


def tuned(
    model: LanguageModel,
    tokens: Tensor,
    eos: int,
    wanted: Wanted,
    rms: Sequence[Tensor] | None = None,
    tell: Callable[[Seen], None] = lambda seen: None,
) -> tuple[Adaptation, list[Seen]]:
    """Choose what is asked to be chosen, as what makes a text likeliest.

    First η and λ of dynamic evaluation, by itself: up or down from where the search begins as long as the
    text becomes likelier. Then temperature and cache, all of a grid with each other, over the weights as they
    learn.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode; it is not changed.
    tokens : integer Tensor of shape (N,)
        The beginning of the validation text.
    eos : int
    wanted : Wanted
    rms : sequence of Tensor, optional
        From `gradient_rms`, for dynamic evaluation by the rule rms.
    tell : callable
        Is given what was seen, one after the other.

    Returns
    -------
    Adaptation
    list of Seen
        Of a grid the best values, and what differs from them in one.

    Raises
    ------
    Refused
        Too few tokens to choose on, or dynamic evaluation diverges wherever it was tried.
    """
    check_enough(wanted, len(tokens))
    seen: list[Seen] = []

    def note(one: Seen) -> None:
        seen.append(one)
        tell(one)

    dynamic = None
    if wanted.dynamic is not None:
        dynamic = _Search(model, tokens, eos, wanted, rms, note).chosen()
    choices = _choices(wanted, lambda: _thetas(model, tokens, eos))
    axes = _axes(choices)
    values = {name: known[0] for name, known in axes.items()}
    if any(len(known) > 1 for known in axes.values()):
        nlls = stream_nlls(model, tokens, eos, choices, dynamic, rms) / len(tokens)
        values, near = _best(nlls, axes)
        for one in near:
            note(one)
    cache = None
    if wanted.cache is not None:
        cache = Cache(int(values["cache"]), values["cache_theta"], values["cache_share"])
    return Adaptation(values["temperature"], cache, dynamic), seen


def tuned_apart(
    model: LanguageModel, text: TokenStream, tell: Callable[[Seen], None]
) -> tuple[Adaptation, list[Seen]]:
    """Choose the temperature that makes lines likeliest of which each is scored by itself.

    Parameters
    ----------
    model : LanguageModel
        In evaluation mode.
    text : TokenStream
        Lines of the validation text.
    tell : callable
        Is given what was seen, one after the other.
    """
    nlls: dict[float, float] = {}
    for temperature in TEMPERATURES:
        found = perplexity(model, text, carried=False, adaptation=Adaptation(temperature))
        nlls[temperature] = found.nll / found.tokens
    seen = [_seen({"temperature": temperature}, nll) for temperature, nll in nlls.items()]
    for one in seen:
        tell(one)
    return Adaptation(min(nlls, key=lambda one: nlls[one])), seen


def check_enough(wanted: Wanted, tokens: int) -> None:
    """Refuse so few tokens that nothing in them differs with what is to be chosen.

    Something has to follow a segment, or to be remembered.
    """
    if any(name.startswith("dynamic") for name in wanted.chosen):
        least = wanted.segment + 1
    else:
        least = min(len(wanted.chosen), 1) + any(name.startswith("cache") for name in wanted.chosen)
    if tokens < least:
        raise Refused(
            f"at least {least:,} tokens of the validation text to choose values on",
            f"{tokens:,}",
            "raise tune_tokens, or give the values",
            "tune_tokens",
        )


def _choices(wanted: Wanted, thetas: Callable[[], Sequence[float]]) -> Choices:
    """What temperature and cache are chosen from; of what is given that alone."""
    temperatures = TEMPERATURES if wanted.temperature == "tune" else (wanted.temperature,)
    if wanted.cache is None:
        return Choices(temperatures)
    return Choices(
        temperatures,
        SIZES if wanted.cache == "tune" else (wanted.cache,),
        thetas() if wanted.cache_theta is None else (wanted.cache_theta,),
        SHARES if wanted.cache_share is None else (wanted.cache_share,),
    )


def _axes(choices: Choices) -> dict[str, list[float]]:
    """The values of each name, in the order of the axes of `stream_nlls`."""
    named = {
        "temperature": choices.temperatures,
        "cache": choices.sizes,
        "cache_theta": choices.thetas,
        "cache_share": choices.shares,
    }
    return {name: list(values) for name, values in named.items() if values}


class _Search:
    """η and λ of dynamic evaluation, one after the other."""

    def __init__(
        self,
        model: LanguageModel,
        tokens: Tensor,
        eos: int,
        wanted: Wanted,
        rms: Sequence[Tensor] | None,
        note: Callable[[Seen], None],
    ) -> None:
        self._given, self._wanted, self._rms, self._note = (model, tokens, eos), wanted, rms, note
        self._known: dict[tuple[float, float], float] = {}

    def chosen(self) -> Dynamic:
        wanted = self._wanted
        assert wanted.dynamic is not None
        rate, rate_step = RATES[wanted.dynamic]
        decay, decay_step = DECAYS[wanted.dynamic]
        rate = rate if wanted.dynamic_rate is None else wanted.dynamic_rate
        decay = decay if wanted.dynamic_decay is None else wanted.dynamic_decay
        if wanted.dynamic_rate is None:
            rate = self._climbed(rate, rate_step, math.inf, lambda one: self._nll(one, decay))
        if wanted.dynamic_decay is None:
            decay = self._climbed(decay, decay_step, 1.0, lambda one: self._nll(rate, one))
        if self._known:  # what is best of those tried need not be better than none
            model, tokens, eos = self._given
            self._note(_seen({}, stream_nlls(model, tokens, eos, Choices()).item() / len(tokens)))
        return self._made(rate, decay)

    def _made(self, rate: float, decay: float) -> Dynamic:
        wanted = self._wanted
        assert wanted.dynamic is not None
        return Dynamic(wanted.dynamic, rate, decay, wanted.segment, wanted.epsilon, wanted.clip)

    def _nll(self, rate: float, decay: float) -> float:
        """Mean nll of a token; infinite where it is no number."""
        if (rate, decay) not in self._known:
            model, tokens, eos = self._given
            dynamic = self._made(rate, decay)
            nll = stream_nlls(model, tokens, eos, Choices(), dynamic, self._rms).item() / len(tokens)
            self._known[rate, decay] = nll if math.isfinite(nll) else math.inf
            self._note(_seen({"dynamic_rate": rate, "dynamic_decay": decay}, self._known[rate, decay]))
        return self._known[rate, decay]

    def _climbed(self, start: float, step: float, most: float, nll: Callable[[float], float]) -> float:
        """The best value on the way up or down from the start, as far as each step gains something."""
        tried = [start]
        nll(start)
        for factor in (step, 1.0 / step) if math.isfinite(nll(start)) else (1.0 / step,):
            value = start
            for _ in range(STEPS):
                new = float(f"{value * factor:.3g}")
                if new > most:
                    break
                tried.append(new)
                if math.isfinite(nll(value)) and not nll(new) < nll(value) - GAIN:
                    break
                value = new
            if value != start:
                break  # it became better upwards
        best = min(tried, key=nll)
        if nll(best) == math.inf:
            do = "give a lower dynamic_rate"
            raise Refused(
                "a finite perplexity of the validation text", "none at any rate tried", do, "dynamic"
            )
        return best


def _thetas(model: LanguageModel, tokens: Tensor, eos: int) -> tuple[float, ...]:
    """The θ to try, by how large the features of the text's beginning are."""
    tokens = tokens[:WINDOW].to(model.embedding.weight.device, torch.int64)
    with torch.no_grad():
        features, _ = model(torch.cat([tokens.new_tensor([eos]), tokens[:-1]])[:, None])
        square = features.double().square().sum(-1).mean().item()
    return tuple(float(f"{likeness / max(square, 1e-30):.2g}") for likeness in LIKENESSES)


def _best(nlls: Tensor, axes: dict[str, list[float]]) -> tuple[dict[str, float], list[Seen]]:
    """The values with the least nll, and what was seen of them and of those that differ in one."""
    flat = torch.where(nlls.isfinite(), nlls, math.inf).flatten().tolist()
    points = list(product(*axes.values()))
    best = points[min(range(len(flat)), key=flat.__getitem__)]
    near = [
        _seen(dict(zip(axes, point)), nll)
        for point, nll in zip(points, flat)
        if sum(a != b for a, b in zip(point, best)) <= 1
    ]
    return dict(zip(axes, best)), near


def _seen(values: dict[str, float], nll: float) -> Seen:
    return Seen(values, math.exp(nll) if nll < 700.0 else math.inf)
