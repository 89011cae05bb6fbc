"""What stands between the frames of a recording and a model: normalisation, deltas, stacked frames."""

# Annotations are read at run time: the fields are the settings `frontend`.
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal, TypeGuard, get_args

import numpy
from numpy.typing import NDArray

from seqsru.data.tokenizer_record import check_fingerprint, read_record, write_record
from seqsru.data.utterances import Frames
from seqsru.errors import Refused, check_at_least, check_at_most, check_known

Normalize = Literal["speaker", "utterance", "training", "none"]
SMALLEST = 1e-5  # standard deviation that is divided by
# Regression over two frames to either side (Kaldi's), and the same of it: what each frame is multiplied with.
_DELTA = numpy.array([-2.0, -1.0, 0.0, 1.0, 2.0]) / 10.0
_DELTAS = (numpy.ones(1), _DELTA, numpy.convolve(_DELTA, _DELTA))


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of each feature, over all frames of some recordings.

    Parameters
    ----------
    mean, deviation : ndarray of shape (F,), float64
    """

    mean: NDArray[numpy.float64]
    deviation: NDArray[numpy.float64]

    @classmethod
    def of(cls, recordings: Iterable[Frames]) -> "Statistics":
        """Those of recordings, at least one frame in all."""
        count, total, squares = 0, 0.0, 0.0
        for frames in recordings:
            wide = frames.astype(numpy.float64)
            count += len(wide)
            total = total + wide.sum(0)
            squares = squares + (wide * wide).sum(0)
        mean = numpy.asarray(total / count)
        # The difference of two large sums may be below 0 where a feature is constant.
        return cls(mean, numpy.sqrt(numpy.maximum(squares / count - mean * mean, 0.0)))


class FeatureSpace:
    """What a model is made for: the features of a frame, and their statistics in the training recordings.

    Parameters
    ----------
    mean, deviation : sequence of F float
        Over all frames of the training recordings.

    Attributes
    ----------
    size : int
        F.
    statistics : Statistics
    fingerprint : str
        sha256 of the numbers; a checkpoint holds it beside that of the tokenizer.
    """

    kind = "features"

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        self.size = len(mean)
        self.statistics = Statistics(
            numpy.array(mean, dtype=numpy.float64), numpy.array(deviation, dtype=numpy.float64)
        )
        written = json.dumps([self.kind, list(mean), list(deviation)])
        self.fingerprint = hashlib.sha256(written.encode()).hexdigest()

    @classmethod
    def train(cls, recordings: Iterable[Frames]) -> "FeatureSpace":
        """Measure recordings."""
        found = Statistics.of(recordings)
        return cls(found.mean.tolist(), found.deviation.tolist())

    def save(self, folder: str | PathLike[str], name: str) -> None:
        """Write ``folder/name.json``."""
        found = self.statistics
        record = {"kind": self.kind, "fingerprint": self.fingerprint}
        numbers = {"mean": found.mean.tolist(), "deviation": found.deviation.tolist()}
        write_record(Path(folder) / f"{name}.json", {**record, **numbers})

    @classmethod
    def load(cls, folder: str | PathLike[str], name: str) -> "FeatureSpace":
        """Read what `save` wrote; a damaged file is refused by name."""
        path = Path(folder) / f"{name}.json"
        record = read_record(path)
        mean, deviation = record.get("mean"), record.get("deviation")
        space = None
        if record["kind"] == cls.kind and _numbers(mean) and _numbers(deviation):
            space = cls(mean, deviation) if len(mean) == len(deviation) else None
        check_fingerprint(path, record, "no features" if space is None else space.fingerprint)
        assert space is not None
        return space


def _numbers(found: object) -> TypeGuard[list[float]]:
    return isinstance(found, list) and len(found) > 0 and all(type(number) is float for number in found)


@dataclass(frozen=True)
class Frontend:
    """From frames of features to a model's input.

    With x the frames of a recording, T of them, and every index outside it the nearest one inside::

        (1) x_t = (x_t - mean) / deviation              over what `normalize` says
        (2) x_t = [x_t | Σ_j j·x_{t+j} / 10 | that of it]   j from -2 to 2; so many deltas
        (3) y_i = [x_{i·stride} | … | x_{i·stride + stack - 1}]     for each i·stride below T

    Parameters
    ----------
    normalize : {"speaker", "utterance", "training", "none"}
        What mean and deviation are over: all that a manifest has of a speaker, the utterance alone, or all of
        the training recordings. A stream can wait for neither of the first two.
    deviation : bool
        Whether the standard deviation is divided by; else the mean alone is taken off.
    deltas : int
        How often the change over time is added as further features: 0, 1, or 2 for its own change too.
    stack : int
        Frames side by side in a step of the model.
    stride : int
        Frames from a step to the next.
    """

    normalize: Normalize = "utterance"
    deviation: bool = True
    deltas: int = 0
    stack: int = 1
    stride: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_known(get_args(Normalize), normalize=self.normalize)
        check_at_least(0, deltas=self.deltas)
        check_at_most(len(_DELTAS) - 1, deltas=self.deltas)
        check_at_least(1, stack=self.stack, stride=self.stride)
        check_at_most(100, stack=self.stack)
        if self.stride > self.stack:
            expected = f"at most stack = {self.stack}, so that no frame is left out"
            raise Refused(expected, str(self.stride), "lower it, or raise stack", "stride")

    @property
    def streams(self) -> bool:
        """Whether it can begin before a recording has ended."""
        return self.normalize in ("training", "none")

    def input_size(self, features: int) -> int:
        """Features of a step of the model, of so many features of a frame."""
        return features * (1 + self.deltas) * self.stack

    def steps(self, frames: int) -> int:
        """Steps of the model for so many frames."""
        return -(-frames // self.stride)

    def normalized(self, frames: Frames, statistics: Statistics | None) -> Frames:
        """Frames (T, F) after (1), with the statistics of what `normalize` says; None for its own."""
        if self.normalize == "none":
            return frames
        statistics = statistics or Statistics.of([frames])
        shifted = frames - statistics.mean
        scaled = shifted / numpy.maximum(statistics.deviation, SMALLEST) if self.deviation else shifted
        return numpy.asarray(scaled, dtype=numpy.float32)

    def with_deltas(self, frames: Frames) -> NDArray[numpy.float32]:
        """Frames (T, F) after (2), as (T, 1 + deltas, F)."""
        reach = self.reach
        padded = numpy.pad(frames, ((reach, reach), (0, 0)), mode="edge") if reach else frames
        return self.changes(padded)

    @property
    def reach(self) -> int:
        """Frames to either side that (2) sees."""
        return 2 * self.deltas

    def changes(self, padded: Frames) -> NDArray[numpy.float32]:
        """The same of frames with `reach` neighbours at either end: (T + 2·reach, F) to (T, 1 + d, F)."""
        reach = self.reach
        steps = len(padded) - 2 * reach
        orders = []
        for weights in _DELTAS[: 1 + self.deltas]:
            first = reach - len(weights) // 2
            total = numpy.zeros((steps, padded.shape[1]), dtype=numpy.float32)
            for place, weight in enumerate(weights.astype(numpy.float32).tolist()):
                if weight:
                    total += numpy.float32(weight) * padded[first + place : first + place + steps]
            orders.append(total)
        return numpy.stack(orders, axis=1)

    def stacked(self, frames: NDArray[numpy.float32]) -> Frames:
        """Frames (T, …) after (3), as (steps, I)."""
        flat = frames.reshape(len(frames), -1)
        steps = numpy.arange(self.steps(len(flat)))[:, None] * self.stride + numpy.arange(self.stack)
        found: Frames = flat[numpy.minimum(steps, len(flat) - 1)].reshape(len(steps), -1)
        return found

    def inputs(self, frames: Frames, statistics: Statistics | None) -> Frames:
        """The model's input of a recording of T frames, of shape (steps, I)."""
        return self.stacked(self.with_deltas(self.normalized(frames, statistics)))


class FrontendStream:
    """A `Frontend` of frames that arrive in pieces: the steps are those of the whole.

    Parameters
    ----------
    frontend : Frontend
        One that streams.
    statistics : Statistics
        Of the training recordings.
    """

    def __init__(self, frontend: Frontend, statistics: Statistics) -> None:
        self.frontend, self._statistics = frontend, statistics
        self._raw: Frames | None = None  # and `reach` frames before
        self._made: NDArray[numpy.float32] | None = None  # with deltas, from the next step on

    def feed(self, frames: Frames, *, end: bool = False) -> Frames:
        """The steps, of shape (n, I), that are whole with these frames (T, F); all others too at the end."""
        frontend, reach, features = self.frontend, self.frontend.reach, frames.shape[1]
        new = frontend.normalized(frames, self._statistics)
        if self._raw is None or self._made is None:
            if not len(new):
                return numpy.empty((0, frontend.input_size(features)), dtype=numpy.float32)
            self._raw = numpy.repeat(new[:1], reach, axis=0)
            self._made = numpy.empty((0, 1 + frontend.deltas, features), dtype=numpy.float32)
        raw = numpy.concatenate([self._raw, new])
        if end:
            raw = numpy.concatenate([raw, numpy.repeat(raw[-1:], reach, axis=0)])
        if len(raw) > 2 * reach:
            made = frontend.changes(raw)
            raw = raw[len(made) :]
            self._made = numpy.concatenate([self._made, made])
        self._raw = raw
        whole = (len(self._made) - frontend.stack) // frontend.stride + 1
        steps = frontend.steps(len(self._made)) if end else max(0, whole)
        if not steps:
            return numpy.empty((0, frontend.input_size(features)), dtype=numpy.float32)
        found = frontend.stacked(self._made)[:steps]
        self._made = self._made[steps * frontend.stride :]
        return found
