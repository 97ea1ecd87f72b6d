"""Invalid calls other than submissions get the same status and the same fields by each protocol and by the paths."""

from collections.abc import Iterator
from typing import Any, cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from gramophone.v1 import job_service_pb2 as jobs
from gramophone.v1 import model_service_pb2 as models
from gramophone.v1 import options_pb2 as o
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.api.test_bad_requests import INVALID, NOT_FOUND, PICTURE, content, style, transfer, violations
from tests.harness import ServerProcess, endless_request, png, style_request, wait_until
from tests.http import web
from tests.http.test_bad_requests import of_status
from tests.http.test_events import submit

UNKNOWN = "0" * 30
# The id of a job that has not ended, and of one that has succeeded, in the requests below.
RUNNING, DONE = "(running)", "(done)"
PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
STREAMS = ("WatchJob", "DownloadResult", "DownloadInput", "ExtractFeatures")
FEATURES: dict[str, Any] = {"image": PICTURE, "layers": ["conv1_1"]}


def features(**fields: Any) -> models.ExtractFeaturesRequest:
    return models.ExtractFeaturesRequest(**(FEATURES | fields))


# name: (method, request, expected status, field; empty if the error is not about a field)
CASES: dict[str, tuple[str, Any, grpc.StatusCode, str]] = {
    "estimate of nothing": ("EstimateJob", pb.EstimateJobRequest(), INVALID, "job"),
    "estimate of a plateau of 2": (
        "EstimateJob", pb.EstimateJobRequest(style=style(plateau=2)), INVALID, "options.plateau",
    ),
    "estimate of a text": ("EstimateJob", pb.EstimateJobRequest(content=content(b"hello")), INVALID, "content.data"),
    "estimate of a negative weight": (
        "EstimateJob", pb.EstimateJobRequest(transfer=transfer(content_weight=-1)), INVALID, "content_weight",
    ),
    "estimate of an unknown model": (
        "EstimateJob", pb.EstimateJobRequest(style=style(model="vgg99")), NOT_FOUND, "options.model",
    ),
    "estimate of a missing upload": (
        "EstimateJob",
        pb.EstimateJobRequest(content=pb.ReconstructContentRequest(content=o.InputImage(sha256="0" * 64))),
        INVALID,
        "content.sha256",
    ),
    "features of an unknown layer": ("ExtractFeatures", features(layers=["conv7_7"]), INVALID, "layers[0]"),
    "features of no picture": ("ExtractFeatures", features(image=o.InputImage()), INVALID, "image.data"),
    "features of a tiny picture": ("ExtractFeatures", features(size=3), INVALID, "size"),
    "features of an unknown kind": ("ExtractFeatures", features(kind=9), INVALID, "kind"),
    "features of an unknown model": ("ExtractFeatures", features(model="nobody"), NOT_FOUND, "model"),
    "features of a thin picture": (
        "ExtractFeatures", features(image=o.InputImage(data=png(400, 8)), layers=["conv5_1"]), INVALID, "image",
    ),
    "features that are too many": (
        "ExtractFeatures", features(kind=models.FEATURE_KIND_MAP, size=4096), INVALID, "layers",
    ),
    "a page of no jobs": ("ListJobs", jobs.ListJobsRequest(page_size=0), INVALID, "page_size"),
    "a page of -1 jobs": ("ListJobs", jobs.ListJobsRequest(page_size=-1), INVALID, "page_size"),
    "a page of 1001 jobs": ("ListJobs", jobs.ListJobsRequest(page_size=1001), INVALID, "page_size"),
    "a page after no job": ("ListJobs", jobs.ListJobsRequest(page_token="nonsense"), INVALID, "page_token"),
    "a page with a NUL": ("ListJobs", jobs.ListJobsRequest(page_token="\0"), INVALID, "page_token"),
    "jobs in an unknown state": ("ListJobs", jobs.ListJobsRequest(states=[1, 99]), INVALID, "states[1]"),  # type: ignore[list-item]
    "jobs in 17 states": ("ListJobs", jobs.ListJobsRequest(states=[1] * 17), INVALID, "states"),  # type: ignore[list-item]
    "jobs of an unknown kind": ("ListJobs", jobs.ListJobsRequest(kinds=[9]), INVALID, "kinds[0]"),  # type: ignore[list-item]
    "jobs in an unknown order": ("ListJobs", jobs.ListJobsRequest(order=9), INVALID, "order"),  # type: ignore[arg-type]
    "jobs of a model with a NUL": ("ListJobs", jobs.ListJobsRequest(model="a\0b"), INVALID, "model"),
    "jobs of an owner with a NUL": ("ListJobs", jobs.ListJobsRequest(owner="a\0b"), INVALID, "owner"),
    "a page of no models": ("ListModels", models.ListModelsRequest(page_size=0), INVALID, "page_size"),
    "events after -1": (
        "WatchJob", jobs.WatchJobRequest(job_id=UNKNOWN, after_sequence=-1), INVALID, "after_sequence",
    ),
    "deletion of a running job": ("DeleteJob", jobs.DeleteJobRequest(job_id=RUNNING), PRECONDITION, ""),
    "result of a running job": ("DownloadResult", jobs.DownloadResultRequest(job_id=RUNNING), PRECONDITION, ""),
    "result after its end": (
        "DownloadResult", jobs.DownloadResultRequest(job_id=DONE, offset=2**32 - 1), INVALID, "offset",
    ),
    "input without a name": ("DownloadInput", jobs.DownloadInputRequest(job_id=DONE), INVALID, "sha256"),
    "input with another name": ("DownloadInput", jobs.DownloadInputRequest(job_id=DONE, sha256="x"), INVALID, "sha256"),
    "input that the job does not have": (
        "DownloadInput", jobs.DownloadInputRequest(job_id=DONE, sha256="0" * 64), NOT_FOUND, "sha256",
    ),
    "preview of 15 pixels": ("GetPreview", jobs.GetPreviewRequest(job_id=DONE, size=15), INVALID, "size"),
    "preview of 513 pixels": ("GetPreview", jobs.GetPreviewRequest(job_id=DONE, size=513), INVALID, "size"),
    "upload without a name": ("GetUpload", jobs.GetUploadRequest(), INVALID, "sha256"),
    "upload with another name": ("GetUpload", jobs.GetUploadRequest(sha256="../../etc/passwd"), INVALID, "sha256"),
    "upload in capital letters": ("GetUpload", jobs.GetUploadRequest(sha256="A" * 64), INVALID, "sha256"),
    "upload that is not there": ("GetUpload", jobs.GetUploadRequest(sha256="0" * 64), NOT_FOUND, "sha256"),
}  # fmt: skip
for _method in ("GetJob", "WatchJob", "CancelJob", "DeleteJob", "DownloadResult", "DownloadInput", "GetPreview"):
    for _name, _id, _code in (
        ("no id", "", INVALID),
        ("an unknown id", UNKNOWN, NOT_FOUND),
        ("a path", "../../etc/passwd", NOT_FOUND),
        ("other letters", "ｊob", NOT_FOUND),
        ("a NUL", "a\0b", NOT_FOUND),
        ("10,000 letters", "a" * 10_000, NOT_FOUND),
    ):
        CASES[f"{_method} of {_name}"] = _method, getattr(jobs, f"{_method}Request")(job_id=_id), _code, "job_id"

# The same errors at the paths that are not methods.
PATHS = {
    "WatchJob of an unknown id": f"/jobs/{UNKNOWN}/events",
    "WatchJob of other letters": "/jobs/%EF%BD%8Aob/events",
    "DownloadResult of an unknown id": f"/jobs/{UNKNOWN}/result",
    "DownloadResult of a NUL": "/jobs/a%00b/result",
    "result of a running job": f"/jobs/{RUNNING}/result",
    "GetPreview of an unknown id": f"/jobs/{UNKNOWN}/preview",
    "DownloadInput of an unknown id": f"/jobs/{UNKNOWN}/inputs/x",
    "input with another name": f"/jobs/{DONE}/inputs/x",
    "input that the job does not have": f"/jobs/{DONE}/inputs/{'0' * 64}",
    "preview of 15 pixels": f"/jobs/{DONE}/preview?size=15",
    "preview of 513 pixels": f"/jobs/{DONE}/preview?size=513",
}


@pytest.fixture(scope="module")
def ids(server: ServerProcess) -> Iterator[dict[str, str]]:
    """The ids of a job that runs and of a job that has succeeded."""
    done, running = submit(server, style_request(seed=41)), submit(server, endless_request())
    wait_until(lambda: _has_ended(server, done), "the result")
    yield {RUNNING: running, DONE: done}
    server.jobs.CancelJob(jobs.CancelJobRequest(job_id=running))
    wait_until(lambda: _has_ended(server, running), "the job to stop")


@pytest.mark.parametrize("case", CASES)
def test_an_invalid_call_gets_the_same_status_and_fields_by_each_protocol(server, ids, case):
    method, template, code, field = CASES[case]
    request = _with_ids(template, ids)
    expected = _by_grpc(server, method, request)
    assert expected[0] == code.name.lower()
    assert set(expected[1]) == ({field} if field else set())
    path = f"/gramophone.v1.{_service(request)}/{method}"

    for codec in ("proto", "json"):
        if method in STREAMS:
            messages, end = web.connect_stream(server.url, path, request, codec)
            assert not messages
            assert web.error_of(end["error"]) == expected
        else:
            assert web.connect_unary(server.url, path, request, codec).error() == expected

    messages, trailers = web.grpc_web(server.url, path, request)
    assert not messages
    assert of_status(trailers) == (code.value[0], expected[1])


@pytest.mark.parametrize("case", PATHS)
def test_a_path_gets_the_same_status_and_fields_as_its_method(server, ids, case):
    method, template, code, _ = CASES[case]
    path = PATHS[case].replace(RUNNING, ids[RUNNING]).replace(DONE, ids[DONE])
    answer = web.request(server.url, "GET", path)
    assert answer.status == {INVALID: 400, NOT_FOUND: 404, PRECONDITION: 400}[code]
    assert answer.error() == _by_grpc(server, method, _with_ids(template, ids))


@pytest.mark.parametrize("field", ["created_after", "created_before"])
@pytest.mark.parametrize("moment", [Timestamp(seconds=2**62), Timestamp(nanos=-1)], ids=["late", "negative"])
def test_a_time_that_json_cannot_write_gets_the_same_status_in_binary(server, field, moment):
    request = jobs.ListJobsRequest(**{field: moment})
    expected = _by_grpc(server, "ListJobs", request)
    assert expected[1].keys() == {field}
    path = "/gramophone.v1.JobService/ListJobs"
    assert web.connect_unary(server.url, path, request, "proto").error() == expected
    assert of_status(web.grpc_web(server.url, path, request)[1]) == (INVALID.value[0], expected[1])


def _by_grpc(server: ServerProcess, method: str, request: Any) -> tuple[str, dict[str, str]]:
    """Returns the code of the error of a call by gRPC, and the reason of each wrong field."""
    stub = next(stub for stub in (server.jobs, server.models, server.style) if hasattr(stub, method))
    call = getattr(stub, method)
    with pytest.raises(grpc.RpcError) as caught:
        next(iter(call(request, timeout=30))) if method in STREAMS else call(request, timeout=30)
    name = caught.value.code().name.lower()
    metadata: dict[str, Any] = dict(cast(Any, caught.value).trailing_metadata())
    return name, violations(caught.value) if "grpc-status-details-bin" in metadata else {}


def _with_ids(template: Any, ids: dict[str, str]) -> Any:
    """Returns a request with the real id of its job."""
    request = type(template)()
    request.CopyFrom(template)
    if "job_id" in request.DESCRIPTOR.fields_by_name and request.job_id in ids:
        request.job_id = ids[request.job_id]
    return request


def _service(request: Any) -> str:
    """Returns the name of the service whose method takes a request."""
    (service,) = request.DESCRIPTOR.file.services_by_name
    return str(service)


def _has_ended(server: ServerProcess, job_id: str) -> bool:
    return server.jobs.GetJob(jobs.GetJobRequest(job_id=job_id)).job.HasField("end_time")
