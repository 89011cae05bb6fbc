"""Drawing: the token of the definition, on any distribution, flat or sharp, with ties and without."""

import math

import numpy as np
import pytest
import torch
from numba import njit

from seqsru.decoding.sampling import _draw
from seqsru.engine.drawing import choose
from seqsru.engine.layout import BINS
from seqsru.engine.memory import float32s, float64s, int64s
from seqsru.engine.packing import LANES


@njit(nogil=True)
def chosen(lp, n, tiles, temperature, top_k, top_p, uniform, many, e, order, out):
    """Draw a token for each of many numbers."""
    for i in range(many):
        out[i] = choose(
            float32s(lp), n, tiles, temperature, top_k, top_p, uniform[i], float64s(e), int64s(order)
        )


def drawn(log_probs, uniform, temperature, top_k, top_p):
    """What the engine draws of log probabilities."""
    n = len(log_probs)
    lp = np.full(-(-n // LANES) * LANES, -np.inf, np.float32)
    lp[:n] = log_probs
    e, order = np.full(n + BINS, np.nan), np.full(n + BINS, -1, np.int64)
    out = np.zeros(len(uniform), np.int64)
    chosen(
        lp.ctypes.data, n, len(lp) // LANES, temperature, top_k, top_p, uniform, len(uniform),
        e.ctypes.data, order.ctypes.data, out,
    )  # fmt: skip
    return out.tolist()


def defined(log_probs, uniform, temperature, top_k, top_p):
    """What the definition draws."""
    rows = torch.from_numpy(log_probs).expand(len(uniform), -1)
    return _draw(rows, torch.from_numpy(uniform), temperature, top_k, top_p).tolist()


def normalised(scores):
    scores = np.asarray(scores, np.float64)
    return (scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())).astype(np.float32)


def spike(rng, n):
    scores = rng.standard_normal(n)
    scores[n // 2] += 30.0
    return normalised(scores)


def masked(rng, n):
    """A likely token that a rule forbids, as the engine writes it."""
    found = spike(rng, n)
    found[n // 2] = -1e30
    return found


def forbidden(rng, n):
    found = normalised(rng.standard_normal(n))
    found[rng.random(n) < 0.5] = -np.inf
    return found


DISTRIBUTIONS = {
    "flat": lambda rng, n: normalised(rng.standard_normal(n)),
    "flatter": lambda rng, n: normalised(1e-3 * rng.standard_normal(n)),
    "sharp": lambda rng, n: normalised(6.0 * rng.standard_normal(n)),
    "sharper": lambda rng, n: normalised(100.0 * rng.standard_normal(n)),
    "even": lambda rng, n: normalised(np.zeros(n)),
    "two": lambda rng, n: normalised(rng.integers(0, 2, n)),
    "ties": lambda rng, n: normalised(rng.integers(-3, 4, n)),
    "Zipf": lambda rng, n: normalised(-rng.permutation(np.log(np.arange(1, n + 1)))),
    "exponential": lambda rng, n: normalised(-rng.permutation(n) * 0.1),
    "spike": spike,
    "masked": masked,
    "forbidden": forbidden,
    "sorted": lambda rng, n: np.sort(normalised(rng.standard_normal(n))),
    "turned": lambda rng, n: np.sort(normalised(rng.standard_normal(n)))[::-1].copy(),
}
WAYS = [
    (1.0, 0, 1.0), (0.5, 0, 1.0), (1e-3, 0, 1.0), (30.0, 0, 1.0), (1.0, 1, 1.0), (1.0, 7, 1.0),
    (2.0, 300, 1.0), (1.0, 10**6, 1.0), (1.0, 0, 0.9001), (1.0, 0, 1e-9), (1.0, 0, 0.999998),
    (0.7, 50, 0.5003), (1.3, 3, 0.99),
]  # fmt: skip


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_tokens_are_those_of_the_definition(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    for n in (1, 2, 15, 16, 17, 255, 257, 1000):
        for _ in range(2):
            log_probs = DISTRIBUTIONS[name](rng, n)
            if not np.isfinite(log_probs).any():
                continue
            uniform = np.concatenate([[0.0, 1e-12, 0.4987654321, 1 - 1e-9], rng.random(12)])
            for way in WAYS:
                expected = defined(log_probs, uniform, *way)
                assert drawn(log_probs, uniform, *way) == expected, (n, way)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_largest_number_draws_what_may_be_drawn(name):
    """Which of the least likely that is follows from the last bit of a sum; that it may be drawn does not."""
    rng = np.random.default_rng(1)
    last = np.array([np.nextafter(1.0, 0.0)])
    for n in (1, 2, 17, 1000):
        log_probs = DISTRIBUTIONS[name](rng, n)
        if not np.isfinite(log_probs).any():
            continue
        for temperature, top_k, top_p in WAYS:
            (found,) = drawn(log_probs, last, temperature, top_k, top_p)
            (expected,) = defined(log_probs, last, temperature, top_k, top_p)
            assert 0 <= found < n
            likely = log_probs.astype(np.float64) / temperature
            weights = np.exp(likely - likely.max())
            # What lies between the two weighs nothing beside the sum.
            low, high = sorted([found, expected], key=lambda token: (weights[token], -token))
            between = weights[(weights >= weights[low]) & (weights < weights[high])]
            assert found == expected or between.sum() < 1e-12 * weights.sum(), (n, temperature, top_k, top_p)
            if top_k and top_k <= n:
                assert (log_probs > log_probs[found]).sum() < top_k


def test_a_large_vocabulary():
    rng = np.random.default_rng(0)
    for name in ("flat", "sharp", "Zipf", "ties"):
        log_probs = DISTRIBUTIONS[name](rng, 20_011)
        uniform = rng.random(40)
        for way in WAYS:
            assert drawn(log_probs, uniform, *way) == defined(log_probs, uniform, *way), (name, way)


def test_every_token_is_drawn_as_often_as_it_is_likely():
    rng = np.random.default_rng(0)
    log_probs = normalised(2.0 * rng.standard_normal(50))
    count = 50_000
    found = np.bincount(drawn(log_probs, (np.arange(count) + 0.5) / count, 1.0, 0, 1.0), minlength=50)
    assert np.abs(found - count * np.exp(log_probs.astype(np.float64))).max() <= 1.0
    assert math.isclose(found.sum(), count)
