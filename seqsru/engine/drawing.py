"""Which token is drawn, of log probabilities: compiled, over pointers.

The definition sorts the tokens, likeliest first, adds their weights up and looks where the sum passes a
number. Here nothing is sorted: tokens fall into bins by how far they are below the likeliest, the weights of
whole bins are added up, and only the tokens of the bin in which a sum is reached are looked at one by one.
"""

from __future__ import annotations

import math

import numpy as np

from seqsru.engine.kernels import compiled
from seqsru.engine.layout import BINS
from seqsru.engine.memory import address, at, int64s
from seqsru.engine.vectors import largest
from seqsru.ops.cpu_math import TILE, buffer

LAST = BINS - 1
_LAST = np.float32(LAST)

# The exponential in float64, for arguments up to 0: x = k ln 2 + r, and Taylor's series of e^r, |r| <= ln(2)
# / 2, to r^13 / 13!, which is beyond the last bit.
_MAGIC = 6755399441055744.0 + 1023.0  # 1.5 * 2^52 and the bias of exponents
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_SERIES = (
    1 / 6227020800, 1 / 479001600, 1 / 39916800, 1 / 3628800, 1 / 362880, 1 / 40320, 1 / 5040, 1 / 720,
    1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0,
)  # fmt: skip


@compiled
def _exponentials(lp, n, top, sharpness, e):
    """Write e^((lp - top) · sharpness) in float64, and return the sum."""
    part, shifted, power, sums = buffer(e), buffer(e), buffer(e), buffer(e)
    for j in range(TILE):
        sums[j] = 0.0
    read, write = int64s(address(shifted)), int64s(address(power))
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        for j in range(size):
            x = (np.float64(lp[first + j]) - top) * sharpness
            x = x if x > -700.0 else -700.0
            s = x * _LOG2_E + _MAGIC
            k = s - _MAGIC
            r = (x - k * _LN2_HIGH) - k * _LN2_LOW
            total = _SERIES[0]
            for c in _SERIES[1:]:
                total = total * r + c
            shifted[j] = s
            part[j] = total
        for j in range(size):
            write[j] = read[j] << 52
        for j in range(size):
            part[j] *= power[j]
        for j in range(size):
            sums[j] += part[j]  # so many sums at once, each waiting for none of the others
        for j in range(size):
            e[first + j] = part[j]
    total = 0.0
    for j in range(TILE):
        total += sums[j]
    return total


@compiled
def _bins(lp, first, size, best, scale, bins):
    """Write the numbers of the bins of some tokens, whole but as float32; the likeliest are in bin 0."""
    for j in range(size):
        below = (best - lp[first + j]) * scale
        bins[j] = np.float32(np.int32(below if below < _LAST else _LAST))


@compiled
def _gather(lp, n, best, scale, wanted, order):
    """Write the tokens of one bin, in order of their numbers; return how many."""
    bins, count, number = buffer(lp), 0, np.float32(wanted)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        _bins(lp, first, size, best, scale, bins)
        for j in range(size):
            order[count] = first + j
            count += np.int64(bins[j] == number)
    return count


@compiled
def _reach(sums, end, mass, inclusive):
    """Return the first bin, at most `end`, up to which weights reach a mass, and what those before it weigh.

    With `inclusive` 0 they are to exceed it.
    """
    place, before = 0, 0.0
    while place < end:
        upto = before + sums[place]
        if upto >= mass if inclusive else upto > mass:
            break
        before = upto
        place += 1
    return place, before


@compiled
def _before(lp, i, j):
    """Say whether token i comes before token j: likelier, or as likely and of a lower number."""
    return lp[i] > lp[j] or (lp[i] == lp[j] and i < j)


@compiled
def _prefix(lp, e, order, n, count, mass, inclusive):
    """Order tokens so that the fewest likeliest that reach a count or a mass come first.

    Only as much is sorted as is needed to know which they are (quickselect).

    Parameters
    ----------
    lp, e : pointers
        Log probabilities and weights of the tokens.
    order : pointer to int64
        The n tokens to choose from; rearranged.
    count : int
        How many; 0 is to go by mass.
    mass : float
        What their weights are to reach, or with `inclusive` 0 to exceed.

    Returns
    -------
    size, total : int, float
        How many they are and what they weigh. The last of them stands at ``size - 1``.
    """
    low, high, total = 0, n, 0.0
    while high - low > 1:
        # The middle one of three: what is sorted already is no bad case.
        x, y, z = order[low], order[(low + high) // 2], order[high - 1]
        if _before(lp, x, y):
            middle = y if _before(lp, y, z) else (z if _before(lp, x, z) else x)
        else:
            middle = x if _before(lp, x, z) else (z if _before(lp, y, z) else y)
        place, weight = low, 0.0
        for i in range(low, high):
            token = order[i]
            if _before(lp, token, middle):
                order[i] = order[place]
                order[place] = token
                weight += e[token]
                place += 1
        for i in range(place, high):  # the middle one itself goes right after those before it
            if order[i] == middle:
                order[i] = order[place]
                order[place] = middle
                break
        if count:
            if place >= count:
                high = place
                continue
            reached = place + 1 == count
        else:
            if place > low and (total + weight >= mass if inclusive else total + weight > mass):
                high = place
                continue
            with_middle = total + weight + e[middle]
            reached = with_middle >= mass if inclusive else with_middle > mass
        total += weight + e[middle]
        low = place + 1
        if reached:
            return low, total
    if low < n and low < high:
        total += e[order[low]]
        low += 1
    return low, total


@compiled
def choose(lp, n, tiles, temperature, top_k, top_p, uniform, e, order):
    """Return the token that is drawn, as `seqsru.decoding.sampling` defines it.

    Parameters
    ----------
    lp : pointer to float32
        Log probabilities of n tokens, in ``16 · tiles`` numbers; padding is minus infinity.
    temperature, top_k, top_p
        As in `seqsru.decoding.sample`.
    uniform : float
        A random number from 0 to 1.
    e, order : pointers to float64 and int64
        Room for ``n + BINS`` numbers each.
    """
    best = largest(lp, tiles)
    whole = _exponentials(lp, n, np.float64(best), 1.0 / temperature, e)
    # Weights lie about as far below the best as their logarithm's mean does: four times that has nearly all
    # of them, however flat or sharp they are. What is farther away shares the last bin.
    spread = np.float32(-4.0 * temperature * math.log(whole / n))
    scale = _LAST / max(spread, np.float32(1e-6))
    sums, counts = at(e, n), at(order, n)
    for place in range(BINS):
        sums[place] = 0.0
        counts[place] = 0
    bins = buffer(lp)
    for first in range(0, n, TILE):
        size = min(TILE, n - first)
        _bins(lp, first, size, best, scale, bins)
        if top_k:
            for j in range(size):
                counts[np.int64(bins[j])] += 1
        for j in range(size):
            sums[np.int64(bins[j])] += e[first + j]
    end = LAST  # the last bin that may be chosen from
    while end > 0 and sums[end] == 0.0:
        end -= 1
    whole = 0.0
    for place in range(end + 1):
        whole += sums[place]
    held, left = -1, 0  # the bin whose tokens stand in `order`, and how many of them may be chosen
    if top_k and top_k < n:
        place, before, fewer = 0, 0.0, 0
        while place < end and fewer + counts[place] < top_k:
            before += sums[place]
            fewer += counts[place]
            place += 1
        held = end = place
        left = _gather(lp, n, best, scale, held, order)
        left, part = _prefix(lp, e, order, left, top_k - fewer, 0.0, 1)
        whole = before + part
    if top_p < 1.0:
        place, before = _reach(sums, end, top_p * whole, 1)
        if place != held:
            held = end = place
            left = _gather(lp, n, best, scale, held, order)
        left, part = _prefix(lp, e, order, left, 0, top_p * whole - before, 1)
        whole = before + part
    place, before = _reach(sums, end, uniform * whole, 0)
    if place != held:
        left = _gather(lp, n, best, scale, place, order)
    left, _ = _prefix(lp, e, order, left, 0, uniform * whole - before, 0)
    return order[left - 1]
