"""Launch scans on a driver that records, and print what it was asked for.

A program of its own, run by test_cuda_driver.py: the driver has to be in place before anything looks for one,
and what zero means to it is an environment variable. Torch is a CPU build, so what it would know of devices
and streams is told here as CUDA's runtime defines it: the current device is that of the thread's context.
"""

import contextlib
import ctypes
import json
import threading

import recording_driver
import torch

from seqsru.errors import Refused
from seqsru.ops import cuda, cuda_launch, dlpack
from seqsru.ops.calls import LAYOUTS, LinearForward

driver = recording_driver.install()  # nothing has looked for one yet
STREAMS = {0: 0, 1: 0x1110}
lies_on, capturing = 0, set()  # devices, of which the latter capture on their current streams


@contextlib.contextmanager
def device(index):
    """Do what torch.cuda.device does with cudaSetDevice."""
    before = driver.current()
    if (before or 0) != index:
        driver.bind(index)
    try:
        yield
    finally:
        if driver.current() != before:
            driver.bind(before or 0)


def pretend():
    """Take CPU tensors for ones on device `lies_on`."""
    cuda_launch.CUDA = dlpack.CPU
    cuda_launch.place = lambda tensor: (dlpack.CPU, lies_on)
    cuda_launch.machine_code = lambda call, *_: (call.__name__, b"\x7fELF" + bytes(200))
    torch.cuda.device = device
    torch.cuda.current_device = lambda: driver.current() or 0
    torch.cuda.get_device_capability = lambda index: (9, 0)
    torch.cuda.is_current_stream_capturing = lambda: (driver.current() or 0) in capturing
    torch._C._cuda_getCurrentRawStream = lambda index: STREAMS[index]
    widths = {"size": ctypes.c_int64, "code": ctypes.c_int32, "real": ctypes.c_float}
    types = [widths.get(kind, ctypes.c_uint64) for kind in LAYOUTS[LinearForward].kinds]
    driver.signatures["LinearForward"] = [*types, ctypes.c_int64]


def scan(dtype=torch.float32):
    """Run a forward scan; return its launch."""
    a, c0 = torch.zeros(5, 3, 50, dtype=dtype), torch.zeros(3, 50, dtype=max(dtype, torch.float32, key=width))
    out, c_last, _ = cuda.linear_forward(a, a, c0, None, False)
    launch = driver.launches.pop()
    given = dict(zip((*LinearForward._fields, "span"), launch.arguments, strict=True))
    right = {"a": a, "b": a, "c0": c0, "out": out, "c_last": c_last}
    right = {name: tensor.data_ptr() for name, tensor in right.items()}
    right |= {"valid": 0, "c": 0, "T": 5, "B": 3, "D": 50, "span": 5}
    return {**launch._asdict(), "arguments": None, "right": given == right, "after": driver.current()}


def width(dtype):
    return torch.empty(0, dtype=dtype).element_size()


def in_a_thread_without_context():
    found = []
    thread = threading.Thread(target=lambda: found.append(scan()))
    thread.start()
    thread.join()
    return found[0]


def refusal(run):
    try:
        run()
    except Refused as error:
        return str(error)


if __name__ == "__main__":
    pretend()
    report = {"default stream": scan()}
    STREAMS[0] = 0x2220
    report["another stream"] = scan()
    STREAMS[0] = 0x3330
    report["a third"] = scan()
    report["no context"] = in_a_thread_without_context()
    capturing = {0}
    report["in a capture"] = scan()
    report["first use in a capture"] = refusal(lambda: scan(torch.float64))
    lies_on, capturing = 1, {1}
    report["first use on another device in a capture"] = refusal(scan)
    capturing = set()
    report["another device"] = scan()
    lies_on = 0
    report["back"] = scan()
    capturing, lies_on = {1}, 1
    report["another device in a capture"] = scan()
    print(json.dumps(report))
