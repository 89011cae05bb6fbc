"""Make tests/fixtures/srupp-*.safetensors: what release 3.0.0.dev6 of the `sru` package computes.

In an environment of its own that has torch, safetensors and that release (`pip install --pre sru`; it needs
no compiler on a CPU):

    python tools/make_srupp_fixtures.py tests/fixtures

Each file holds a state dictionary with alpha and the LayerNorms off their initial values, an input, what the
package makes of it, and the gradient of the input; its metadata holds the arguments of `stack_from_srupp`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import Tensor

STEPS, ROWS = 11, 3
LENGTHS = torch.tensor([11, 7, 2])


def causal(steps: int, seen: int, memory: int) -> Tensor:
    """The additive mask (steps, seen) under which a step sees itself and the `memory` before it."""
    query = torch.arange(seen - steps, seen).unsqueeze(1)
    key = torch.arange(seen)
    return torch.zeros(steps, seen).masked_fill((key > query) | (key < query - memory), float("-inf"))


def make(
    folder: Path,
    name: str,
    sizes: tuple[int, int, int],
    layers: int,
    heads: int,
    *,
    memory: int = 128,
    full: bool = False,
    bidirectional: bool = False,
    padded: bool = False,
    pieces: tuple[int, ...] = (STEPS,),
    **options: object,
) -> None:
    """Write one file; `pieces` are the lengths in which the package reads the stream."""
    from safetensors.torch import save_file
    from sru import SRUpp

    torch.manual_seed(len(name) + sizes[0])
    net = SRUpp(*sizes, num_layers=layers, num_heads=heads, bidirectional=bidirectional, **options)
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if key.endswith("alpha"):
                parameter.fill_(0.7)
            if "layer_norm" in key or key.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    net.eval()
    x = torch.randn(STEPS, ROWS, sizes[0], requires_grad=True)
    valid = torch.arange(STEPS).unsqueeze(1) < LENGTHS
    outputs, c, memories, at = [], None, None, 0
    for steps in pieces:
        before = 0 if memories is None else len(memories[0])
        mask = None if full else causal(steps, before + steps, memory)
        y, c, bank = net(
            x[at : at + steps], c, mask_pad=~valid if padded else None, attn_mask=mask, memory=memories
        )
        read = bank["saved_inputs"]
        memories = read if memories is None else [torch.cat(pair) for pair in zip(memories, read)]
        outputs.append(y)
        at += steps
    y = torch.cat(outputs)
    gradient = torch.randn_like(y) * (valid.unsqueeze(-1) if padded else 1.0)
    (y * gradient).sum().backward()
    tensors = {f"state.{key}": tensor.contiguous() for key, tensor in net.state_dict().items()}
    tensors |= {
        "input": x,
        "output": y,
        "final_state": c,
        "steps": torch.tensor(pieces),
        "output_gradient": gradient,
        "input_gradient": x.grad,
    }
    if padded:
        tensors["valid"] = valid.to(torch.uint8)
    arguments = {
        "num_heads": heads,
        "bidirectional": bidirectional,
        "memory": memory,
        "attention": "full" if full else "causal",
        "normalize_after": options.get("normalize_after", False),
    }
    save_file(
        {key: tensor.detach().clone() for key, tensor in tensors.items()},
        folder / f"srupp-{name}.safetensors",
        metadata={"arguments": json.dumps(arguments), "package": "sru 3.0.0.dev6"},
    )


def main(folder: Path) -> None:
    """Write every fixture to a folder."""
    make(folder, "causal", (6, 6, 8), 2, 2, memory=4)
    make(folder, "streaming", (5, 6, 8), 2, 1, memory=50, pieces=(4, 1, 6))
    make(
        folder,
        "full-bidirectional",
        (6, 3, 8),
        2,
        4,
        full=True,
        bidirectional=True,
        padded=True,
        rescale=True,
    )
    make(folder, "every-second", (6, 6, 8), 4, 1, memory=3, attention_every_n_layers=2, layer_norm=True)
    make(
        folder,
        "last-one",
        (7, 6, 4),
        3,
        2,
        memory=3,
        attention_last_n_layers=1,
        layer_norm=True,
        normalize_after=True,
        attn_layer_norm=False,
        proj_input_to_hidden_first=True,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
