"""Parsing of the responses of ExtractFeatures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import ServerError
from .v1 import model_service_pb2

if TYPE_CHECKING:
    import numpy as np


def arrays(responses: list[model_service_pb2.ExtractFeaturesResponse]) -> dict[str, np.ndarray[Any, Any]]:
    """Returns the float32 arrays in the responses of ExtractFeatures, by layer.

    Raises:
        ServerError: the number of values does not match the shapes.
    """
    import numpy as np

    heads = [head for response in responses for head in response.features]
    shapes = [tuple(head.shape) for head in heads]
    sizes = [math.prod(shape) for shape in shapes]
    data = b"".join(response.data for response in responses)
    if len(data) != 4 * sum(sizes):
        raise ServerError(f"the features have {len(data)} bytes instead of {4 * sum(sizes)}", "DATA_LOSS")
    values = np.split(np.frombuffer(data, "<f4"), np.cumsum(sizes)[:-1]) if sizes else []
    return {h.layer: v.reshape(s).copy() for h, s, v in zip(heads, shapes, values, strict=True)}
