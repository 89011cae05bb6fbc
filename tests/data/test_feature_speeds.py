"""Files of features read faster and slower than they were recorded."""

import numpy
import pytest
from tiny_runs import write_frames

from seqsru.data.features import FeatureFiles


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.0, 1.1, 1.7, 2.0])
@pytest.mark.parametrize("frames", [1, 2, 3, 40])
def test_what_changes_evenly_changes_so_many_times_as_fast(tmp_path, speed, frames):
    path, slope = tmp_path / "a.mfc", numpy.array([1.0, -2.0], dtype="f")
    write_frames(path, numpy.arange(frames, dtype="f")[:, None] * slope)
    found = FeatureFiles(size=2).read(path, speed)
    assert found.dtype == numpy.float32 and len(found) == max(1, round(frames / speed))
    at = numpy.minimum(numpy.arange(len(found)) * speed, frames - 1)  # the last frame goes on
    numpy.testing.assert_allclose(found, at[:, None] * slope, rtol=1e-5, atol=1e-5)


def test_the_recorded_speed_has_the_same_bits_and_double_takes_every_other_frame(tmp_path):
    path, frames = tmp_path / "a.mfc", numpy.random.default_rng(1).normal(size=(9, 3)).astype("f")
    write_frames(path, frames)
    source = FeatureFiles(size=3)
    assert numpy.array_equal(source.read(path), frames) and numpy.array_equal(source.read(path, 1.0), frames)
    slow = source.read(path, 0.5)
    assert numpy.array_equal(slow[::2], frames)
    numpy.testing.assert_allclose(slow[1:-1:2], (frames[:-1] + frames[1:]) / 2, rtol=1e-6)
    assert numpy.array_equal(source.read(path, 2.0), frames[::2][: round(9 / 2.0)])
