"""What the DLPack capsule of a tensor says, against what torch says."""

import pytest
import torch

from seqsru.ops.dlpack import CPU, Buffer


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool])
def test_reads_pointer_type_shape_and_device(dtype):
    wide = torch.ones(3, 4, 10, dtype=dtype)
    for tensor in (wide, wide[1:, :, 2:7], wide[:, 0]):
        buffer = Buffer(tensor)
        assert buffer.pointer == tensor.data_ptr()
        assert buffer.dtype == dtype
        assert buffer.shape == tuple(tensor.shape)
        assert buffer.strides == tensor.stride()
        assert (buffer.device_type, buffer.device_index) == (CPU, 0)


def test_an_empty_tensor_has_no_address():
    buffer = Buffer(torch.empty(0, 3))
    assert buffer.pointer == 0
    assert buffer.shape == (0, 3)


def test_reading_keeps_nothing_alive_and_consumes_nothing():
    tensor = torch.arange(6.0)
    for _ in range(3):
        assert Buffer(tensor).pointer == tensor.data_ptr()
    assert torch.equal(torch.from_dlpack(tensor), tensor)


def test_a_tensor_that_requires_grad_can_be_read():
    tensor = torch.ones(2, requires_grad=True)
    assert Buffer(tensor).pointer == tensor.data_ptr()


def test_a_type_no_kernel_takes_is_an_error():
    with pytest.raises(KeyError):
        _ = Buffer(torch.ones(2, dtype=torch.int32)).dtype
