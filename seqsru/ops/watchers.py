"""Whether somebody watches what torch computes, and so must be shown it.

A tracer, a compiler, an exporter, a mode, a transform of functions or a derivative taken forward learns what
was computed from torch's operators alone. So what works on the memory of tensors by itself may do so only
where nobody watches, and what decides by the number of rows or steps only where nobody records.

One decoding step asks these questions, so they are few and plain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import Parameter

_C: Any = torch._C  # torch has no types here
_modules: Any = nn.modules.module
_modes, _tracing, _transform = (
    _C._len_torch_dispatch_stack,
    _C._is_tracing,
    _C._functorch.peek_interpreter_stack,
)
_functions = _C._is_torch_function_mode_enabled
_key, _before_dispatch = _C._dispatch_tls_is_dispatch_key_included, _C.DispatchKey.PreDispatch


def recorded() -> bool:
    """Say whether a compiler, exporter, tracer, dispatch mode or transform of functions is at work.

    What it records may be run with other numbers of rows and steps.
    """
    return (
        torch.compiler.is_compiling()
        or _modes() > 0
        or _tracing()
        or _transform() is not None
        or _key(_before_dispatch)  # make_fx with pre_dispatch
    )


def transformed() -> bool:
    """Say whether a transform of `torch.func` or a derivative taken forward is at work, outside a compiler.

    These go through torch's own operators alone, so they are given the loops that define the results.
    """
    return not torch.compiler.is_compiling() and (_transform() is not None or forward_ad._current_level >= 0)


def traced() -> bool:
    """Say whether `torch.jit.trace` is at work: what it records runs with and without gradients."""
    return not torch.compiler.is_compiling() and bool(_tracing())


def hooked(module: nn.Module) -> bool:
    """Say whether Python is to be called at each call of this module, or at the gradients of its outputs."""
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return any(hooks) or bool(_modules._has_any_global_hook())


def watched(*tensors: Tensor | None) -> bool:
    """Say whether anything but the result is wanted of these tensors, by whoever records or otherwise.

    Fake tensors, subclasses and tensors of which torch keeps the negative want an operator as well: their
    memory does not hold their elements.
    """
    if recorded() or forward_ad._current_level >= 0 or _functions():
        return True
    for tensor in tensors:
        if tensor is not None:
            kind = type(tensor)
            if kind is Tensor:
                if tensor.is_neg() or tensor.is_meta:
                    return True
            elif kind is not Parameter:
                return True
    return False
