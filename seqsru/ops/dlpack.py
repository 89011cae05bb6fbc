"""What a tensor's DLPack capsule says: where its elements lie, on which device, their type and shape.

DLPack is the exchange format of array libraries (https://dmlc.github.io/dlpack): a C structure in a Python
capsule named ``dltensor``. The kernels take raw pointers, and reading the structure here takes less time than
handing the tensor to a consumer of DLPack. Reading is not consuming: the capsule stays the tensor's and frees
itself, and no stream waits for another.
"""

from __future__ import annotations

import ctypes
import struct

import torch
from torch.utils.dlpack import to_dlpack  # type: ignore[attr-defined]

CPU, CUDA = 1, 2  # DLPack's numbers of device types
_DTYPES = {
    (2, 64): torch.float64,
    (2, 32): torch.float32,
    (2, 16): torch.float16,
    (4, 16): torch.bfloat16,
    (6, 8): torch.bool,
    (0, 64): torch.int64,
}


class _Header(ctypes.Structure):
    """``DLTensor`` of dlpack.h, the first member of ``DLManagedTensor``."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_Start = ctypes.c_char * _Header.ndim.offset
_start = struct.Struct("Pii")


def place(tensor: torch.Tensor) -> tuple[int, int]:
    """Return the device type of a tensor, one of DLPack's numbers, and which device of that type.

    This is what `Buffer` says, in half the time.
    """
    capsule = to_dlpack(tensor)  # owns the header
    _, device_type, index = _start.unpack_from(_Start.from_address(_capsule_pointer(capsule, b"dltensor")))
    return device_type, index


class Buffer:
    """The memory of one tensor, for as long as the tensor lives.

    Attributes
    ----------
    pointer : int
        Address of the first element, 0 for a tensor without elements.
    device_type : int
        `CPU`, `CUDA`, or another of DLPack's numbers.
    device_index : int
        Which device of that type.
    """

    __slots__ = ("_capsule", "_header", "pointer", "device_type", "device_index")

    def __init__(self, tensor: torch.Tensor) -> None:
        self._capsule = to_dlpack(tensor)  # owns the header
        header = self._header = _Header.from_address(_capsule_pointer(self._capsule, b"dltensor"))
        self.pointer = (header.data or 0) + header.byte_offset
        self.device_type = header.device_type
        self.device_index = header.device_id

    @property
    def dtype(self) -> torch.dtype:
        """Type of the elements; KeyError for one that no kernel takes."""
        return _DTYPES[self._header.code, self._header.bits]

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each axis."""
        return tuple(self._header.shape[: self._header.ndim])

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements from one index to the next, for each axis."""
        return tuple(self._header.strides[: self._header.ndim])
