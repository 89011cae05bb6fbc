"""Every cell, as a language model, learns to go on with a pattern that it has seen once."""

import pytest
import torch

from seqsru.cells import CELLS, Stack
from seqsru.models import LanguageModel

SYMBOLS, PERIOD, STEPS, UPDATES = 8, 2, 16, 400


def batch(count, generator):
    """Rows (STEPS + 1, B) of a random pair of symbols, repeated."""
    pattern = torch.randint(SYMBOLS, (PERIOD, count), generator=generator)
    return pattern.repeat(STEPS // PERIOD + 1, 1)[: STEPS + 1]


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_learns_to_repeat(cell):
    """From its second period on, each symbol is the last but one: no cell knows it without memory."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    model = LanguageModel(SYMBOLS, Stack(cell, 32, 32, 2), 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    for update in range(UPDATES):
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - update / UPDATES)
        text = batch(32, generator)
        features, _ = model(text[:-1])
        known = torch.zeros(STEPS, 32, dtype=torch.bool)
        known[PERIOD - 1 :] = True
        loss, _ = model.cross_entropy(features, text[1:], known)
        optimizer.zero_grad()
        (loss / known.sum()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    text = batch(200, generator)
    model.eval()
    with torch.no_grad():
        predicted = model.logits(model(text[:-1])[0]).argmax(-1)
    right = (predicted == text[1:])[PERIOD - 1 :]
    assert right.float().mean() >= 0.98
