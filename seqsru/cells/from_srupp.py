"""Reading the weights of the `sru` package's SRU++."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from seqsru.cells.from_sru import INPUT_KEY, directions, of_direction, without_norm
from seqsru.cells.self_attention import Sight
from seqsru.cells.stack import Stack
from seqsru.cells.state_dicts import StateDict, filled, refused

_KEY = re.compile(
    r"rnn_lst\.(?P<layer>\d+)\.(?:(?:transform_module|custom_m)\."
    r"(linear[123]\.weight|alpha|layer_norm\.(?:weight|bias))"
    r"|(weight_c|bias|scale_x|layer_norm\.(?:weight|bias)))|" + re.escape(INPUT_KEY)
)


def stack_from_srupp(
    state_dict: Mapping[str, Tensor],
    *,
    num_heads: int,
    bidirectional: bool = False,
    attention: Sight = "causal",
    memory: int = 128,
    normalize_after: bool = False,
) -> Stack:
    """Make the stack that a state dictionary of the `sru` package's ``SRUpp``, 3.0.0-dev, describes.

    Which layers have attention is inferred; a dictionary without ``alpha`` has it at 1. Attention outside the
    first steps is what the package's caller passed it as a mask and as memory; here it is an argument.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the package's ``SRUpp`` module itself: keys start with ``rnn_lst.`` and ``input_to_hidden.``.
    num_heads : int
        Heads of the attention.
    bidirectional : bool
        Whether it has two directions.
    attention : {"causal", "full"}
        What a step sees.
    memory : int
        Earlier steps that causal attention sees.
    normalize_after : bool
        Whether its layers' own LayerNorm stands after them. The attention's stands after it always.

    Returns
    -------
    stack : Stack
        In training mode, dropouts 0, with the dtype of the weights.

    Raises
    ------
    Refused
        A key that is unknown or missing, a tensor of another shape, layers with attention at places that no
        pattern describes, or an argument that contradicts them.
    """
    read = StateDict(state_dict, _KEY, "rnn_lst.0.bias")
    product = "custom_m" if any(".custom_m." in key for key in state_dict) else "transform_module"
    layers, out = read.layers(), read("rnn_lst.0.bias", "2·O").numel() // 2
    dirs = directions(out, bidirectional)
    sees = [f"rnn_lst.{layer}.{product}.linear3.weight" in read for layer in range(layers)]
    every, start = _pattern(sees)
    first = read(INPUT_KEY, out, "I") if INPUT_KEY in read else None
    width, size = read(f"rnn_lst.0.{product}.linear1.weight", "P", "I").shape
    norms = "rnn_lst.0.layer_norm.weight" in read
    inner = f"rnn_lst.0.{product}.layer_norm.weight" in read
    if normalize_after and not norms:
        raise without_norm()
    tensors: dict[str, Tensor] = {}
    if first is not None:
        tensors["input_map.weight"], size = first, first.shape[1]
    for layer in range(layers):
        key, reads = f"rnn_lst.{layer}", size if layer == 0 and first is None else out
        inside = f"{key}.{product}"
        shared = {"attention.project": read(f"{inside}.linear1.weight", width, reads)}
        if sees[layer]:
            shared["attention.key_value"] = read(f"{inside}.linear2.weight", 2 * width, width)
            alpha = f"{inside}.alpha"
            shared["attention.alpha"] = read(alpha, 1) if alpha in read else torch.ones(1)
        for part in ("weight", "bias"):
            if inner:
                shared[f"attention.norm.{part}"] = read(f"{inside}.layer_norm.{part}", width)
            if norms and normalize_after:
                tensors[f"norms.{layer}.{part}"] = read(f"{key}.layer_norm.{part}", out)
            elif norms:
                shared[f"layer_norm.{part}"] = read(f"{key}.layer_norm.{part}", reads)
        rows = out * (3 if reads == out else 4)
        weight = read(f"{inside}.linear{3 if sees[layer] else 2}.weight", rows, width)
        v, bias = read(f"{key}.weight_c", 2 * out), read(f"{key}.bias", 2 * out)
        for d in range(dirs):
            ours = f"layers.{layer}.{d}"
            tensors |= of_direction(d, dirs, ours, weight, bias, v, read(f"{key}.scale_x", 1))
            tensors |= {f"{ours}.{name}": tensor for name, tensor in shared.items()}
    options = {
        "projection_size": width,
        "num_heads": num_heads,
        "attention": attention,
        "memory": memory,
        "attention_every": every,
        "attention_from": start,
        "normalize": "after" if inner else "none",
        "layer_norm": norms and not normalize_after,
    }
    stack = Stack(
        "srupp",
        size,
        out // dirs,
        layers,
        bidirectional=bidirectional,
        project_input=first is not None,
        normalize_after=normalize_after,
        options=options,
    )
    return filled(stack, tensors, read("rnn_lst.0.bias", 2 * out).dtype)


def _pattern(sees: list[bool]) -> tuple[int, int]:
    """Return attention_every and attention_from of layers that have attention or not."""
    layers = len(sees)
    for every in range(1, layers + 2):
        for start in range(layers):
            if sees == [layer >= start and (layer + 1) % every == 0 for layer in range(layers)]:
                return every, start
    raise refused(
        "linear3.weight in every so many layers from one on",
        f"it in layers {[layer for layer, has in enumerate(sees) if has]}",
        "check the file",
    )
