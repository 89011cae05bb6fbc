"""Batches of utterances: each once an epoch, the same whenever asked for, masked and sped up as drawn."""

import re

import numpy
import pytest
import torch

from seqsru.data.frontend import Frontend
from seqsru.data.lines import LineReport
from seqsru.data.padding import Ragged
from seqsru.data.speech_batches import Augmentation, SpeechBatches, SpeechExamples, steps_needed
from seqsru.errors import Refused

FRONTEND = Frontend("none", stack=2, stride=2)
NONE = Augmentation()
LENGTHS = [3, 30, 17, 9, 9, 41, 8, 22, 5, 16]


def examples(speeds=(1.0,)):
    draw = numpy.random.default_rng(2)
    frames = [
        {speed: draw.normal(size=(round(length / speed), 4)).astype("f") + 5 for speed in speeds}
        for length in LENGTHS
    ]
    targets = Ragged.from_sequences([[number, number + 1] for number in range(len(LENGTHS))])
    numbers = numpy.arange(2, 2 + len(LENGTHS))
    return SpeechExamples(frames, targets, numbers, LineReport("m.tsv", 11))


def batches(frames=96, augmentation=NONE, seed=3, speeds=(1.0,), **options):
    return SpeechBatches(examples(speeds), FRONTEND, frames, seed=seed, augmentation=augmentation, **options)


def test_every_utterance_once_an_epoch_and_never_more_than_the_limit():
    made = batches()
    seen = []
    for epoch in (1, 2, 7):
        chosen = made.epoch(epoch)
        assert sorted(sum(chosen, [])) == list(range(len(LENGTHS))) and len(chosen) == len(made)
        for indices in chosen:
            batch = made.collate(indices, epoch)
            assert 2 * batch.valid.numel() <= 96 and len(batch.valid) % 8 == 0
            assert batch.valid.sum(0).tolist() == [-(-LENGTHS[i] // 2) for i in indices]
            assert batch.targets.t().tolist() == [[i, i + 1] for i in indices] and batch.count == 2 * len(
                indices
            )
            assert not batch.inputs[~batch.valid].any()
        seen.append(chosen)
    assert seen[0] != seen[1] and made.epoch(1) == seen[0] == batches().epoch(1)
    assert batches(seed=4).epoch(1) != seen[0]


def test_masks_are_drawn_from_seed_epoch_and_utterance():
    masks = Augmentation(feature_masks=1, feature_width=2, time_masks=1, time_width=4, time_share=0.5)
    made, plain = batches(augmentation=masks), batches()
    state = torch.random.get_rng_state()
    first = made.collate([1, 5], 1).inputs
    assert torch.equal(first, made.collate([1, 5], 1).inputs)  # whatever was asked for in between
    alone = made.collate([1], 1).inputs[:, 0]
    assert torch.equal(first[: len(alone), 0], alone) and not first[len(alone) :, 0].any()
    others = [made.collate([1, 5], epoch).inputs for epoch in range(2, 12)]
    assert any(not torch.equal(first, other) for other in others)
    whole = plain.collate([1, 5], 1)
    for one in (first, *others):
        changed = one != whole.inputs
        assert not one[changed].any()  # a masked number is 0, every other one is as it was
        masked = (one[:15, 0].reshape(30, 4) == 0).numpy()  # frames of utterance 1
        bands = masked.all(0).sum()
        assert bands <= 2 and masked.all(1).sum() <= 4
    assert torch.equal(state, torch.random.get_rng_state())


def test_deltas_of_a_masked_feature_are_masked_with_it():
    masks = Augmentation(feature_masks=1, feature_width=4)
    for seed in range(9):
        found = masks.masked(numpy.ones((5, 3, 4), dtype="f"), (seed,))
        assert (found == found[:1, :1]).all()


def test_a_speed_is_drawn_and_batches_stay():
    speeds = (0.9, 1.0, 1.1)
    made = batches(frames=200, augmentation=Augmentation(speeds=speeds), speeds=speeds)
    lengths = {int(made.collate([5], epoch).valid.sum()) for epoch in range(20)}
    assert lengths == {-(-round(41 / speed) // 2) for speed in speeds}
    for epoch in range(5):
        for indices in made.epoch(epoch):
            assert 2 * made.collate(indices, epoch).valid.numel() <= 200


def test_what_is_too_long_is_told():
    made = batches(frames=30, max_frames=25)
    kept = {LENGTHS[i] for i in sum(made.epoch(1), [])}
    assert kept == {3, 5, 8, 9, 16, 17, 22}
    assert str(made.report) == "m.tsv: 11 lines; 2 longer than 25 frames, skipped (lines 3, 7)"
    assert "1 longer than a batch of 40 frames, skipped (line 7)" in str(batches(frames=40).report)
    told = (
        "max_frames: expected utterances to make batches of, found none (m.tsv: 11 lines; 10 longer than 2 "
    )
    with pytest.raises(Refused, match=f"^{re.escape(told)}"):
        batches(max_frames=2)


@pytest.mark.parametrize("ids, needed", [([], 0), ([1], 1), ([1, 1], 3), ([1, 2, 2, 2, 1], 7)])
def test_steps_that_a_text_needs(ids, needed):
    assert steps_needed(ids) == needed
    if ids:
        log_probs = torch.randn(needed, 1, 4).log_softmax(-1)
        targets, lengths = torch.tensor([ids]), torch.tensor([len(ids)])

        def loss(steps):
            return torch.nn.functional.ctc_loss(
                log_probs[:steps], targets, torch.tensor([steps]), lengths, blank=3, reduction="sum"
            )

        assert torch.isfinite(loss(needed)) and (needed == 1 or torch.isinf(loss(needed - 1)))


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"speeds": []}, "speeds: expected at least one speed, found none; 1 is as recorded"),
        ({"speeds": [0.1]}, "speeds: expected at least 0.5, found 0.1; raise it"),
        ({"speeds": [1.0, 1.0]}, "speeds: expected each speed once, found [1.0, 1.0]; remove one"),
        ({"time_share": 1.5}, "time_share: expected a number from 0 to 1, found 1.5; give a share"),
        ({"feature_masks": -1}, "feature_masks: expected at least 0, found -1; raise it"),
    ],
)
def test_what_cannot_be_meant(options, sentence):
    with pytest.raises(Refused, match=f"^{re.escape(sentence)}$"):
        Augmentation(**options)
