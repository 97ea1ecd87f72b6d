"""Targets of fuzzing: functions that accept any bytes and raise only if the program has a bug."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from PIL import Image

from gramophone.v1 import model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.process import respond
from gramophone_server.decoding.slots import SMALL
from gramophone_server.decoding.staging import Staging
from gramophone_server.http.json_requests import parsed
from gramophone_server.models.store import ModelStore
from gramophone_server.reading.request_images import RequestImages
from gramophone_server.reading.request_reader import RequestReader
from gramophone_server.reading.wire import WireError, check_wire
from gramophone_server.rpc.violations import InvalidRequestError, MalformedRequestError
from gramophone_server.settings import Limits
from tests.faults.mutations import originals
from tests.harness import encode, options, png

PIXELS = 1 << 18
# Bytes for the regions of a small map.
_MAP_MEMORY = 160 << 20
CORPUS = Path(__file__).parent / "corpus"
_Request = pb.EstimateJobRequest | model_service_pb2.ExtractFeaturesRequest
_LIMITS = Limits(max_pixels=PIXELS)


def pictures(data: bytes) -> None:
    """Checks that a picture file is refused, or decoded to the size in its header within its memory limit."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "picture"
        path.write_bytes(data)
        bounds = {"max_pixels": PIXELS, "seconds": 60}
        found = respond({"method": "headers", "files": [str(path)], "memory": SMALL, **bounds})
        header = found["headers"][0] if "headers" in found else found
        if "refused" in header:
            return
        size = {"width": header["width"], "height": header["height"]}
        assert 0 < header["width"] * header["height"] <= PIXELS
        request = {"file": str(path), "folder": name, "durable": False, "memory": header["memory"], **size, **bounds}
        pixels = size["width"] * size["height"]
        made = respond({**request, "method": "decode", "kind": "rgba"})
        if "refused" not in made:
            assert (Path(name) / made["blob"]).stat().st_size == (4 if made["alpha"] else 3) * pixels
        found = respond({**request, "method": "regions", "memory": header["memory"] + _MAP_MEMORY})
        assert "refused" in found or (Path(name) / found["blob"]).stat().st_size == pixels


def requests(data: bytes) -> None:
    """Checks that a request is refused for its fields, or is read as a job or a request for features."""
    kind = model_service_pb2.ExtractFeaturesRequest if data[:1] == b"\xff" else pb.EstimateJobRequest
    data = data[data[:1] == b"\xff" :]
    try:
        check_wire(data, kind.DESCRIPTOR)
        request = kind.FromString(data)
    except (InvalidRequestError, WireError, DecodeError):
        return
    loop, decoders = _shared()
    with tempfile.TemporaryDirectory() as name:
        loop.run_until_complete(_read(request, decoders, Path(name)))


def json_requests(data: bytes) -> None:
    """Checks that a request in JSON is refused, or becomes the message that google.protobuf makes."""
    try:
        made = parsed(data, pb.EstimateJobRequest)
    except (InvalidRequestError, MalformedRequestError):
        return
    assert made.SerializeToString() == json_format.Parse(data or b"{}", pb.EstimateJobRequest()).SerializeToString()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "pictures": pictures,
    "requests": requests,
    "json_requests": json_requests,
}


def seeds(target: str) -> Iterator[bytes]:
    """Yields the inputs that fuzzing starts from: valid inputs of every kind, and inputs that failed before."""
    yield from _VALID[target]()
    for path in sorted((CORPUS / target).glob("*")):
        yield path.read_bytes()


async def _read(request: _Request, decoders: Decoders, folder: Path) -> None:
    reader = RequestReader(ModelStore(folder), "vgg19-random", _LIMITS)
    try:
        with RequestImages(decoders, _LIMITS, _no_upload, Staging(folder), "", durable=False) as images:
            if isinstance(request, pb.EstimateJobRequest):
                spec = await reader.estimate(request, images)
                assert spec.width * spec.height <= PIXELS
                assert all((images.staging.path / part.blob).stat().st_size == part.size for part in spec.pictures())
            else:
                assert (await reader.features(request, images)).layers
    except InvalidRequestError:
        return


async def _no_upload(owner: str, sha256: str) -> Path | None:
    return None


@lru_cache(maxsize=1)
def _shared() -> tuple[asyncio.AbstractEventLoop, Decoders]:
    """Returns an event loop and decoders that all inputs share, as in a server."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop, Decoders(PIXELS)


def close() -> None:
    """Stops the decoders that `requests` uses."""
    if _shared.cache_info().currsize:
        loop, decoders = _shared()
        loop.run_until_complete(decoders.close())
        loop.close()
        _shared.cache_clear()


def _valid_requests() -> Iterator[bytes]:
    image = options_pb2.InputImage(data=png(16, 16))
    flat = options_pb2.InputImage(data=encode(Image.new("RGBA", (16, 16), (1, 2, 3, 99))))
    style = options_pb2.StyleSource(image=image, weight=2, scale=1.5, mask=image, source_mask=image)
    mapped = options_pb2.StyleSource(image=flat, source_map=flat)
    layers = [options_pb2.LayerWeight(layer="conv1_1", weight=0.5)]
    wanted = options(size=16, optimizer=2, init_image=image, time_limit={"seconds": 1}, tv_weight=0.1, scales=2)
    for job in (
        {"style": pb.ReconstructStyleRequest(styles=[style], style_layers=layers, options=wanted)},
        {"content": pb.ReconstructContentRequest(content=image, content_layers=layers, options=wanted)},
        {"transfer": pb.TransferStyleRequest(content=image, styles=[style, style], options=wanted, style_weight=2)},
        {"transfer": pb.TransferStyleRequest(content=flat, styles=[mapped], options=options(size=16, canvas_map=flat))},
    ):
        yield pb.EstimateJobRequest(**job).SerializeToString()  # type: ignore[arg-type]
    yield (
        b"\xff" + model_service_pb2.ExtractFeaturesRequest(image=image, layers=["conv1_1"], size=16).SerializeToString()
    )


def _valid_json() -> Iterator[bytes]:
    for data in _valid_requests():
        if data[:1] != b"\xff":
            yield json_format.MessageToJson(pb.EstimateJobRequest.FromString(data), indent=None).encode()
    yield b'{"style": {"options": {"learningRate": "NaN", "seed": "7", "size": 1e2, "timeLimit": "1.5s", "init": 4}}}'


_VALID: dict[str, Callable[[], Iterator[bytes]]] = {
    "pictures": lambda: iter(originals().values()),
    "requests": _valid_requests,
    "json_requests": _valid_json,
}
