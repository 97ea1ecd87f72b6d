"""Reads requests as a server does, with real decoder processes but without a server."""

import asyncio
import atexit
import tempfile
from functools import cache
from pathlib import Path

from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.decoding.decoders import Decoders
from gramophone_server.decoding.staging import Staging
from gramophone_server.messages.spec import JobSpec
from gramophone_server.models.store import ModelStore
from gramophone_server.reading.request_images import RequestImages
from gramophone_server.reading.request_reader import RequestReader
from gramophone_server.settings import Limits

_DEFAULT = Limits()


def read_job(
    request: pb.EstimateJobRequest, model: str, *, models: Path | None = None, limits: Limits = _DEFAULT
) -> JobSpec:
    """Returns the job of a request, with its pixels.

    Args:
        model: the server's default model.
        models: folder of models; None means the user's models.

    Raises:
        InvalidRequestError: as RequestReader does.
    """
    return _runner().run(_read(RequestReader(ModelStore(models), model, limits), request, limits))


@cache
def _runner() -> asyncio.Runner:
    """Returns an event loop for all requests, so that they share decoder processes."""
    runner = asyncio.Runner()
    atexit.register(lambda: runner.close())
    return runner


@cache
def _decoders(limits: Limits) -> Decoders:
    decoders = Decoders(limits.max_pixels, limits.decode_memory)
    # Runs before the loop is closed: atexit calls the function that was registered last first.
    atexit.register(lambda: _runner().run(decoders.close()))
    return decoders


async def _read(reader: RequestReader, request: pb.EstimateJobRequest, limits: Limits) -> JobSpec:
    with tempfile.TemporaryDirectory() as folder:
        with RequestImages(_decoders(limits), limits, _no_upload, Staging(Path(folder)), "", durable=False) as images:
            spec = await reader.estimate(request, images)
            return spec.with_pixels(lambda name: (images.staging.path / name).read_bytes())


async def _no_upload(owner: str, sha256: str) -> Path | None:
    return None
