"""Curvature pairs compared with the two-loop recursion of L-BFGS in float64."""

import io
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.optimizers.curvature import CurvaturePairs, FixedPairs, Pairs

RATE = 0.8
Pair = tuple[Tensor, Tensor]


def recursion(gradient: Tensor, pairs: Sequence[Pair], scale: float) -> Tensor:
    """Algorithm 7.4 of Nocedal & Wright for one canvas, times RATE as in `CurvaturePairs.apply`."""
    q, alphas = gradient.double().clone(), []
    for s, y in reversed(pairs):
        alphas.append((s * q).sum() / (s * y).sum())
        q -= alphas[-1] * y
    r = RATE * scale * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        beta = (y * r).sum() / (s * y).sum()
        r += (RATE * alpha - beta) * s
    return r


def drawn(n: int, generator: torch.Generator, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Draws (steps, changes of the gradient as in a noisy quadratic, whether each canvas's pair is good)."""
    s = torch.randn(n, 3, *size, generator=generator)
    y = s * (0.5 + torch.rand(s.shape, generator=generator)) + 0.1 * torch.randn(s.shape, generator=generator)
    return s, y, torch.rand(n, generator=generator) < 0.8


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("most", [1, 4, 7])
@pytest.mark.parametrize("make", [CurvaturePairs, partial(CurvaturePairs, host=True), FixedPairs])
@pytest.mark.parametrize("size", [(4, 4), (5, 7)])
def test_apply_equals_the_two_loop_recursion(monkeypatch, block, most, make, size):
    """For any block size and any good pairs, before and after the oldest pairs are dropped."""
    monkeypatch.setattr("gramophone_server.engine.cost.PAIRS_BLOCK", 4 * 3 * size[0] * size[1] * block)
    generator = torch.Generator().manual_seed(most)
    pairs: Pairs = make(most)
    known: list[Any] = []
    for step in range(12):
        s, y, good = drawn(2, generator, size)
        pairs.add(s, y, good)
        known = [*known, (s.double(), y.double(), good)][-most:]
        if step == 8:
            lost = torch.tensor([True, False])
            pairs.forget(lost)
            known = [(s, y, good & ~lost) for s, y, good in known]
        assert len(pairs) == (most if make is FixedPairs else len(known))
        gradient = torch.randn(2, 3, *size, generator=generator)
        expected = [
            recursion(gradient[n], [(s[n], y[n]) for s, y, good in known if good[n]], scale=2.0) for n in range(2)
        ]
        got = pairs.apply(gradient.clone(), lambda q: 2.0 * RATE * q, RATE)
        torch.testing.assert_close(got.double(), torch.stack(expected), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("make", [CurvaturePairs, FixedPairs])
def test_apply_without_pairs_is_the_initial_scaling(make):
    gradient = torch.randn(2, 3, 4, 4)
    assert torch.equal(make(5).apply(gradient.clone(), lambda q: 3 * q, 1.0), 3 * gradient)


@pytest.mark.parametrize("make", [CurvaturePairs, FixedPairs])
def test_a_canvas_does_not_depend_on_its_batch(make):
    generator = torch.Generator().manual_seed(0)
    together, alone = make(3), make(3)
    for _ in range(5):
        s, y, good = drawn(4, generator, (6, 6))
        together.add(s, y, good)
        alone.add(s[2:3], y[2:3], good[2:3])
        gradient = torch.randn(4, 3, 6, 6, generator=generator)
        one = alone.apply(gradient[2:3].clone(), lambda q: q, RATE)
        assert torch.equal(together.apply(gradient.clone(), lambda q: q, RATE)[2:3], one)


@pytest.mark.parametrize("make", [CurvaturePairs, FixedPairs])
@pytest.mark.parametrize("block", [1, 2, 100])
def test_a_state_does_not_change_when_pairs_are_added(monkeypatch, block, make):
    """A state is written to a checkpoint while the optimization continues, so that no byte of it may change."""
    monkeypatch.setattr("gramophone_server.engine.cost.PAIRS_BLOCK", 4 * 3 * 4 * 4 * block)
    generator = torch.Generator().manual_seed(0)
    pairs = make(3)

    def add() -> None:
        pairs.add(*drawn(1, generator, (4, 4)))
        pairs.apply(torch.ones(1, 3, 4, 4), lambda q: q, 1.0)

    for _ in range(4):
        add()
    kept, gradient = pairs.state(), torch.randn(1, 3, 4, 4, generator=generator)
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    expected = pairs.apply(gradient.clone(), lambda q: q, 1.0)
    for _ in range(3):
        add()
    again = io.BytesIO()
    torch.save(kept, again)
    assert again.getvalue() == buffer.getvalue()
    loaded = make(3)
    loaded.load(kept)
    assert torch.equal(loaded.apply(gradient.clone(), lambda q: q, 1.0), expected)


def test_fixed_pairs_keep_their_memory():
    """A recording repeats its work on the same memory."""
    generator = torch.Generator().manual_seed(0)
    pairs = FixedPairs(3)
    pairs.add(*drawn(1, generator, (4, 4)))
    memory = [tensor.data_ptr() for tensor in (pairs._s, pairs._y, pairs._places, pairs._products, pairs._good)]
    for _ in range(5):
        pairs.add(*drawn(1, generator, (4, 4)))
        pairs.apply(torch.ones(1, 3, 4, 4), lambda q: q, 1.0)
        pairs.forget(torch.tensor([False]))
    after = [tensor.data_ptr() for tensor in (pairs._s, pairs._y, pairs._places, pairs._products, pairs._good)]
    assert after == memory
