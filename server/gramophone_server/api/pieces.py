"""Limits the size of response messages: clients with gRPC's default settings receive at most 4 MiB."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from gramophone.v1 import model_service_pb2 as pb

_Item = TypeVar("_Item", bound=Message)

PIECE = 1 << 20
"""Bytes of a file or of features in one message of a stream."""
_MAX_PAGE = 3 << 20


def fill_page(items: Iterable[_Item], max_bytes: int = _MAX_PAGE) -> list[_Item]:
    """Returns the first items, up to `max_bytes` bytes together, but at least one item."""
    page: list[_Item] = []
    size = 0
    for item in items:
        size += item.ByteSize()
        if page and size > max_bytes:
            break
        page.append(item)
    return page


def feature_pieces(
    model: str, tensors: Sequence[tuple[str, tuple[int, ...], bytes]]
) -> Iterator[pb.ExtractFeaturesResponse]:
    """Yields responses that carry tensors: the first one has the layers and shapes, each has some of the bytes.

    Args:
        tensors: (layer name, shape, values as float32 bytes).
    """
    heads = [pb.LayerFeatures(layer=name, shape=shape) for name, shape, _ in tensors]
    response = pb.ExtractFeaturesResponse(model=model, features=heads)
    for *_, data in tensors:
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            if len(response.data) + len(piece) > PIECE:
                yield response
                response = pb.ExtractFeaturesResponse()
            response.data += piece
    yield response
