"""The fast sort of rows has the values and the gradient of torch's sort."""

import pytest
import torch

from gramophone_server.engine.kernels import sorting
from gramophone_server.engine.kernels.sorting import sort_rows


def values(*shape: int) -> torch.Tensor:
    """Random values of both signs with duplicates, zeros of both signs and extremes."""
    found = torch.randn(shape, generator=torch.Generator().manual_seed(0)).mul(100).round().div(100)
    found.flatten()[:4] = torch.tensor([0.0, -0.0, 3e38, -3e38])
    return found


@pytest.mark.parametrize("chunk", [1, 1 << 20])
@pytest.mark.parametrize("shape", [(2, 3, 257), (5, 1), (1, 64)])
def test_values_and_gradient_are_those_of_torch(shape, chunk, monkeypatch):
    monkeypatch.setattr(sorting, "_CHUNK", chunk)
    weight = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    fast, plain = (values(*shape).requires_grad_() for _ in range(2))
    (got, order), expected = sort_rows(fast), plain.sort(dim=-1, stable=True).values
    assert torch.equal(got, expected)
    assert torch.equal(fast.gather(-1, order.long()), got)
    (got * weight).sum().backward()
    (expected * weight).sum().backward()
    # Zeros of both signs are equal for torch only.
    other = values(*shape) != 0
    assert fast.grad is not None and plain.grad is not None
    assert torch.equal(fast.grad[other], plain.grad[other])


def test_rows_that_are_not_contiguous_are_sorted():
    turned = values(7, 5).T
    assert torch.equal(sort_rows(turned)[0], turned.sort(dim=-1).values)


def test_other_types_are_sorted_by_torch():
    wide = values(3, 9).double()
    assert torch.equal(sort_rows(wide)[0], wide.sort(dim=-1).values)


def test_values_that_are_not_numbers_stay_and_nothing_fails():
    broken = torch.tensor([[1.0, float("nan"), -1.0, float("inf")]])
    got, _ = sort_rows(broken)
    assert got.isnan().sum() == 1
    assert got[0, :3].tolist() == [-1.0, 1.0, float("inf")]
