"""Responses of a bounded size: clients with gRPC's default limit take messages of up to 4 MiB."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from gramophone.v1 import model_service_pb2 as pb

_Item = TypeVar("_Item", bound=Message)

PIECE = 1 << 20
"""Bytes of a file or of features in one message of a stream."""
_MOST_OF_PAGE = 3 << 20


def fitting(items: Iterable[_Item], most: int = _MOST_OF_PAGE) -> list[_Item]:
    """The first items that together have at most `most` bytes; the first one in any case."""
    page: list[_Item] = []
    size = 0
    for item in items:
        size += item.ByteSize()
        if page and size > most:
            break
        page.append(item)
    return page


def feature_pieces(
    model: str, tensors: Sequence[tuple[str, tuple[int, ...], bytes]]
) -> Iterator[pb.ExtractFeaturesResponse]:
    """The responses that bring tensors: the first says which, and all have some of their bytes.

    Args:
        tensors: name of the layer, shape, and values as float32 bytes.
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
