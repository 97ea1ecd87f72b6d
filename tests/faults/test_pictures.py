"""Pictures that something has happened to: each is refused with the reason, or makes a picture."""

from collections.abc import Iterator

import grpc
import pytest

from gramophone.v1 import options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.faults.checks import check_end, check_error, check_unharmed, resident
from tests.faults.mutations import mutated, originals
from tests.harness import ServerProcess, events, options, run, style_request

PIXELS = 1 << 20
# What a front may keep of pictures that it has decoded and let go: allocators keep some, a leak of each would be more.
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
    """Whether a picture is taken; if not, checks what its sender is told."""
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


def test_every_format_and_mode_makes_a_picture(strict: ServerProcess) -> None:
    refused = [name for name, data in originals().items() if not estimate(strict, data)]
    assert refused == ["TIFF F"]  # whose range is not defined
    for name in ("PNG I;16", "JPEG CMYK", "TIFF LAB", "GIF animated", "WEBP RGBA"):
        assert run(strict, painting(originals()[name])).iterations == 1


@pytest.mark.timeout(1800)
def test_mutated_pictures(strict: ServerProcess, long: bool) -> None:
    run(strict, style_request())
    for _, data in mutated(50, seed=1):
        estimate(strict, data)
    workers, before = strict.workers(), resident(strict)
    taken, painted = 0, 0
    count = 1500 if long else 300
    for name, data in mutated(count, seed=0):
        try:
            if estimate(strict, data):
                taken += 1
                # Every picture of the long form, and some of the short one.
                if long or taken % 10 == 0:
                    *_, last = events(strict.style.ReconstructStyle(painting(data), timeout=60))
                    check_end(last)
                    painted += 1
        except Exception as error:
            raise AssertionError(f"{name}: {data[:4000].hex()}") from error
    print(f"{count} pictures, {taken} taken, {painted} painted, {(resident(strict) - before) >> 20} MiB more")
    # Else the mutations would be too rough, or too gentle, to find anything.
    assert count / 10 < taken < count * 9 / 10
    assert resident(strict) - before < GROWTH
    check_unharmed(strict, workers)
