"""Pages and feature responses of a bounded size, without a server."""

import pytest

from gramophone.errors import ServerError
from gramophone.features import arrays
from gramophone.v1 import job_pb2
from gramophone.v1 import model_service_pb2 as pb
from gramophone_server.api.pieces import PIECE, feature_pieces, fill_page

LARGE = 100 * PIECE // 33


def jobs(*sizes: int) -> list[job_pb2.Job]:
    return [job_pb2.Job(id="x" * size) for size in sizes]


def test_a_page_ends_before_the_item_that_would_make_it_too_large() -> None:
    made = jobs(100, 100, 100, 100)
    each = made[0].ByteSize()
    assert fill_page(made, 4 * each) == made
    assert fill_page(made, 4 * each - 1) == made[:3]
    assert fill_page(made, each) == made[:1]
    assert fill_page([]) == []


def test_a_page_has_at_least_one_item() -> None:
    made = jobs(100, 1)
    assert fill_page(made, 5) == made[:1]


@pytest.mark.parametrize("sizes", [(3,), (0, 5), (LARGE, 3, 4), (PIECE // 4,), (3, PIECE // 4, PIECE), (1, 2, 3)])
def test_features_are_split_into_pieces_of_at_most_1_mib(sizes: tuple[int, ...]) -> None:
    import numpy as np

    values = [np.arange(size, dtype="<f4").reshape(1, size) for size in sizes]
    tensors = [(f"layer{i}", value.shape, value.tobytes()) for i, value in enumerate(values)]
    responses = list(feature_pieces("model", tensors))
    assert all(len(response.data) <= PIECE for response in responses)
    assert [response.model for response in responses] == ["model"] + [""] * (len(responses) - 1)
    assert len(responses) <= 1 + 4 * sum(sizes) // PIECE * 2
    made = arrays(responses)
    assert list(made) == [name for name, *_ in tensors]
    assert all(np.array_equal(made[name], value) for (name, *_), value in zip(tensors, values, strict=True))


def test_incomplete_features_raise_an_error() -> None:
    head = pb.LayerFeatures(layer="conv1_1", shape=[2, 2])
    with pytest.raises(ServerError, match="12 bytes instead of 16"):
        arrays([pb.ExtractFeaturesResponse(features=[head], data=bytes(12))])
