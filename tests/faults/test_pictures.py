"""Mutated picture files: the server refuses each with a reason, or paints with it."""

from collections.abc import Iterator

import grpc
import pytest

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.faults.checks import check_end, check_error, check_unharmed, resident
from tests.faults.mutations import mutated, originals
from tests.harness import ServerProcess, events, options, run, style_request

PIXELS = 1 << 20
# Bytes that the front may grow by: allocators keep some memory, and a leak per picture would be more.
GROWTH = 48 << 20


@pytest.fixture(scope="module")
def strict() -> Iterator[ServerProcess]:
    with ServerProcess("--max-pixels", str(PIXELS)) as server:
        yield server


def painting(data: bytes) -> pb.ReconstructStyleRequest:
    source = options_pb2.StyleSource(image=options_pb2.InputImage(data=data))
    layers = [options_pb2.LayerWeight(layer="conv1_1")]
    return pb.ReconstructStyleRequest(styles=[source], style_layers=layers, options=options(size=16, iterations=1))


def estimate(server: ServerProcess, data: bytes) -> bool:
    """Whether the server accepts a picture; checks the error if not."""
    request = pb.EstimateJobRequest(style=painting(data))
    try:
        server.style.EstimateJob(request, timeout=30)
    except grpc.RpcError as error:
        check_error(error, request, {grpc.StatusCode.INVALID_ARGUMENT})
        reason = str(error)
    else:
        return True
    assert "styles[0].image" in reason
    return False


def test_every_format_and_mode_is_accepted(strict: ServerProcess) -> None:
    refused = [name for name, data in originals().items() if not estimate(strict, data)]
    assert refused == ["TIFF F"]  # whose range is not defined
    for name in ("PNG I;16", "JPEG CMYK", "TIFF LAB", "GIF animated", "WEBP RGBA"):
        assert run(strict, painting(originals()[name])).iterations == 1


@pytest.mark.timeout(1800)
def test_mutated_pictures_are_refused_or_painted(strict: ServerProcess, long: bool) -> None:
    run(strict, style_request())
    for _, data in mutated(50, seed=1):
        estimate(strict, data)
    workers, before = strict.workers(), resident(strict)
    accepted, painted = 0, 0
    count = 1500 if long else 300
    for name, data in mutated(count, seed=0):
        try:
            if estimate(strict, data):
                accepted += 1
                # Paint with every picture in the long form, with every tenth otherwise.
                if long or accepted % 10 == 0:
                    *_, last = events(strict.style.ReconstructStyle(painting(data), timeout=60))
                    check_end(last)
                    painted += 1
        except Exception as error:
            raise AssertionError(f"{name}: {data[:4000].hex()}") from error
    print(f"{count} pictures, {accepted} accepted, {painted} painted, {(resident(strict) - before) >> 20} MiB more")
    # Mutations that are nearly all refused, or nearly all accepted, would find little.
    assert count / 10 < accepted < count * 9 / 10
    assert resident(strict) - before < GROWTH
    check_unharmed(strict, workers)
