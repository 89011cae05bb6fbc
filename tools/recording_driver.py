"""A driver for CUDA that computes nothing and remembers what it was asked to launch.

`install` puts it in the place of ``libcuda.so.1`` for this process, before anything has asked for that. So
cuda.core, cuda.bindings and numba-cuda run as they are, down to the call that would start a kernel: a test
sees the stream, the context and every argument of a launch, and a benchmark the time that it takes a host.
It needs no compiler: the library is 400 bytes of ELF with one function, which jumps to Python. Linux on
x86-64 only (`AVAILABLE`).
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

AVAILABLE = sys.platform == "linux" and platform.machine() == "x86_64"
DEVICES, CAPABILITY, MULTIPROCESSORS = 2, (9, 0), 132
CONTEXTS = 0x1000  # the address that stands for the primary context of device 0; those of others follow
LEGACY, PER_THREAD = 1, 2  # the two streams that have numbers instead of addresses
_PER_THREAD_FLAG = 2  # of cuGetProcAddress: give the variant for which stream 0 is the thread's own
_NOTHING = 0  # offset in the code of a function that returns 0, "success"


class Launch(NamedTuple):
    """One kernel that was started.

    Attributes
    ----------
    name : str
        Of the kernel.
    device : int or None
        Whose context was current in the thread.
    stream : int
        `LEGACY` or `PER_THREAD` where 0 was given, depending on what 0 means to the caller; else as given.
    blocks, threads : int
    arguments : tuple
        By the types that `RecordingDriver.signatures` has for the name; empty for a name it does not have.
    loaded_in : int or None
        Device whose context was current when the kernel's code was loaded.
    """

    name: str
    device: int | None
    stream: int
    blocks: int
    threads: int
    arguments: tuple[Any, ...]
    loaded_in: int | None


class _Configuration(ctypes.Structure):
    """``CUlaunchConfig`` of cuda.h."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("count", ctypes.c_uint),
    ]


class RecordingDriver:
    """What was launched so far, and what is needed to read it.

    Attributes
    ----------
    launches : list of Launch
        In order; clear it at will.
    signatures : dict of str to list of ctypes types
        Of the kernels whose arguments are to be read, by name.
    wanted : list of str
        Functions that were asked for.
    """

    def __init__(self, recording: bool) -> None:
        self.launches: list[Launch] = []
        self.signatures: dict[str, list[Any]] = {}
        self.wanted: list[str] = []
        self._recording, self._handles = recording, 0x5000
        self._kernels: dict[int, tuple[str, int | None]] = {}
        self._contexts: dict[int, list[int]] = {}  # of each thread, the last being current
        self._kept: list[Any] = []  # callbacks live as long as the process
        self._nothing = 0

    def current(self) -> int | None:
        """Return the device whose context is current in this thread."""
        stack = self._stack()
        return stack[-1] - CONTEXTS if stack and stack[-1] else None

    def bind(self, device: int) -> None:
        """Make the context of a device this thread's, as cudaSetDevice does."""
        self._enter(CONTEXTS + device, False)

    def _enter(self, context: int | None, push: bool) -> int:
        stack = self._stack()
        if not push:
            del stack[-1:]
        stack.append(context or 0)
        return 0

    def _stack(self) -> list[int]:
        return self._contexts.setdefault(threading.get_ident(), [])

    def _new(self, place: Any) -> int:
        self._handles += 16
        place[0] = self._handles
        return self._handles

    def _address(self, function: Callable[..., int], *types: Any) -> int:
        callback = ctypes.CFUNCTYPE(ctypes.c_int, *types)(function)
        self._kept.append(callback)
        return ctypes.cast(callback, ctypes.c_void_p).value or 0

    def _find(self, name: bytes, place: Any, version: int, flags: int, status: Any) -> int:
        """Stand for cuGetProcAddress: what is not written here succeeds and does nothing."""
        wanted = name.decode()
        self.wanted.append(wanted)
        written = self._functions(flags).get(wanted)
        place[0] = self._nothing if written is None else self._address(*written)
        if status:
            status[0] = 0
        return 0

    def _functions(self, flags: int) -> dict[str, tuple[Any, ...]]:
        """Give the functions that have results, with the types of their arguments."""
        pointer, number = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
        attributes = {75: CAPABILITY[0], 76: CAPABILITY[1], 16: MULTIPROCESSORS}

        def put(place: Any, value: int) -> int:
            place[0] = value
            return 0

        def leave(place: Any) -> int:
            left = self._stack().pop()
            if place:
                place[0] = left
            return 0

        def of_library(place: Any, library: int, name: bytes) -> int:
            self._kernels[self._new(place)] = name.decode(), self.current()
            return 0

        def same(place: Any, kernel: int) -> int:
            handle = self._new(place)
            self._kernels[handle] = self._kernels[kernel]
            return 0

        def launch(kernel: int, blocks: int, threads: int, stream: int | None, given: Any) -> int:
            name, loaded_in = self._kernels[kernel]
            types = self.signatures.get(name, ())
            values = tuple(kind.from_address(given[i]).value for i, kind in enumerate(types))
            default = PER_THREAD if flags & _PER_THREAD_FLAG else LEGACY
            self.launches.append(
                Launch(name, self.current(), stream or default, blocks, threads, values, loaded_in)
            )
            return 0

        handle, size = ctypes.c_void_p, ctypes.c_uint
        functions = {
            "cuGetProcAddress": (self._find, *_FIND),
            "cuDriverGetVersion": (lambda place: put(place, 13000), number),
            "cuDeviceGetCount": (lambda place: put(place, DEVICES), number),
            "cuDeviceGet": (put, number, ctypes.c_int),
            "cuDeviceGetAttribute": (
                lambda place, which, _: put(place, attributes.get(which, 1)),
                number,
                ctypes.c_int,
                ctypes.c_int,
            ),
            "cuDevicePrimaryCtxRetain": (
                lambda place, device: put(place, CONTEXTS + device),
                pointer,
                ctypes.c_int,
            ),
            "cuCtxGetCurrent": (lambda place: put(place, (self._stack() or [0])[-1]), pointer),
            "cuCtxGetDevice": (lambda place: put(place, self.current() or 0), number),
            "cuCtxSetCurrent": (lambda context: self._enter(context, False), handle),
            "cuCtxPushCurrent": (lambda context: self._enter(context, True), handle),
            "cuCtxPopCurrent": (leave, pointer),
            "cuLibraryLoadData": (
                lambda place, *_: put(place, self._new(place)),
                pointer,
                *(handle,) * 3,
                size,
                *(handle,) * 2,
                size,
            ),
            "cuLibraryGetKernel": (of_library, pointer, handle, ctypes.c_char_p),
            "cuKernelGetFunction": (same, pointer, handle),
            "cuModuleLoadDataEx": (
                lambda place, *_: put(place, self._new(place)),
                pointer,
                handle,
                size,
                handle,
                handle,
            ),
            "cuModuleGetFunction": (of_library, pointer, handle, ctypes.c_char_p),
        }
        if self._recording:
            functions["cuLaunchKernel"] = (
                lambda f, x, y, z, a, b, c, shared, stream, given, extra: launch(
                    f, x * y * z, a * b * c, stream, given
                ),
                handle,
                *(size,) * 7,
                handle,
                pointer,
                handle,
            )
            functions["cuLaunchKernelEx"] = (
                lambda how, f, given, extra: launch(
                    f,
                    how[0].grid[0] * how[0].grid[1] * how[0].grid[2],
                    how[0].block[0] * how[0].block[1] * how[0].block[2],
                    how[0].stream,
                    given,
                ),
                ctypes.POINTER(_Configuration),
                handle,
                pointer,
                handle,
            )
        return functions


_INSTALLED: list[RecordingDriver] = []  # what the library calls is to live as long as the process
_FIND = (
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_int,
    ctypes.c_uint64,
    ctypes.POINTER(ctypes.c_int),
)


def install(recording: bool = True) -> RecordingDriver:
    """Make this process find the recording driver where it looks for the real one.

    Parameters
    ----------
    recording : bool
        False gives every launch to a function of two instructions instead, so that the time is the caller's.

    Returns
    -------
    RecordingDriver
        There is one a process, and it stays: call this before anything else asks for a driver.
    """
    if not AVAILABLE:
        raise RuntimeError("the recording driver is written for Linux on x86-64")
    driver = RecordingDriver(recording)
    find = driver._address(driver._find, *_FIND)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "libcuda.so.1")
        path.write_bytes(_library(find))
        library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    driver._kept.append(library)
    _INSTALLED.append(driver)
    driver._nothing = ctypes.cast(library.nothing, ctypes.c_void_p).value or 0
    return driver


def _library(find: int) -> bytes:
    """Write an ELF library whose cuGetProcAddress_v2 jumps to an address, and whose `nothing` returns 0.

    Its soname is that of the driver, so that the loader takes it for the driver from then on.
    """
    nothing = b"\x31\xc0\xc3"  # xor eax, eax; ret
    jump = b"\x48\xb8" + struct.pack("<Q", find) + b"\xff\xe0"  # mov rax, find; jmp rax
    names = b"\0libcuda.so.1\0cuGetProcAddress_v2\0nothing\0"
    header, segment, symbol, entry = 64, 56, 24, 16
    code_at = header + 2 * segment
    text = nothing.ljust(8, b"\0") + jump
    names_at = code_at + len(text)
    symbols_at = -(-(names_at + len(names)) // 8) * 8
    hash_at = symbols_at + 3 * symbol
    dynamic_at = -(-(hash_at + 4 * 6) // 8) * 8
    total = dynamic_at + 7 * entry

    def symbol_at(name: bytes, value: int) -> bytes:
        return struct.pack("<IBBHQQ", names.index(name), 0x12, 0, 1, value, 8)  # global function

    symbols = bytes(symbol) + symbol_at(b"cuGetProcAddress_v2", code_at + 8) + symbol_at(b"nothing", code_at)
    hashes = struct.pack("<6I", 1, 3, 1, 0, 2, 0)  # one bucket: symbol 1, then 2
    dynamic = b"".join(
        struct.pack("<QQ", tag, value)
        for tag, value in (
            (14, names.index(b"libcuda.so.1")),  # DT_SONAME
            (4, hash_at),  # DT_HASH
            (5, names_at),  # DT_STRTAB
            (6, symbols_at),  # DT_SYMTAB
            (10, len(names)),  # DT_STRSZ
            (11, symbol),  # DT_SYMENT
            (0, 0),
        )
    )
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    begin = ident + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, header, 0, 0, header, segment, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, total, total, 4096)
    where = struct.pack("<IIQQQQQQ", 2, 6, dynamic_at, dynamic_at, dynamic_at, len(dynamic), len(dynamic), 8)
    file = bytearray(total)
    for place, part in (
        (0, begin + load + where),
        (code_at, text),
        (names_at, names),
        (symbols_at, symbols),
        (hash_at, hashes),
        (dynamic_at, dynamic),
    ):
        file[place : place + len(part)] = part
    return bytes(file)
