"""The server sends no message larger than 3.5 MiB, so that clients with gRPC's default limit can receive all."""

import asyncio
import hashlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import numpy as np
import pytest
from PIL import Image

import gramophone
import gramophone.aio
from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone_server.messages.events import INLINE_BYTES
from tests.harness import Calls, ServerProcess, encode, png, style_request

MAX_MESSAGE = 7 << 19
# A square PNG of noise with this side, in pixels, has more than 6 MB.
SIDE = 1536


class Painted(NamedTuple):
    """The id and the events of a job with a large result and large previews."""

    id: str
    events: list[job_pb2.JobEvent]


@pytest.fixture(scope="module")
def calls(server: ServerProcess) -> Iterator[Calls]:
    """A client that accepts messages of at most 3.5 MiB, which is less than gRPC's default of 4 MiB."""
    with Calls(server.address, None, ("grpc.max_receive_message_length", MAX_MESSAGE)) as made:
        yield made


@pytest.fixture(scope="module")
def painted(calls: Calls) -> Painted:
    """A job whose result is noise, which hardly compresses: one iteration at one layer hardly changes it."""
    request = style_request(
        size=SIDE, iterations=1, scales=1, init=options_pb2.INIT_NOISE,
        preview=options_pb2.PreviewOptions(size=2048, format=options_pb2.IMAGE_FORMAT_PNG),
    )  # fmt: skip
    request.style_layers.add(layer="conv1_1")
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    events = [response.event for response in calls.style.ReconstructStyle(request)]
    assert events[-1].state == job_pb2.JOB_STATE_SUCCEEDED, events[-1]
    return Painted(events[-1].job_id, events)


def download(calls: Calls, job_id: str) -> bytes:
    request = job_service_pb2.DownloadResultRequest(job_id=job_id)
    return b"".join(response.data for response in calls.jobs.DownloadResult(request))


def test_a_large_result_is_sent_as_size_and_hash(calls: Calls, painted: Painted) -> None:
    image = painted.events[-1].result.image
    assert image.data == b""
    assert image.size > 6_000_000
    assert (image.width, image.height) == (SIDE, SIDE)
    data = download(calls, painted.id)
    assert (len(data), hashlib.sha256(data).hexdigest()) == (image.size, image.sha256)


def test_all_methods_send_a_large_result_as_size_and_hash(calls: Calls, painted: Painted) -> None:
    expected = painted.events[-1].result
    assert expected.recipe_json
    job = calls.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=painted.id)).job
    assert job.result == expected
    watched = [r.event for r in calls.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=painted.id))]
    assert watched[-1].result == expected
    first = next(iter(calls.jobs.DownloadResult(job_service_pb2.DownloadResultRequest(job_id=painted.id))))
    assert (first.size, first.sha256, first.result) == (expected.image.size, expected.image.sha256, expected)


def test_a_small_result_is_sent_with_its_data_and_hash(calls: Calls) -> None:
    *_, last = calls.style.ReconstructStyle(style_request())
    image = last.event.result.image
    assert (image.size, image.sha256) == (len(image.data), hashlib.sha256(image.data).hexdigest())
    assert image.data == download(calls, last.event.job_id)


def test_a_large_preview_is_scaled_down(painted: Painted) -> None:
    previews = [event.progress.preview for event in painted.events if event.progress.HasField("preview")]
    assert previews
    for preview in previews:
        assert INLINE_BYTES // 2 < len(preview.data) <= INLINE_BYTES
        assert (preview.size, preview.sha256) == (len(preview.data), hashlib.sha256(preview.data).hexdigest())
        with Image.open(io.BytesIO(preview.data)) as image:
            assert image.format == "PNG"
            assert image.size == (preview.width, preview.height)


def test_the_sdk_downloads_a_large_result_by_itself(server: ServerProcess, calls: Calls, painted: Painted) -> None:
    data = download(calls, painted.id)
    with gramophone.Client(server.address) as client:
        job = client.job(painted.id)
        frames = list(job)
        result = job.result()
        assert result.data == data
        assert result.recipe["width"] == SIDE
        assert result.image.size == (SIDE, SIDE)
        assert frames[-1].iteration == 1
        assert job.result() is result

    async def fetch() -> bytes:
        async with gramophone.aio.Client(server.address) as client:
            return (await (await client.job(painted.id)).result(timeout=60)).data

    assert asyncio.run(fetch()) == data


def test_features_larger_than_one_message_are_streamed(calls: Calls) -> None:
    picture = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)))
    request = model_service_pb2.ExtractFeaturesRequest(
        image=options_pb2.InputImage(data=picture), layers=["conv1_1"], kind=model_service_pb2.FEATURE_KIND_MAP
    )
    responses = list(calls.models.ExtractFeatures(request))
    assert sum(len(response.data) for response in responses) > 4 << 20


def test_models_are_listed_in_pages(server: ServerProcess, calls: Calls) -> None:
    everything = calls.models.ListModels(model_service_pb2.ListModelsRequest())
    assert everything.models[0].is_default
    assert not everything.next_page_token
    found: list[model_service_pb2.Model] = []
    request = model_service_pb2.ListModelsRequest(page_size=1)
    while True:
        page = calls.models.ListModels(request)
        assert len(page.models) == 1
        found += page.models
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == list(everything.models)
    with gramophone.Client(server.address) as client:
        assert [model.name for model in client.models()] == [model.name for model in found]


@pytest.mark.parametrize("fields", [{"page_size": 0}, {"page_size": 1001}, {"page_token": "\0"}])
def test_invalid_page_fields_are_refused(calls: Calls, fields: dict[str, object]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls.models.ListModels(model_service_pb2.ListModelsRequest(**fields))  # type: ignore[arg-type]
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_the_response_to_an_upload_fits_the_message_limit(calls: Calls) -> None:
    """The response to an upload has the picture's size, not its data."""
    data = png(64, 64)
    request = job_service_pb2.UploadImageRequest(sha256=hashlib.sha256(data).hexdigest(), data=data)
    assert calls.jobs.UploadImage(iter([request])).size == len(data)
