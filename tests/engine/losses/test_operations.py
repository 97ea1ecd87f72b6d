"""The operations that the style losses state are those that torch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from gramophone_server.engine.losses import Layer, LayerView, style_loss, style_losses
from gramophone_server.engine.losses.sliced_wasserstein import _DIRECTIONS, _SORT

CHANNELS, SIDE, STYLE_SIDE = 8, 12, 15
SORTED = _DIRECTIONS * CHANNELS * SIDE**2
# On a CPU, symmetric products of float32 skip 6 of 16 blocks, which the stated operations contain.
SKIPPED = 2 * CHANNELS**2 * SIDE**2 * 6 / 16


@pytest.mark.parametrize("name", sorted(style_losses()))
def test_operations_are_the_products_that_torch_counts_and_the_sort(name):
    loss, layer = style_loss(name), Layer(SIDE, SIDE)
    features = torch.rand(1, CHANNELS, SIDE, SIDE).requires_grad_()
    style = torch.rand(CHANNELS, STYLE_SIDE, STYLE_SIDE).numpy()
    target = torch.from_numpy(loss.target(style, 1 / STYLE_SIDE**2))[None]
    view = LayerView(layer, features, None, slice(None), slice(None), 1 / SIDE**2)
    with FlopCounterMode(display=False) as counter:
        loss.value(loss.statistic(view, target)[1], target, layer).sum().backward()
    sort = {"sliced_wasserstein": SORTED * _SORT * torch.log2(torch.tensor(SIDE**2 + 1.0)).item()}.get(name, 0)
    skipped = SKIPPED if name in ("gram", "mean_covariance") else 0
    stated = loss.operations(CHANNELS, SIDE**2, STYLE_SIDE**2)
    assert stated == pytest.approx(counter.get_total_flops() + skipped + sort)
