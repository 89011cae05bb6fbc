"""A tiny translator learns to write strings of digits backwards, and beam search reads them out.

Every attention, and every cell as encoder and as decoder.
"""

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.decoding import Decoding, beam_search
from seqsru.models import ATTENTIONS, Decoder, Translator

EOS, DIGITS, LONGEST, UPDATES = 1, range(2, 12), 4, 300


def batch(count, generator):
    """Source (8, B), its validity, target (9, B) with EOS, and its validity."""
    lengths = torch.randint(1, LONGEST + 1, (count,), generator=generator)
    order = torch.rand(len(DIGITS), count, generator=generator).argsort(0)
    digits = order[:LONGEST] + DIGITS.start  # none of them twice: each says where it stands
    steps = torch.arange(LONGEST + 1).unsqueeze(1)
    valid = steps[:-1] < lengths
    backwards = digits.gather(0, (lengths - 1 - steps[:-1]).clamp(min=0)).masked_fill(~valid, EOS)
    target = torch.cat([backwards, torch.full((1, count), EOS)])
    return digits.masked_fill(~valid, EOS), valid, target, steps <= lengths


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell, attention",
    [*(("sru", attention) for attention in ATTENTIONS), *((cell, "dot") for cell in CELLS if cell != "sru")],
)
def test_learns_to_reverse(cell, attention):
    """Every cell reads and every cell writes: a model whose encoder or decoder cannot learn does not."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    stack = Stack(cell, 48, 24, 2, bidirectional=True)
    model = Translator(12, 12, stack, Decoder(cell, 48, 48, 48, 2, attention=attention), 48)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for update in range(UPDATES):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1, (update + 1) / 30) * (1 - update / UPDATES)
        source, valid, target, real = batch(64, generator)
        features = model(source, valid, torch.cat([torch.full_like(target[:1], EOS), target[:-1]]))
        loss, _ = model.cross_entropy(features, target, real)
        optimizer.zero_grad()
        (loss / real.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    source, valid, target, real = batch(100, generator)
    model.eval()
    with torch.no_grad():
        memory, state = model.begin(source, valid)
    found = beam_search(
        model.step,
        memory,
        state,
        torch.full((100,), EOS),
        eos=EOS,
        max_length=torch.full((100,), 12),
        decoding=Decoding(beam=3),
    )
    right = [best.tokens == target[:, row][real[:, row]].tolist() for row, (best,) in enumerate(found)]
    assert sum(right) >= 80
