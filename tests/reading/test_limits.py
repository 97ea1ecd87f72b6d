"""Odd and very long names, and requests with very many parts, get the right error and do not harm the server."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from PIL import Image

from gramophone.v1 import job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.models.store import ModelStore
from gramophone_server.rpc.errors import shortened
from gramophone_server.rpc.violations import InvalidRequestError
from gramophone_server.settings import Limits
from tests.harness import ServerProcess, encode, options, png, rpc_status, style_request
from tests.requests import read_job

NAMES = {
    "parent": "../vgg19-random",
    "absolute": "/etc/passwd",
    "hidden": ".",
    "parents in the middle": "vgg19-random/../vgg19-random",
    "backslashes": "..\\vgg19-random",
    "NUL": "vgg19-random\0",
    "line break": "vgg19-random\n",
    "percent": "%2e%2e%2fvgg19-random",
    "other letters": "ｖgg19-random",
    "10,000 letters": "x" * 10_000,
    "10,000 other letters": "ü" * 10_000,
    "a megabyte": "x" * 1_000_000,
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server for this module only: such requests grow its memory, which other tests measure."""
    with ServerProcess() as running:
        yield running


def error_of(call: Callable[..., object], request: object) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=30)
    return caught.value


def violations(error: grpc.RpcError) -> list[error_details_pb2.BadRequest.FieldViolation]:
    status = rpc_status(error)
    found = error_details_pb2.BadRequest()
    assert any(detail.Unpack(found) for detail in status.details)
    assert status.message == error.details()
    return list(found.field_violations)


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_models_and_jobs_are_not_found(server, name):
    text = NAMES[name]
    estimate = pb.EstimateJobRequest(style=style_request(model=text))
    features = model_service_pb2.ExtractFeaturesRequest(model=text)
    for call, request, field in (
        (server.style.EstimateJob, estimate, "options.model"),
        (lambda sent, timeout: list(server.models.ExtractFeatures(sent, timeout=timeout)), features, "model"),
        (server.jobs.GetJob, job_service_pb2.GetJobRequest(job_id=text), "job_id"),
        (server.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=text), "job_id"),
    ):
        error = error_of(call, request)
        assert error.code() == grpc.StatusCode.NOT_FOUND
        (violation,) = violations(error)
        assert violation.field == field
        assert len(error.details() or "") < 1000


@pytest.mark.parametrize("name", NAMES)
def test_list_jobs_refuses_odd_page_tokens(server, name):
    error = error_of(server.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_token=NAMES[name]))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in violations(error)] == ["page_token"]
    assert len(error.details() or "") < 1000


@pytest.mark.parametrize("field", ["model", "owner", "page_token"])
def test_list_jobs_refuses_texts_with_nul(server, field):
    filters: Any = {field: "a\0b"}
    error = error_of(server.jobs.ListJobs, job_service_pb2.ListJobsRequest(**filters))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field in [violation.field for violation in violations(error)]


@pytest.mark.parametrize(
    ("count", "field"),
    [(10, "style_layers[0].layer"), (200, "style_layers[0].layer"), (300, "style_layers")],
)
def test_very_many_invalid_fields_are_reported(server, count, field):
    request = style_request()
    request.style_layers.extend([options_pb2.LayerWeight(layer="ü" * 40)] * count)
    error = error_of(server.style.EstimateJob, pb.EstimateJobRequest(style=request))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert violations(error)[0].field == field


def test_model_names_cannot_leave_the_folder_of_models(tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "manifest.json").write_text("{")
    store = ModelStore(tmp_path / "models")
    for name in (*NAMES.values(), "../outside", str(outside)):
        with pytest.raises(LookupError):
            store.get(name)


def test_shortened_cuts_the_middle():
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 10 + "z" * 10, 6) == "aaa … zzz"
    assert shortened("üüüü", 6) == "ü … ü"


def test_the_pictures_of_a_request_have_a_common_pixel_limit():
    """Each picture alone is below the limit."""
    data = encode(Image.new("RGB", (100, 100)), "PNG")
    read = partial(read_job, model="vgg19-random", limits=Limits(max_pixels=10_000))
    styles = [options_pb2.StyleSource(image=options_pb2.InputImage(data=data))] * 3
    read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=styles, options=options())))
    with pytest.raises(InvalidRequestError) as caught:
        read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=styles * 2, options=options())))
    assert [field for field, _ in caught.value.violations] == ["styles[4].image.data", "styles[5].image.data"]
    assert "follows other pictures of 40,000 pixels" in str(caught.value)


def test_a_style_cannot_be_scaled_above_the_pixel_limit():
    """Without the limit, a style at scale 8 for a canvas of 8192 pixels a side would have 13 GB."""
    data = encode(Image.new("RGB", (100, 100)), "PNG")
    read = partial(read_job, model="vgg19-random", limits=Limits(max_pixels=10_000))
    sources = [options_pb2.StyleSource(image=options_pb2.InputImage(data=data), scale=scale) for scale in (1, 2, 3.2)]
    read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=sources[:2], options=options(size=50))))
    with pytest.raises(InvalidRequestError) as caught:
        read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=sources, options=options(size=50))))
    assert caught.value.violations == [
        ("styles[2].scale", "makes a picture of 160x160; this server takes at most 10,000 pixels")
    ]
    with pytest.raises(InvalidRequestError) as caught:
        read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=[sources[1]] * 5, options=options(size=50))))
    # Five files of 10,000 pixels: the fifth is refused before decoding. Five small files: their scaled sizes add up.
    assert [field for field, _ in caught.value.violations] == ["styles[4].image.data"]
    small = options_pb2.StyleSource(image=options_pb2.InputImage(data=png(32, 32)), scale=2)
    with pytest.raises(InvalidRequestError) as caught:
        read(pb.EstimateJobRequest(style=pb.ReconstructStyleRequest(styles=[small] * 5, options=options(size=50))))
    assert [field for field, _ in caught.value.violations] == ["styles"]


def test_the_server_logs_no_traceback(server: ServerProcess):
    assert "Traceback" not in server.read_log()
