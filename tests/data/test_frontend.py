"""Normalisation, deltas and stacked frames, whole and in pieces."""

import re

import numpy
import pytest

from seqsru.data.frontend import FeatureSpace, Frontend, FrontendStream, Statistics
from seqsru.errors import Refused

DRAW = numpy.random.default_rng(3)
FRAMES = (DRAW.normal(size=(23, 4)) * [1, 2, 3, 0] + [0, 5, 0, 7]).astype(numpy.float32)


def slow(frontend, frames, statistics):
    """The docstring's equations, one number at a time."""
    x = frames.astype(float)
    if frontend.normalize != "none":
        mean, deviation = statistics.mean, statistics.deviation
        x = (x - mean) / (numpy.maximum(deviation, 1e-5) if frontend.deviation else 1.0)
    last = len(x) - 1

    def change(of, t):
        return sum(j * of(t + j) for j in range(-2, 3)) / 10

    def order(n):
        # What is outside stands for the nearest frame inside, for the change of a change too.
        if n == 0:
            return lambda t: x[min(max(t, 0), last)]
        return lambda t: change(order(n - 1), t)

    rows = [numpy.concatenate([order(n)(t) for n in range(frontend.deltas + 1)]) for t in range(len(x))]
    return numpy.array(
        [
            numpy.concatenate([rows[min(i + k, last)] for k in range(frontend.stack)])
            for i in range(0, len(x), frontend.stride)
        ]
    )


@pytest.mark.parametrize("normalize", ["utterance", "training", "none"])
@pytest.mark.parametrize("deltas, stack, stride", [(0, 1, 1), (1, 3, 3), (2, 3, 2), (2, 4, 1), (0, 30, 30)])
def test_inputs_are_those_of_the_equations(normalize, deltas, stack, stride):
    frontend = Frontend(normalize, deltas != 1, deltas, stack, stride)
    statistics = Statistics.of([FRAMES]) if normalize != "training" else Statistics.of([FRAMES[:5]])
    given = statistics if normalize == "training" else None
    for length in (1, 2, 23):
        frames = FRAMES[:length]
        own = given or Statistics.of([frames])
        found = frontend.inputs(frames, given)
        assert found.dtype == numpy.float32
        assert found.shape == (frontend.steps(length), frontend.input_size(4))
        numpy.testing.assert_allclose(found, slow(frontend, frames, own), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 23])
@pytest.mark.parametrize("deltas, stack, stride", [(0, 1, 1), (1, 3, 3), (2, 3, 2), (2, 4, 1), (0, 30, 30)])
def test_pieces_have_the_bits_of_the_whole(deltas, stack, stride, piece):
    frontend, statistics = Frontend("training", True, deltas, stack, stride), Statistics.of([FRAMES])
    for length in (1, 7, 23):
        stream = FrontendStream(frontend, statistics)
        parts = [stream.feed(FRAMES[first : min(first + piece, length)]) for first in range(0, length, piece)]
        parts.append(stream.feed(FRAMES[:0], end=True))
        assert numpy.array_equal(numpy.concatenate(parts), frontend.inputs(FRAMES[:length], statistics))


def test_nothing_but_the_end_gives_nothing():
    stream = FrontendStream(Frontend("none", deltas=1, stack=2, stride=2), Statistics.of([FRAMES]))
    assert stream.feed(FRAMES[:0], end=True).shape == (0, 16)


def test_statistics_are_those_of_all_frames_together():
    found = Statistics.of([FRAMES[:9], FRAMES[9:]])
    numpy.testing.assert_allclose(found.mean, FRAMES.astype(float).mean(0))
    numpy.testing.assert_allclose(found.deviation, FRAMES.astype(float).std(0), atol=1e-6)
    assert found.deviation[3] == 0 and numpy.isfinite(Frontend().inputs(FRAMES, None)).all()


def test_a_feature_space_is_saved_and_a_damaged_one_refused(tmp_path):
    space = FeatureSpace.train([FRAMES])
    space.save(tmp_path, "features")
    again = FeatureSpace.load(tmp_path, "features")
    assert again.fingerprint == space.fingerprint and again.size == 4
    assert numpy.array_equal(again.statistics.mean, space.statistics.mean)
    path = tmp_path / "features.json"
    for wrong in (
        path.read_text().replace('"mean"', '"maen"'),
        path.read_text().replace('"kind": "features"', '"kind": "words"'),
        re.sub(r"\d\.\d+", "9.5", path.read_text(), count=1),
    ):
        (tmp_path / "wrong.json").write_text(wrong)
        with pytest.raises(Refused, match="the file was damaged or edited, restore it or train again$"):
            FeatureSpace.load(tmp_path, "wrong")


@pytest.mark.parametrize(
    "options, sentence",
    [
        (
            {"normalize": "speakr"},
            "normalize: expected one of speaker, utterance, training, none, found 'speakr'",
        ),
        ({"deltas": 3}, "deltas: expected at most 2, found 3; lower it"),
        (
            {"stack": 2, "stride": 3},
            "stride: expected at most stack = 2, so that no frame is left out, "
            "found 3; lower it, or raise stack",
        ),
    ],
)
def test_what_cannot_be_meant(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}"):
        Frontend(**options)
