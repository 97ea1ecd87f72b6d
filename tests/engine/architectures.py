"""Random architectures for hypothesis, with weights, and plain torch modules that compute them."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Operation, Pooling, Sum, Window

Weights = dict[str, tuple[np.ndarray, np.ndarray]]

windows = st.builds(
    Window,
    side=st.integers(1, 5),
    stride=st.integers(1, 3),
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    dilation=st.integers(1, 2),
)
poolings = st.builds(
    lambda side, stride, pad, ceil: Window(side, stride, min(pad, side // 2), min(pad, side // 2), ceil=ceil),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
).filter(lambda window: not window.has_empty_places)


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    """Draws a network of two to six operations with odd windows, groups, poolings and sums."""
    operations: list[Operation] = [Convolution("c0", INPUT, 3, 4, draw(windows), relu=draw(st.booleans()))]
    for number in range(1, draw(st.integers(2, 6))):
        last = operations[-1].name
        kind = draw(st.sampled_from(["convolution", "pooling", "sum"]))
        if kind == "convolution":
            relu, groups = draw(st.booleans()), draw(st.sampled_from([1, 2, 4]))
            operations.append(Convolution(f"c{number}", last, 4, 4, draw(windows), groups, relu))
        elif kind == "pooling":
            operations.append(Pooling(f"p{number}", last, 4, draw(poolings)))
        else:
            side = draw(st.sampled_from([1, 3, 5]))
            branch = Convolution(f"b{number}", last, 4, 4, Window(side, 1, side // 2, side // 2), relu=False)
            order = draw(st.permutations([last, branch.name]))
            operations += [branch, Sum(f"s{number}", (order[0], order[1]), 4, draw(st.booleans()))]
    return Architecture(tuple(operations))


def random_weights(architecture: Architecture, seed: int = 0) -> Weights:
    """Returns random weights, float64, that keep the magnitude of activations."""
    rng = np.random.default_rng(seed)
    return {
        c.name: (
            rng.normal(0, (2 / c.taps) ** 0.5, (c.outputs, c.inputs // c.groups, c.window.side, c.window.side)),
            rng.normal(0, 0.1, c.outputs),
        )
        for c in architecture.convolutions
    }


def plain_features(
    architecture: Architecture, weights: Weights, x: Tensor, pool: str = "max", padding: str = "zeros"
) -> dict[str, Tensor]:
    """Returns all feature maps of preprocessed pictures x (N, 3, H, W), computed by torch's functions.

    Args:
        padding: "zeros", "replicate" or "circular" along both axes.
    """
    maps = {INPUT: x}
    for operation in architecture.operations:
        match operation:
            case Convolution():
                kernel, bias = (torch.from_numpy(part).to(x.dtype) for part in weights[operation.name])
                window = operation.window
                y = _padded(maps[operation.source], window, padding)
                y = F.conv2d(y, kernel, bias, window.stride, 0, window.dilation, operation.groups)
            case Pooling():
                window, y = operation.window, maps[operation.source]
                if padding != "zeros":
                    y, window = _padded(y, window, padding), replace(window, before=0, after=0)
                y = _pooled(y, window, pool)
            case Sum():
                y = maps[operation.sources[0]] + maps[operation.sources[1]]
        maps[operation.name] = y if isinstance(operation, Pooling) or not operation.relu else y.relu()
    return maps


def _pooled(x: Tensor, window: Window, pool: str) -> Tensor:
    options: dict[str, Any] = {"padding": window.before, "ceil_mode": window.ceil}
    if pool == "max":
        return F.max_pool2d(x, window.side, window.stride, **options)
    return F.avg_pool2d(x, window.side, window.stride, count_include_pad=False, **options)


def _padded(x: Tensor, window: Window, padding: str) -> Tensor:
    if padding == "zeros":
        return F.pad(x, (window.before, window.after, window.before, window.after))
    for axis in (2, 3):
        places = torch.arange(-window.before, x.shape[axis] + window.after)
        places = places.remainder(x.shape[axis]) if padding == "circular" else places.clamp(0, x.shape[axis] - 1)
        x = x.index_select(axis, places)
    return x
