"""Reading the weights of other packages: torch.nn's LSTM and GRU, torchqrnn, the SRU++ of the `sru` package.

Each function takes a state dictionary and gives the `Stack` that computes the same. What a dictionary cannot
tell is an argument; the rest is inferred.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from seqsru.cells.srupp import Sight
from seqsru.cells.stack import Stack

_TORCH_KEY = re.compile(r"(weight|bias)_(ih|hh)_l(\d+)(_reverse)?")
_QRNN_KEY = re.compile(r"layers\.(\d+)\.linear\.(weight|bias)")
_SRUPP_KEY = re.compile(
    r"rnn_lst\.(\d+)\.(?:(?:transform_module|custom_m)\."
    r"(linear[123]\.weight|alpha|layer_norm\.(?:weight|bias))"
    r"|(weight_c|bias|scale_x|layer_norm\.(?:weight|bias)))"
)
_INPUT_KEY = "input_to_hidden.weight"


def stack_from_torch(state_dict: Mapping[str, Tensor]) -> Stack:
    """Make the stack that a state dictionary of `torch.nn.LSTM` or `torch.nn.GRU` describes.

    Which of the two it is, the depth, the directions and the sizes are inferred; without biases they are 0. A
    projection of the LSTM's output (``proj_size``) has no counterpart here.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the module itself: ``weight_ih_l0``, ``weight_hh_l0``, ``bias_ih_l0``, ….

    Returns
    -------
    stack : Stack
        In training mode, dropout 0, with the dtype of the weights.

    Raises
    ------
    ValueError
        A key that is unknown or missing, or a tensor of another shape.
    """
    read = _Reader("stack_from_torch", state_dict)
    found = read.matched(_TORCH_KEY.fullmatch, "weight_ih_l0")
    hidden, rows = read("weight_hh_l0", 2).shape[1], read("weight_hh_l0", 2).shape[0]
    cells = {4: "lstm", 3: "gru"}
    if rows % max(hidden, 1) or rows // max(hidden, 1) not in cells:
        raise read.error(
            f"weight_hh_l0 of shape (4·H, H) for an LSTM or (3·H, H) for a GRU, found {(rows, hidden)}",
            "check the file",
        )
    layers = 1 + max(int(match[3]) for match in found)
    endings = ["", "_reverse"] if any(match[4] for match in found) else [""]
    biased = any(match[1] == "bias" for match in found)
    tensors, size = {}, read("weight_ih_l0", 2).shape[1]
    for layer in range(layers):
        for direction, ending in enumerate(endings):
            shapes = {
                "weight_ih": (rows, size if layer == 0 else hidden * len(endings)),
                "weight_hh": (rows, hidden),
                "bias_ih": (rows,),
                "bias_hh": (rows,),
            }
            for name, shape in shapes.items():
                key, ours = f"{name}_l{layer}{ending}", f"layers.{layer}.{direction}.rnn.{name}_l0"
                given = biased or not name.startswith("bias")
                tensors[ours] = read.shaped(key, shape) if given else torch.zeros(shape)
    stack = Stack(cells[rows // hidden], size, hidden, layers, bidirectional=len(endings) == 2)
    return _filled(stack, tensors, read("weight_hh_l0", 2).dtype)


def stack_from_torchqrnn(
    state_dict: Mapping[str, Tensor], *, window: int = 1, output_gate: bool = True, zoneout: float = 0.0
) -> Stack:
    """Make the stack that a state dictionary of ``torchqrnn.QRNN`` describes.

    That package's F is the update gate, ours is its opposite: the sign of those rows changes. A layer whose
    window is 1 in a stack with layers of window 2 gets weights of 0 for the input before.

    Parameters
    ----------
    state_dict : mapping of str to Tensor
        Of the module itself: ``layers.0.linear.weight``, ``layers.0.linear.bias``, ….
    window : int
        Window of the first layer, 1 or 2; that of the others is inferred.
    output_gate : bool
        Whether it has an output gate: fo-pooling, else f-pooling.
    zoneout : float
        Its zoneout, which acts in evaluation too.

    Returns
    -------
    stack : Stack
        In training mode, dropout 0, with the dtype of the weights.

    Raises
    ------
    ValueError
        A key that is unknown or missing, a tensor of another shape, layers of several widths, or an argument
        that contradicts them.
    """
    read = _Reader("stack_from_torchqrnn", state_dict)
    found = read.matched(_QRNN_KEY.fullmatch, "layers.0.linear.weight")
    slices = 3 if output_gate else 2
    rows, columns = read("layers.0.linear.weight", 2).shape
    if rows % slices:
        raise read.error(
            f"layers.0.linear.weight with {slices} rows a feature, found {rows} rows",
            f"pass output_gate={not output_gate}",
        )
    if window not in (1, 2) or columns % window:
        raise read.error(
            f"window 1 or 2 that divides the {columns} columns of layers.0.linear.weight, found {window}",
            "pass the window of the first layer",
        )
    hidden, size, layers = rows // slices, columns // window, 1 + max(int(match[1]) for match in found)
    matrices = [read(f"layers.{layer}.linear.weight", 2) for layer in range(layers)]
    widest = max([window] + [2 for matrix in matrices[1:] if matrix.shape[1] == 2 * hidden])
    tensors: dict[str, Tensor] = {}
    for layer, matrix in enumerate(matrices):
        reads = size if layer == 0 else hidden
        wanted = window if layer == 0 else max(1, min(matrix.shape[1] // reads, 2))
        weight = read.shaped(f"layers.{layer}.linear.weight", (rows, wanted * reads))
        bias = read.shaped(f"layers.{layer}.linear.bias", (rows,))
        sign = torch.ones(slices, dtype=weight.dtype)
        sign[1] = -1.0
        sign = sign.repeat_interleave(hidden)
        padded = weight.new_zeros(rows, widest * reads)
        padded[:, : wanted * reads] = weight * sign.unsqueeze(1)
        tensors |= {f"layers.{layer}.0.weight": padded, f"layers.{layer}.0.bias": bias * sign}
    options = {"window": widest, "pooling": "fo" if output_gate else "f", "zoneout": zoneout}
    return _filled(Stack("qrnn", size, hidden, layers, options=options), tensors, matrices[0].dtype)


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
    ValueError
        A key that is unknown or missing, a tensor of another shape, layers with attention at places that no
        pattern describes, or an argument that contradicts them.
    """
    read = _Reader("stack_from_srupp", state_dict)
    found = read.matched(lambda key: key == _INPUT_KEY or _SRUPP_KEY.fullmatch(key), "rnn_lst.0.bias")
    layers = 1 + max(int(match[1]) for match in found if not isinstance(match, bool))
    product = "custom_m" if any(".custom_m." in key for key in state_dict) else "transform_module"
    out, dirs = read("rnn_lst.0.bias", 1).numel() // 2, 2 if bidirectional else 1
    if out % dirs:
        raise read.error(
            f"an even number of outputs for two directions, found {out}", "pass bidirectional=False"
        )
    width = read(f"rnn_lst.0.{product}.linear1.weight", 2).shape[0]
    sees = [f"rnn_lst.{layer}.{product}.linear3.weight" in state_dict for layer in range(layers)]
    every, start = _pattern(sees, read)
    first = read.shaped(_INPUT_KEY, (out, None)) if _INPUT_KEY in state_dict else None
    size = read(f"rnn_lst.0.{product}.linear1.weight", 2).shape[1] if first is None else first.shape[1]
    norms = "rnn_lst.0.layer_norm.weight" in state_dict
    inner = f"rnn_lst.0.{product}.layer_norm.weight" in state_dict
    if normalize_after and not norms:
        raise read.error(
            "rnn_lst.0.layer_norm.weight with normalize_after, found none", "pass normalize_after=False"
        )
    tensors = {} if first is None else {"input_map.weight": first}
    for layer in range(layers):
        key, reads = f"rnn_lst.{layer}", size if layer == 0 and first is None else out
        k = 3 if reads == out else 4
        last = "linear3" if sees[layer] else "linear2"
        shared = {"attention.project": read.shaped(f"{key}.{product}.linear1.weight", (width, reads))}
        if sees[layer]:
            shared["attention.key_value"] = read.shaped(f"{key}.{product}.linear2.weight", (2 * width, width))
            alpha = f"{key}.{product}.alpha"
            shared["attention.alpha"] = read.shaped(alpha, (1,)) if alpha in state_dict else torch.ones(1)
        for part in ("weight", "bias"):
            if inner:
                shared[f"attention.norm.{part}"] = read.shaped(f"{key}.{product}.layer_norm.{part}", (width,))
            if norms and normalize_after:
                tensors[f"norms.{layer}.{part}"] = read.shaped(f"{key}.layer_norm.{part}", (out,))
            elif norms:
                shared[f"layer_norm.{part}"] = read.shaped(f"{key}.layer_norm.{part}", (reads,))
        weight = read.shaped(f"{key}.{product}.{last}.weight", (out * k, width)).view(dirs, -1, k, width)
        v = read.shaped(f"{key}.weight_c", (2 * out,)).view(2, dirs, -1)
        bias = read.shaped(f"{key}.bias", (2 * out,)).view(2, dirs, -1)
        scale = read.shaped(f"{key}.scale_x", (1,)).double()
        for d in range(dirs):
            own = {
                "weight": weight[d].transpose(0, 1).flatten(0, 1),
                "v": v[:, d],
                "bias": bias[:, d],
                "_extra_state": scale,
            }
            tensors |= {f"layers.{layer}.{d}.{name}": tensor for name, tensor in (shared | own).items()}
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
    return _filled(stack, tensors, read("rnn_lst.0.bias", 1).dtype)


def _pattern(sees: list[bool], read: _Reader) -> tuple[int, int]:
    """Return attention_every and attention_from of layers that have attention or not."""
    layers = len(sees)
    for every in range(1, layers + 2):
        for start in range(layers):
            if sees == [layer >= start and (layer + 1) % every == 0 for layer in range(layers)]:
                return every, start
    raise read.error(
        f"linear3.weight in every so many layers from one on, found it in layers "
        f"{[layer for layer, has in enumerate(sees) if has]}",
        "check the file",
    )


def _filled(stack: Stack, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Stack:
    stack = stack.to(dtype)
    stack.load_state_dict(dict(tensors))
    return stack


class _Reader:
    """Tensors of a state dictionary by key, with an error that names the key."""

    def __init__(self, name: str, state_dict: Mapping[str, Tensor]) -> None:
        self.name = name
        self.tensors = state_dict

    def __call__(self, key: str, axes: int) -> Tensor:
        if key not in self.tensors:
            found = ", ".join(map(repr, list(self.tensors)[:4])) or "nothing"
            raise self.error(
                f"{key}, found {found}{' and others' if len(self.tensors) > 4 else ''}",
                "pass the whole state dictionary of the module itself, without a larger one's prefix",
            )
        if self.tensors[key].dim() != axes:
            raise self.error(
                f"{key} with {axes} axes, found shape {tuple(self.tensors[key].shape)}", "check the file"
            )
        return self.tensors[key]

    def shaped(self, key: str, shape: tuple[int | None, ...]) -> Tensor:
        """Return a tensor of this shape; None is any size."""
        tensor = self(key, len(shape))
        if any(wanted not in (None, size) for wanted, size in zip(shape, tensor.shape)):
            raise self.error(
                f"{key} of shape {shape}, found {tuple(tensor.shape)}",
                "check the file, and that the arguments are those it was trained with",
            )
        return tensor

    def matched(self, match: Callable, needed: str) -> list:
        """Return the match of every key; `needed` has to be among them, and no other key."""
        found = {key: match(key) for key in self.tensors}
        if needed in self.tensors:
            unknown = [key for key, match in found.items() if not match]
            if unknown:
                raise self.error(
                    f"the keys of such a module, found also {unknown[0]!r}",
                    "remove it; what it stands for has no counterpart here",
                )
        else:
            self(needed, 0)
        return list(found.values())

    def error(self, expected: str, do: str) -> ValueError:
        """Return the error that says what was expected."""
        return ValueError(f"{self.name}: expected {expected}; {do}.")
