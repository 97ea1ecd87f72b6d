"""Names of layers and of the options of models. Standard library only."""

import re
from typing import Literal

PoolingName = Literal["max", "average", "average_rescaled"]
PaddingName = Literal["zeros", "replicate"]
LossScaleName = Literal["paper", "relative"]

STYLE_LAYERS = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
"""The style layers of the paper."""
CONTENT_LAYERS = ("conv4_2",)
"""The content layer of the paper."""

_SYNONYM = re.compile(r"relu([1-9])_([1-9])")


def canonical_layer(name: str) -> str:
    """Returns the canonical name of a layer: relu4_1 becomes conv4_1; other names are unchanged."""
    match = _SYNONYM.fullmatch(name)
    return f"conv{match[1]}_{match[2]}" if match else name
