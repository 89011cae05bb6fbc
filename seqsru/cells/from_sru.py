"""Reading the weights of the `sru` package, every release but SRU++; and what its SRU++ shares with it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from seqsru.cells.state_dicts import (
    check_nothing_left,
    check_shape,
    missing,
    refused,
)
from seqsru.errors import Refused

INPUT_KEY = "input_to_hidden.weight"
_LAYER_KEY = re.compile(r"rnn_lst\.(\d+)\.(.+)")
_NORM_KEY = re.compile(r"ln_lst\.(\d+)\.([ab])")
_SRUPP_KEY = re.compile(r"rnn_lst\.\d+\.(custom_m\..+|transform_module\.(linear\d|alpha|layer_norm).*)")
_FIELDS = (
    "weight",
    "weight_proj",
    "weight_c",
    "bias",
    "scale_x",
    "gain",
    "layer_norm.weight",
    "layer_norm.bias",
)
_TRANSPOSED = {
    "transform_module.weight": "weight",
    "transform_module.1.weight": "weight",
    "transform_module.0.weight": "weight_proj",
}
_TOGETHER = (
    ("weight", "bias"),
    ("weight_c", "scale_x"),
    ("layer_norm.weight", "layer_norm.bias"),
    ("a", "b"),
)


def read_sru(
    state_dict: Mapping[str, Tensor],
    *,
    bidirectional: bool,
    use_tanh: bool | None,
    normalize_after: bool,
    has_skip_term: bool,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Translate a state dictionary of the `sru` package; `seqsru.SRU.from_sru_package` has the parameters.

    The package unpacks ``weight`` as (I, directions, D, k) and ``bias`` and ``weight_c`` as (2, directions,
    D). Its older LayerNorm, ``a (x - mean) / √(s + 1e-6) + b`` with s the variance times n/(n-1), is the
    usual one with weight a·√((n-1)/n) and epsilon 1e-6·(n-1)/n. Weight normalisation (``gain``, up to release
    2.1.7) is multiplied out, and so are projections that only some layers have. Version 1 is a dictionary
    whose ``weight_c`` are absent or all 0.

    Returns
    -------
    arguments : dict
        Of `seqsru.SRU`.
    tensors : dict of str to Tensor
        Its state dictionary.

    Raises
    ------
    Refused
        A key that is unknown or missing, a tensor of another shape, an argument that contradicts them.
    """
    layers, names = _sort(state_dict)
    out = layers[0]["bias"].numel() // 2
    dirs = directions(out, bidirectional)
    first = state_dict.get(INPUT_KEY)
    if first is not None:
        check_shape(INPUT_KEY, first.shape, (out, "I"))
    for index, (layer, name) in enumerate(zip(layers, names)):
        size = None if index == 0 and first is None else out
        _check(layer, name, size, out, normalize_after, has_skip_term)
    if normalize_after and not layers[0].keys() & {"layer_norm.weight", "a"}:
        raise without_norm()

    ranks = {layer["weight_proj"].shape[1] if "weight_proj" in layer else 0 for layer in layers}
    if len(ranks) > 1:
        for layer in layers:
            if "weight_proj" in layer:
                layer["weight"] = layer.pop("weight_proj").double() @ layer["weight"].double()
        ranks = {0}
    version = 2 if any("weight_c" in layer and layer["weight_c"].any() for layer in layers) else 1
    if use_tanh is None:
        use_tanh = "weight_c" not in layers[0]
    arguments = {
        "input_size": _input_size(layers[0]) if first is None else first.shape[1],
        "hidden_size": out // dirs,
        "num_layers": len(layers),
        "bidirectional": bidirectional,
        "version": version,
        "highway": "auto" if has_skip_term else "none",
        "activation": "tanh" if use_tanh else "identity",
        "layer_norm": "layer_norm.weight" in layers[0] and not normalize_after,
        "projection_size": ranks.pop(),
        "project_input": first is not None,
        "normalize_after": "a" in layers[0] or normalize_after,
        "norm_eps": 1e-6 * (out - 1) / out if "a" in layers[0] else None,
    }
    tensors = {} if first is None else {"stack.input_map.weight": first}
    for index, layer in enumerate(layers):
        tensors |= _translate(index, layer, dirs, version, normalize_after)
    return arguments, tensors


def _sort(state_dict: Mapping[str, Tensor]) -> tuple[list[dict[str, Tensor]], list[dict[str, str]]]:
    """Return each layer's tensors by field, one name for all releases, and the keys they were found under."""
    layers: dict[int, dict[str, Tensor]] = {}
    names: dict[int, dict[str, str]] = {}
    unknown = []
    for key, tensor in state_dict.items():
        layer_key, norm_key = _LAYER_KEY.fullmatch(key), _NORM_KEY.fullmatch(key)
        if _SRUPP_KEY.fullmatch(key):
            raise refused(
                "a checkpoint of SRU layers",
                f"{key!r}, which SRU++ and custom products have",
                "read one without them",
            )
        if layer_key and (layer_key[2] in _FIELDS or layer_key[2] in _TRANSPOSED):
            index, field = int(layer_key[1]), _TRANSPOSED.get(layer_key[2], layer_key[2])
            tensor = tensor.t() if layer_key[2] in _TRANSPOSED else tensor
        elif norm_key:
            index, field = int(norm_key[1]), norm_key[2]
        else:
            unknown += [key] if key != INPUT_KEY else []
            continue
        if field in layers.setdefault(index, {}):
            raise refused(f"one of {key} and {names[index][field]}", "both", "keep the one that was used")
        layers[index][field] = tensor
        names.setdefault(index, {})[field] = key
    if not layers:
        raise missing("keys that start with 'rnn_lst.0.'", state_dict)
    check_nothing_left(unknown)
    fields = {field for layer in layers.values() for field in layer}
    needed = {field for group in _TOGETHER if fields & set(group) for field in group} | {"weight", "bias"}
    for index in range(max(layers) + 1):
        for field in sorted(needed - layers.get(index, {}).keys()):
            key = f"ln_lst.{index}.{field}" if field in ("a", "b") else f"rnn_lst.{index}.{field}"
            raise missing(key, names.get(index, {}).values(), f"of layer {index}")
    return [layers[index] for index in range(len(layers))], [names[index] for index in range(len(layers))]


def _check(
    layer: dict[str, Tensor],
    names: dict[str, str],
    size: int | None,
    out: int,
    normalize_after: bool,
    has_skip_term: bool,
) -> None:
    """Check the shapes of one layer, which reads `size` features, or any number if that is None.

    Weight normalisation is multiplied out on the way.
    """
    matrix = "weight_proj" if "weight_proj" in layer else "weight"
    for field in {"weight", matrix}:
        check_shape(names[field], layer[field].shape, ("rows", "columns"))
    size = _input_size(layer) if size is None else size
    rows = layer["weight_proj"].shape[1] if "weight_proj" in layer else size
    columns, found = out * (4 if has_skip_term and size != out else 3), tuple(layer["weight"].shape)
    if size != out and found == (rows, out * (3 if has_skip_term else 4)):
        raise Refused(
            f"{names['weight']} with {columns} columns, the highway of {out} features from {size} "
            f"being {'one slice' if has_skip_term else 'left out'}",
            str(found[1]),
            f"pass has_skip_term={not has_skip_term} if it was trained so",
            "has_skip_term",
        )
    norm = (out if normalize_after else size,)
    shapes: dict[str, tuple[int, ...]] = {
        "weight_proj": (size, rows),
        "weight": (rows, columns),
        "bias": (2 * out,),
        "weight_c": (2 * out,),
        "scale_x": (1,),
        "gain": (columns,),
        "layer_norm.weight": norm,
        "layer_norm.bias": norm,
        "a": (out,),
        "b": (out,),
    }
    for field, shape in shapes.items():
        if field in layer:
            stored = slice(None, None, -1 if "transform_module" in names[field] else 1)  # transposed in 3.0
            check_shape(names[field], layer[field].shape[stored], shape[stored])
    if "a" in layer and out == 1:
        raise refused(
            f"more than one output where {names['a']} is given", "1", "leave it out, it did nothing"
        )
    if "gain" in layer:
        layer["weight"] = layer["weight"] * (layer.pop("gain") / layer["weight"].norm(2, 0))


def _translate(
    index: int,
    layer: dict[str, Tensor],
    dirs: int,
    version: int,
    normalize_after: bool,
) -> dict[str, Tensor]:
    """Return one layer's tensors under the names and in the layout of `seqsru.SRU`."""
    out = layer["bias"].numel() // 2
    norm = (layer["layer_norm.weight"], layer["layer_norm.bias"]) if "layer_norm.weight" in layer else None
    scale = float(layer["scale_x"]) if "scale_x" in layer else 1.0
    tensors: dict[str, Tensor] = {}
    for d in range(dirs):
        key = f"stack.layers.{index}.{d}"
        v = layer["weight_c"] if version == 2 else None
        tensors |= of_direction(d, dirs, key, layer["weight"].t(), layer["bias"], v, scale)
        if "weight_proj" in layer:
            tensors[f"{key}.projection"] = layer["weight_proj"].t()  # (P, I)
        if norm is not None and not normalize_after:
            tensors[f"{key}.layer_norm.weight"], tensors[f"{key}.layer_norm.bias"] = norm
    if "a" in layer:
        norm = layer["a"] * math.sqrt((out - 1) / out), layer["b"]
    if norm is not None and (normalize_after or "a" in layer):
        tensors[f"stack.norms.{index}.weight"], tensors[f"stack.norms.{index}.bias"] = norm
    return tensors


def _input_size(layer: dict[str, Tensor]) -> int:
    return layer["weight_proj" if "weight_proj" in layer else "weight"].shape[0]


def directions(outputs: int, bidirectional: bool) -> int:
    """Return the number of directions, which share the outputs of a layer."""
    if bidirectional and outputs % 2:
        raise Refused(
            "an even number of outputs for two directions",
            str(outputs),
            "pass bidirectional=False",
            "bidirectional",
        )
    return 2 if bidirectional else 1


def without_norm() -> Refused:
    """Return the refusal of a LayerNorm after the layers that the dictionary does not have."""
    return Refused(
        "rnn_lst.0.layer_norm.weight with normalize_after",
        "none",
        "pass normalize_after=False",
        "normalize_after",
    )


def of_direction(
    d: int, dirs: int, key: str, weight: Tensor, bias: Tensor, v: Tensor | None, scale: Tensor | float
) -> dict[str, Tensor]:
    """Return the tensors of one direction's recurrence under our names.

    The package has those of both directions in one: ``weight`` (directions·D·k, ·), ``bias`` and ``v``
    (2·directions·D,), rows and elements in this order.
    """
    D = bias.numel() // (2 * dirs)
    tensors = {
        "weight": weight.reshape(dirs, D, -1, weight.shape[1])[d].transpose(0, 1).flatten(0, 1),  # (k·D, ·)
        "bias": bias.view(2, dirs, D)[:, d],  # (2, D)
        "_extra_state": torch.tensor([float(scale)], dtype=torch.float64),
    }
    if v is not None:
        tensors["v"] = v.view(2, dirs, D)[:, d]  # (2, D)
    return {f"{key}.{name}": tensor for name, tensor in tensors.items()}
