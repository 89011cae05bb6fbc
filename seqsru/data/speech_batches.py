"""Batches of utterances to learn from: like lengths side by side, masked and sped up as an epoch draws it."""

# Annotations are read at run time: the fields of `Augmentation` are settings.
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqsru.data.frontend import FeatureSpace, Frontend, Statistics
from seqsru.data.lines import LineReport
from seqsru.data.padding import SOURCE_MULTIPLE, Ragged, padded_length
from seqsru.data.shuffling import draw_from, shuffled
from seqsru.data.tokenizers import Tokenizer
from seqsru.data.utterances import BadUtterance, Frames, OnBadUtterance, Recordings
from seqsru.errors import Refused, check_at_least, check_at_most, check_share


@dataclass(frozen=True)
class Augmentation:
    """What is changed in an utterance each time it is learnt from; nothing unless it is set.

    Masks are those of SpecAugment (Park et al. 2019, arXiv 1904.08779) without its warping: a masked feature
    is 0, which is its mean where features are normalised. Its deltas are masked with it.

    Parameters
    ----------
    feature_masks : int
        Bands of neighbouring features that are masked.
    feature_width : int
        Most features of a band; each width from 0 on is as likely.
    time_masks : int
        Stretches of frames that are masked.
    time_width : int
        Most frames of a stretch; each width from 0 on is as likely.
    time_share : float
        Most of an utterance that a stretch may take.
    speeds : sequence of float
        Speeds that one is drawn from; 0.9, 1 and 1.1 are common. Audio is played so fast, and its pitch
        changes too; of files of features the frames between the frames are taken.
    """

    feature_masks: int = 0
    feature_width: int = 8
    time_masks: int = 0
    time_width: int = 20
    time_share: float = 0.2
    speeds: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        check_at_least(0, feature_masks=self.feature_masks, time_masks=self.time_masks)
        check_at_most(1000, feature_masks=self.feature_masks, time_masks=self.time_masks)
        check_at_least(1, feature_width=self.feature_width, time_width=self.time_width)
        check_at_most(1_000_000, feature_width=self.feature_width, time_width=self.time_width)
        check_share(time_share=self.time_share)
        if not self.speeds:
            raise Refused("at least one speed", "none", "1 is as recorded", "speeds")
        for speed in self.speeds:
            check_at_least(0.5, speeds=speed)
            check_at_most(2, speeds=speed)
        if len(set(self.speeds)) < len(self.speeds):
            raise Refused("each speed once", str(list(self.speeds)), "remove one", "speeds")

    def masked(self, frames: NDArray[numpy.float32], seed: Sequence[int]) -> NDArray[numpy.float32]:
        """Frames (T, orders, F) with the masks that a seed draws."""
        if not (self.feature_masks or self.time_masks):
            return frames
        masked: NDArray[numpy.float32] = frames.copy()
        steps, _, features = frames.shape
        drawn = draw_from(*seed)(2 * (self.feature_masks + self.time_masks)).tolist()
        numbers = iter(drawn)
        for _ in range(self.feature_masks):
            first, last = _band(next(numbers), next(numbers), self.feature_width, features)
            masked[:, :, first:last] = 0.0
        most = min(self.time_width, int(self.time_share * steps))
        for _ in range(self.time_masks):
            first, last = _band(next(numbers), next(numbers), most, steps)
            masked[first:last] = 0.0
        return masked


def _band(width: int, place: int, most: int, size: int) -> tuple[int, int]:
    """A band of at most so many of ``size`` places, from two random numbers."""
    wide = width % (min(most, size) + 1)
    first = place % (size - wide + 1)
    return first, first + wide


@dataclass(frozen=True)
class SpeechExamples:
    """Utterances to learn from.

    Parameters
    ----------
    frames : list of mapping of float to ndarray of shape (T, F)
        Normalised, of each utterance by speed.
    targets : Ragged
        Ids of each transcript.
    numbers : ndarray of shape (n,), int64
        Where each stands in its manifest.
    report : LineReport
        What was left out of it.
    """

    frames: list[dict[float, Frames]]
    targets: Ragged
    numbers: NDArray[numpy.int64]
    report: LineReport

    def __len__(self) -> int:
        return len(self.frames)

    @classmethod
    def made(
        cls,
        recordings: Recordings,
        tokenizer: Tokenizer,
        frontend: Frontend,
        space: FeatureSpace,
        on_bad_line: OnBadUtterance,
    ) -> "SpeechExamples":
        """Normalise recordings and encode their transcripts.

        Raises
        ------
        Refused
            A transcript that its frames are too few for, named with file and line.
        """
        utterances, report = recordings.utterances, recordings.utterances.report.copy()
        kept, targets, numbers = [], [], []
        statistics = statistics_of(recordings, frontend, space)
        for index, by_speed in enumerate(recordings.frames):
            ids = tokenizer.encode(utterances.transcripts[index])
            needed, place = steps_needed(ids), utterances.place(index)
            have = frontend.steps(len(by_speed.get(1.0, next(iter(by_speed.values())))))
            fitting = {
                speed: frontend.normalized(frames, statistics[index].get(speed))
                for speed, frames in by_speed.items()
                if frontend.steps(len(frames)) >= needed
            }
            if fitting and ids:
                kept.append(fitting)
                targets.append(ids)
                numbers.append(utterances.numbers[index])
                continue
            if ids:
                bad = BadUtterance(
                    "with a transcript too long for the frames",
                    f"at least {needed} steps of the model for the {len(ids)} units of the transcript",
                    f"{have}",
                    "correct it, or lower frontend.stride",
                )
            else:
                found = repr(utterances.transcripts[index][:40])
                bad = BadUtterance(
                    "without a unit", "a transcript of at least one unit", found, "change the tokenizer"
                )
            if on_bad_line == "error":
                bad.do = f"{bad.do}, or set on_bad_line to skip"
                raise bad.refusal(place)
            report.add(f"{bad.reason}, skipped", utterances.numbers[index])
        return cls(kept, Ragged.from_sequences(targets), numpy.array(numbers, dtype=numpy.int64), report)


def steps_needed(ids: Sequence[int]) -> int:
    """The fewest steps in which CTC can write ids: one each, and a blank between two that are equal."""
    return len(ids) + sum(first == second for first, second in zip(ids, ids[1:]))


def statistics_of(
    recordings: Recordings, frontend: Frontend, space: FeatureSpace
) -> list[dict[float, Statistics]]:
    """What each utterance is normalised with, by speed; nothing where it is its own.

    Raises
    ------
    Refused
        An utterance without a speaker where `normalize` is speaker.
    """
    utterances = recordings.utterances
    if frontend.normalize == "training":
        return [dict.fromkeys(by_speed, space.statistics) for by_speed in recordings.frames]
    if frontend.normalize != "speaker":
        return [{} for _ in recordings.frames]
    groups: dict[str, list[int]] = {}
    for index, speaker in enumerate(utterances.speakers):
        if not speaker:
            raise Refused(
                f"a speaker at {utterances.place(index)}",
                "none",
                "add a column speaker, or set frontend.normalize to utterance",
            )
        groups.setdefault(speaker, []).append(index)
    found: list[dict[float, Statistics]] = [{} for _ in recordings.frames]
    for members in groups.values():
        for speed in recordings.frames[members[0]]:
            statistics = Statistics.of(recordings.frames[index][speed] for index in members)
            for index in members:
                found[index][speed] = statistics
    return found


def inputs_of(recordings: Recordings, frontend: Frontend, space: FeatureSpace) -> list[Frames]:
    """The model's input of each recording, (T, I), at the recorded speed and without augmentation."""
    statistics = statistics_of(recordings, frontend, space)
    return [
        frontend.inputs(by_speed[1.0], own.get(1.0)) for by_speed, own in zip(recordings.frames, statistics)
    ]


@dataclass(frozen=True)
class SpeechBatch:
    """Utterances side by side.

    Parameters
    ----------
    inputs : Tensor of shape (T, B, I), float32
        Steps of the model, T a multiple of 8.
    valid : Tensor of shape (T, B), bool
        Each row a prefix of True.
    targets : Tensor of shape (S, B), int64
        Ids of the transcripts.
    target_valid : Tensor of shape (S, B), bool
    count : int
        Ids in all.
    """

    inputs: Tensor
    valid: Tensor
    targets: Tensor
    target_valid: Tensor
    count: int


class SpeechBatches:
    """Batches of utterances of like length, each of at most `frames` padded frames.

    The cuts between batches are the same in every epoch; who sits beside whom, the order of the batches, the
    speeds and the masks are drawn from (seed, epoch) alone: no global generator is read or moved, and any
    epoch can be made without those before.

    Parameters
    ----------
    examples : SpeechExamples
        What to batch.
    frontend : Frontend
    frames : int
        Padded frames of a batch, those of the longest utterance times the utterances.
    seed : int
        Of every draw, not negative.
    augmentation : Augmentation
    max_frames : int, optional
        Longest utterance allowed; longer ones, and those that alone exceed `frames`, are skipped and
        reported.

    Attributes
    ----------
    report : LineReport
        The examples' report and what was too long.

    Raises
    ------
    Refused
        No utterance is left, or an argument is out of range.
    """

    def __init__(
        self,
        examples: SpeechExamples,
        frontend: Frontend,
        frames: int = 8000,
        *,
        seed: int,
        augmentation: Augmentation,
        max_frames: int | None = None,
    ) -> None:
        check_at_least(1, frames=frames)
        check_at_most(1_000_000_000, frames=frames)
        check_at_least(0, seed=seed)
        if max_frames is not None:
            check_at_least(1, max_frames=max_frames)
        self.examples, self.frontend, self.seed, self.augmentation = examples, frontend, seed, augmentation
        self.report = examples.report.copy()
        # With the slowest speed, so that a batch has the same utterances whatever is drawn.
        lengths = numpy.array([max(map(len, one.values())) for one in examples.frames], dtype=numpy.int32)
        multiple = SOURCE_MULTIPLE * frontend.stride
        cost = padded_length(lengths, multiple)
        over = lengths > max_frames if max_frames is not None else numpy.zeros(len(lengths), dtype=bool)
        over_batch = ~over & (lengths > frames)
        for reason, which in (
            (f"longer than {max_frames} frames, skipped", over),
            (f"longer than a batch of {frames} frames, skipped", over_batch),
        ):
            for number in examples.numbers[which].tolist():
                self.report.add(reason, number)
        self._kept = numpy.flatnonzero(~(over | over_batch))
        if not len(self._kept):
            raise Refused(
                "utterances to make batches of",
                f"none ({self.report})",
                "check the manifest and the limits on length",
                "max_frames" if over.any() else "frames" if over_batch.any() else None,
            )
        order = numpy.argsort(cost[self._kept], kind="stable")
        self._kept = self._kept[order]
        self._bucket = cost[self._kept]
        self._cuts = [0]
        for place, length in enumerate(self._bucket.tolist()):
            begun = place - self._cuts[-1]
            if begun and (begun + 1) * length > frames:
                self._cuts.append(place)
        self._cuts.append(len(self._kept))

    def __len__(self) -> int:
        """Return the number of batches in every epoch."""
        return len(self._cuts) - 1

    def epoch(self, epoch: int) -> list[list[int]]:
        """Return the batches of an epoch (not negative) as indices into `examples`, each in at most one."""
        draw = draw_from(self.seed, epoch)
        order = self._kept[numpy.lexsort((draw(len(self._kept)), self._bucket))].tolist()
        return shuffled([order[a:b] for a, b in zip(self._cuts, self._cuts[1:])], draw)

    def collate(self, indices: Sequence[int], epoch: int) -> SpeechBatch:
        """Return examples as tensors, columns in the order of `indices`, as an epoch draws them."""
        rows = [self._drawn(index, epoch) for index in indices]
        inputs, valid = padded_inputs(rows)
        targets, target_valid = self.examples.targets.padded(numpy.asarray(indices, dtype=numpy.int64), 0)
        return SpeechBatch(inputs, valid, targets, target_valid, int(target_valid.sum()))

    def _drawn(self, index: int, epoch: int) -> Frames:
        """The model's input of one example in an epoch."""
        by_speed, seed = self.examples.frames[index], (self.seed, epoch, index)
        speeds = list(by_speed)
        chosen = speeds[int(draw_from(*seed, 0)(1)[0]) % len(speeds)] if len(speeds) > 1 else speeds[0]
        frames = self.augmentation.masked(self.frontend.with_deltas(by_speed[chosen]), (*seed, 1))
        return self.frontend.stacked(frames)


def padded_inputs(rows: Sequence[Frames]) -> tuple[Tensor, Tensor]:
    """Put inputs (T_b, I) side by side: (T, B, I) and the mask (T, B), T a multiple of 8."""
    steps = padded_length(max(map(len, rows)), SOURCE_MULTIPLE)
    inputs = torch.zeros(steps, len(rows), rows[0].shape[1])
    valid = torch.zeros(steps, len(rows), dtype=torch.bool)
    for column, row in enumerate(rows):
        inputs[: len(row), column] = torch.from_numpy(row)
        valid[: len(row), column] = True
    return inputs, valid
