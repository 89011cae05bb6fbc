"""Averages of weights on a GPU: those of a CPU, and without waiting for the device."""

import copy

import pytest
import torch
from torch import nn

from seqsru.training.averaging import Average, Exponential, TriggeredMean


def begun(rule):
    """The rule after validations that make it begin."""
    for value in (1.0, 2.0):
        rule.observe({"metric": "m", "value": value, "higher_is_better": False})
    return rule


@pytest.mark.parametrize("make", [lambda: Exponential(decay=0.9), lambda: begun(TriggeredMean(checks=0))])
def test_it_is_that_of_a_cpu_and_never_waits(make, device="cuda"):
    here = nn.Linear(8, 5)
    there = copy.deepcopy(here).to(device)
    averages, bad = [Average(here, make()), Average(there, make())], torch.tensor([True, False, False, True])
    told = bad.to(device)
    for number in range(4):
        for model, average, flags in ((here, averages[0], bad), (there, averages[1], told)):
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(1.0)
            torch.cuda.set_sync_debug_mode("error" if model is there and number else "default")
            try:
                average.update(number + 1, flags[number])
            finally:
                torch.cuda.set_sync_debug_mode("default")
    for name, mean in averages[0].weights.items():
        torch.testing.assert_close(averages[1].weights[name].cpu(), mean)
