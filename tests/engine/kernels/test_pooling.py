"""Max pooling with ReLU, compared bit by bit with torch's own operations."""

import pytest
import torch
from torch.nn import functional as F

from gramophone_server.engine.kernels.pooling import max_pool


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    "window", [(2, 2, 0, False), (2, 2, 0, True), (3, 2, 0, True), (3, 3, 0, False), (3, 2, 1, False)]
)
@pytest.mark.parametrize("shape", [(1, 8, 12, 18), (1, 3, 4, 4), (2, 16, 12, 7), (3, 5, 9, 11), (1, 4, 6, 3)])
def test_values_and_gradients_are_those_of_torch(shape, window, relu, memory, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=memory)
    side, stride, padding, ceil = window
    own, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    made = max_pool(own, side, stride, padding, ceil=ceil, relu=relu)
    expected = F.max_pool2d(other, side, stride, padding, ceil_mode=ceil)
    expected = expected.relu() if relu else expected
    assert torch.equal(made, expected)
    slope = torch.randn(expected.shape, generator=generator).to(dtype).contiguous(memory_format=memory)
    made.backward(slope.clone())
    expected.backward(slope.clone())
    assert own.grad is not None and other.grad is not None
    assert torch.equal(own.grad, other.grad)


def test_maps_with_channels_last_keep_their_memory_format():
    x = torch.randn(1, 8, 12, 18).contiguous(memory_format=torch.channels_last).requires_grad_()
    made = max_pool(x, 2, 2, 0, ceil=False, relu=True)
    made.sum().backward()
    assert x.grad is not None
    assert all(t.is_contiguous(memory_format=torch.channels_last) for t in (made, x.grad))
