"""Muon on a GPU: a step that is made and one that is not, without waiting for the device."""

import torch
from torch import nn

from seqsru.training.optimizers import OPTIMIZERS, step


def test_it_never_waits_for_the_device():
    model = nn.ModuleDict({"embedding": nn.Embedding(11, 8), "wide": nn.Linear(8, 12)}).to("cuda")
    optimizer = OPTIMIZERS["muon"](model.named_parameters(), 0.02)
    flags, before = torch.tensor([False, True, False], device="cuda"), []
    for number, bad in enumerate(flags):
        for p in model.parameters():
            p.grad = torch.randn_like(p)
        before.append([p.detach().clone() for p in model.parameters()])
        torch.cuda.set_sync_debug_mode("error" if number else "default")
        try:
            step(optimizer, bad)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert all(p.equal(was) for p, was in zip(before[2], before[1], strict=True))
    assert not any(p.equal(was) for p, was in zip(before[1], before[0], strict=True))
