"""Converts weights to a model in a store, with a check that ONNX Runtime and torch compute the same features."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Pooling, Sum
from gramophone_server.models.graph import Parameters, build_graph
from gramophone_server.models.layers import CONTENT_LAYERS, STYLE_LAYERS, LossScaleName, PoolingName
from gramophone_server.models.manifest import LBFGS_HISTORY, Layer, Manifest, Preprocessing
from gramophone_server.models.model import Model
from gramophone_server.models.store import write_model

TOLERANCE = 1e-4
"""Maximum relative error of a layer, ONNX Runtime against torch, for a model to be accepted."""
SIZES = ((64, 64), (97, 131), (48, 112))
"""Heights and widths of the comparison; some are odd, because pooling drops the odd row."""


class ParityError(Exception):
    """ONNX Runtime and torch disagree on a model."""


def convert(
    root: Path,
    network: Parameters,
    *,
    name: str,
    preprocessing: Preprocessing,
    description: str,
    source: str,
    license: str,
    layers: Sequence[str] = (),
    pooling: PoolingName = "max",
    half: bool = False,
    loss_scale: LossScaleName = "paper",
    lbfgs_history: int = LBFGS_HISTORY,
    tv_weight: float = 0.0,
    style_layers: Sequence[str] = (),
    content_layers: Sequence[str] = (),
) -> Model:
    """Writes a model into a folder of models and returns it.

    Args:
        root: the folder of models.
        network: the network with its weights.
        name: name of the model.
        preprocessing: the preprocessing that the network expects.
        description: one sentence for users.
        source: origin of the weights.
        license: license of the weights.
        layers: names of the layers that requests can use; empty for all.
        pooling: default pooling of the model.
        half: store the weights as float16.
        loss_scale: default loss scale of the model.
        lbfgs_history: default number of curvature pairs of the model.
        tv_weight: default weight of the total variation for jobs with content.
        style_layers, content_layers: default layers of the model; empty for `default_layers`.

    Raises:
        ParityError: ONNX Runtime and torch differ by more than TOLERANCE at a layer.
        ValueError: the name cannot be used.
    """
    if half:
        # Round first: the comparison must use the stored weights.
        network = _rounded(network)
    graph = build_graph(network, half=half)
    parity = measure_parity(graph, network, preprocessing)
    worst = max(parity, key=lambda layer: parity[layer])
    if not parity[worst] <= TOLERANCE:
        raise ParityError(
            f"ONNX Runtime and torch differ by {parity[worst]:.1e} at {worst}, which is more than {TOLERANCE:g}; "
            "the model was not written"
        )
    offered = tuple(layers) or tuple(network.architecture.layers)
    usual = default_layers(network.architecture, offered)
    manifest = Manifest(
        name, tuple(_layer(network, layer) for layer in offered), preprocessing, "", description, source,
        license, pooling, loss_scale, {layer: parity[layer] for layer in offered}, lbfgs_history, tv_weight,
        tuple(style_layers) or usual[0], tuple(content_layers) or usual[1],
    )  # fmt: skip
    return write_model(root, manifest, graph.SerializeToString(deterministic=True))


def default_layers(architecture: Architecture, layers: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the style layers and the content layers that suit a network, among `layers`.

    These are the paper's if the network has them.
    Otherwise the style layers are the first layer of each size of feature maps, as in the paper, or up to five of all
    layers if there are less than three sizes. The content layer is the second layer of the last size but one, or the
    first if there is no second. Layers without ReLU are avoided.
    """
    if set(STYLE_LAYERS + CONTENT_LAYERS) <= set(layers):
        return STYLE_LAYERS, CONTENT_LAYERS
    suitable = [layer for layer in layers if architecture.is_rectified(layer)] or list(layers)
    sizes: dict[int, list[str]] = {}
    for layer in suitable:
        sizes.setdefault(architecture.stride(layer), []).append(layer)
    inner = list(sizes.values())[-2:][0]
    style = [first for first, *_ in sizes.values()]
    if len(sizes) < 3:
        count = min(5, len(suitable))
        style = [suitable[len(suitable) * number // count] for number in range(count)]
    return tuple(style), (inner[min(1, len(inner) - 1)],)


def measure_parity(
    graph: onnx.ModelProto,
    network: Parameters,
    preprocessing: Preprocessing,
    sizes: tuple[tuple[int, int], ...] = SIZES,
) -> dict[str, float]:
    """Returns the relative error ‖ONNX − torch‖ / ‖torch‖ of each layer, the maximum over `sizes`; batches of two.

    Sizes that are too small for the network are enlarged.
    """
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = network.architecture.layers
    least = network.architecture.least
    indices, scale, shift = preprocessing.affine
    worst = dict.fromkeys(names, 0.0)
    for height, width in sizes:
        side = (height + least, width + least) if min(height, width) < 2 * least else (height, width)
        rgb = torch.rand(2, 3, *side, generator=torch.Generator().manual_seed(0))
        x = rgb[:, list(indices)] * torch.tensor(scale).view(1, 3, 1, 1) + torch.tensor(shift).view(1, 3, 1, 1)
        expected = torch_activations(network, x)
        for name, ours in zip(names, session.run(names, {INPUT: x.numpy()}), strict=True):
            theirs = expected[name].numpy()
            error = float(np.linalg.norm(ours - theirs) / max(float(np.linalg.norm(theirs)), 1e-30))
            worst[name] = max(worst[name], error)
    return worst


def torch_activations(network: Parameters, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Returns every layer's activation after ReLU, times its head if it has one, computed by plain torch modules.

    Args:
        x: preprocessed input (N, 3, H, W).

    Returns:
        (N, C_l, H_l, W_l) of each layer, float32.
    """
    maps, features = {INPUT: x}, {}
    with torch.no_grad():
        for operation in network.architecture.operations:
            name = operation.name
            match operation:
                case Convolution():
                    y = _convolution(operation, *network.weights[name])(maps[operation.source])
                case Pooling():
                    window = operation.window
                    # The maximum does not change with -inf around the map.
                    sides = (window.before, window.after, window.before, window.after)
                    padded = nn.ConstantPad2d(sides, -math.inf)(maps[operation.source])
                    y = nn.MaxPool2d(window.side, window.stride, ceil_mode=window.ceil)(padded)
                case Sum():
                    y = maps[operation.sources[0]] + maps[operation.sources[1]]
            maps[name] = y if isinstance(operation, Pooling) or not operation.relu else nn.ReLU()(y)
            head = network.heads.get(name)
            features[name] = (
                maps[name] if head is None else torch.einsum("oc,nchw->nohw", torch.tensor(head).float(), maps[name])
            )
    return {layer: features[layer] for layer in network.architecture.layers}


def _convolution(operation: Convolution, kernel: np.ndarray, bias: np.ndarray) -> nn.Module:
    window = operation.window
    pads = nn.ZeroPad2d((window.before, window.after, window.before, window.after))
    convolution = nn.Conv2d(
        operation.inputs, operation.outputs, window.side, window.stride, 0, window.dilation, operation.groups
    )
    parts = {"weight": torch.tensor(kernel).float(), "bias": torch.tensor(bias).float()}
    convolution.load_state_dict(parts)
    return nn.Sequential(pads, convolution)


def _layer(network: Parameters, name: str) -> Layer:
    architecture = network.architecture
    stride, least = architecture.stride(name), architecture.min_side(name)
    return Layer(name, architecture[name].outputs, stride, name in network.heads, 0 if least == stride else least)


def _rounded(network: Parameters) -> Parameters:
    """Returns a network with its parameters rounded to float16."""
    weights = {name: (k.astype(np.float16), b.astype(np.float16)) for name, (k, b) in network.weights.items()}
    return Parameters(
        network.architecture, weights, {name: head.astype(np.float16) for name, head in network.heads.items()}
    )
