"""The services over HTTP: Connect in JSON and binary, gRPC-Web, and what a call does when its client leaves."""

import base64
import json
import time

import pytest
from grpc_health.v1 import health_pb2

from gramophone.v1 import job_pb2, model_service_pb2
from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1 import style_transfer_service_pb2 as style_pb
from tests.harness import ServerProcess, endless_request, events, style_request, wait_until
from tests.http import web

STYLE = "/gramophone.v1.StyleTransferService/ReconstructStyle"
JOBS = "/gramophone.v1.JobService"
BINARY = {"Content-Type": "application/proto"}


def final(server: ServerProcess, job_id: str) -> job_pb2.Job:
    """Returns a job by gRPC."""
    return server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job


def test_a_unary_method_answers_in_json_and_in_binary(server):
    expected = server.models.ListModels(model_service_pb2.ListModelsRequest())
    path = "/gramophone.v1.ModelService/ListModels"
    answer = web.request(server.url, "POST", path, b"", BINARY)
    assert answer.headers["content-type"] == "application/proto"
    assert model_service_pb2.ListModelsResponse.FromString(answer.data) == expected
    shown = web.post_json(server.url, path, {}).json()
    assert [model["name"] for model in shown["models"]] == [model.name for model in expected.models]
    assert shown["models"][0]["isDefault"] is True


def test_a_stream_has_the_same_events_by_each_protocol(server):
    request = style_request(seed=11)
    by_grpc = [event.state for event in events(server.style.ReconstructStyle(request))]

    messages, end = web.connect_stream(server.url, STYLE, request, "proto")
    got = [style_pb.ReconstructStyleResponse.FromString(message).event for message in messages]
    assert end == {}
    assert [got[0].state, got[-1].state] == [by_grpc[0], by_grpc[-1]]
    assert got[-1].result.image.data == final(server, got[-1].job_id).result.image.data

    messages, end = web.connect_stream(server.url, STYLE, request, "json")
    last = json.loads(messages[-1])["event"]
    assert end == {}
    assert last["state"] == "JOB_STATE_SUCCEEDED"
    assert base64.b64decode(last["result"]["image"]["data"]) == got[-1].result.image.data

    messages, trailers = web.grpc_web(server.url, STYLE, request)
    last_web = style_pb.ReconstructStyleResponse.FromString(messages[-1]).event
    assert trailers["grpc-status"] == "0"
    assert last_web.result.image.data == got[-1].result.image.data


def test_a_request_may_be_compressed(server):
    headers = BINARY | {"Content-Encoding": "gzip"}
    data = web.compressed(pb.GetJobRequest(job_id="nobody").SerializeToString())
    answer = web.request(server.url, "POST", f"{JOBS}/GetJob", data, headers)
    assert answer.status == 404
    assert answer.error()[1].keys() == {"job_id"}


def test_a_compressed_request_is_bounded_after_it_is_decompressed(server):
    headers = BINARY | {"Content-Encoding": "gzip"}
    answer = web.request(server.url, "POST", f"{JOBS}/GetJob", web.compressed(bytes(64 << 20)), headers)
    assert (answer.status, answer.json()["code"]) == (429, "resource_exhausted")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"jobId": 7}', {"job_id"}),
        (b'{"job": "x"}', {"job"}),
        (b"[]", set()),
        (b"{", set()),
        (b'{"jobId": "a", "jobId": "b"}', set()),
        (b'{"a":' * 100_000, set()),
    ],
)
def test_json_that_does_not_fit_names_the_field(server, body, fields):
    answer = web.request(server.url, "POST", f"{JOBS}/GetJob", body, web.JSON)
    assert answer.status == 400
    code, found = answer.error()
    assert (code, found.keys()) == ("invalid_argument", fields)
    assert answer.json()["message"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/connect+json", "application/grpc"])
def test_another_content_type_is_refused_in_json(server, content_type):
    answer = web.request(server.url, "POST", f"{JOBS}/GetJob", b"{}", {"Content-Type": content_type})
    assert (answer.status, answer.json()["code"]) == (415, "invalid_argument")
    assert "application/json" in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{JOBS}/GetJob", 405, "unimplemented"),
        ("POST", f"{JOBS}/Nothing", 404, "not_found"),
        ("POST", "/jobs/poem", 404, "not_found"),
        ("DELETE", "/jobs/1/result", 405, "unimplemented"),
        ("GET", "/jobs/1/../../etc/passwd", 404, "not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "not_found"),
        ("GET", "/assets/..%2f..%2fapp.py", 404, "not_found"),
        ("GET", "/page.py", 404, "not_found"),
        ("GET", "/.git/config", 404, "not_found"),
        ("GET", "//", 404, "not_found"),
        ("BREW", "/healthz", 405, "unimplemented"),
    ],
)
def test_other_paths_and_methods_are_errors_in_json(server, method, path, status, code):
    answer = web.request(server.url, method, path)
    assert (answer.status, answer.json()["code"]) == (status, code)
    assert (status == 405) == ("allow" in answer.headers)


def test_an_id_with_a_path_in_it_is_not_found(server):
    for job_id in ("..%2f..%2fjobs.sqlite", "%00", "a" * 200, "0" * 30):
        for what in ("events", "result", "preview"):
            answer = web.request(server.url, "GET", f"/jobs/{job_id}/{what}")
            assert answer.status == 404, (job_id, what)
            assert answer.json()["code"] == "not_found"


def test_health_is_served_as_a_method_and_as_a_page(server):
    answer = web.post_json(server.url, "/grpc.health.v1.Health/Check", {})
    assert answer.json() == {"status": "SERVING"}
    messages, trailers = web.grpc_web(server.url, "/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
    assert health_pb2.HealthCheckResponse.FromString(messages[0]).status == health_pb2.HealthCheckResponse.SERVING
    assert trailers["grpc-status"] == "0"
    assert web.request(server.url, "GET", "/healthz").json() == {"status": "SERVING"}


def test_a_call_ends_at_its_deadline(server):
    job_id = submitted(server)
    started = time.monotonic()
    answer = web.request(
        server.url, "POST", f"{JOBS}/WatchJob",
        web.envelope(pb.WatchJobRequest(job_id=job_id).SerializeToString()),
        {"Content-Type": "application/connect+proto", "Connect-Timeout-Ms": "700"},
    )  # fmt: skip
    *_, (_, end) = web.envelopes(answer.data)
    assert json.loads(end)["error"]["code"] == "deadline_exceeded"
    assert time.monotonic() - started < 20
    server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_a_job_whose_client_leaves_is_canceled_if_it_was_submitted_so(server):
    request = endless_request()
    request.submission.on_disconnect = "ON_DISCONNECT_CANCEL"  # type: ignore[assignment]
    connection = web.connect(server.url)
    headers = {"Content-Type": "application/connect+proto"}
    connection.request("POST", STYLE, web.envelope(request.SerializeToString()), headers)
    answer = connection.getresponse()
    flags, size = answer.read(1), int.from_bytes(answer.read(4))
    assert flags == b"\0"
    job_id = style_pb.ReconstructStyleResponse.FromString(answer.read(size)).event.job_id
    assert final(server, job_id).state in (job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING)
    answer.close()
    connection.close()
    wait_until(lambda: final(server, job_id).state == job_pb2.JOB_STATE_CANCELLED, "the job to be canceled")


def test_a_submission_in_json_goes_on_without_its_client(server):
    answer = web.post_json(server.url, "/jobs/style", style_request(seed=12))
    event = answer.json()
    assert answer.status == 201
    assert event["state"] == "JOB_STATE_QUEUED"
    assert answer.headers["location"] == f"/jobs/{event['jobId']}/events"
    wait_until(lambda: final(server, event["jobId"]).state == job_pb2.JOB_STATE_SUCCEEDED, "the job to succeed")


def test_a_submission_takes_only_json_of_a_bounded_size(server):
    refused = web.request(server.url, "POST", "/jobs/style", b"{}", {"Content-Type": "text/plain"})
    assert (refused.status, refused.json()["code"]) == (415, "invalid_argument")
    large = b'{"styles": [{"image": {"data": "' + b"A" * (5 << 20) + b'"}}]}'
    refused = web.request(server.url, "POST", "/jobs/style", large, web.JSON)
    assert (refused.status, refused.json()["code"]) == (413, "resource_exhausted")
    assert "/images/" in refused.json()["message"]


def submitted(server: ServerProcess) -> str:
    """Submits a job that runs until it is canceled; returns its id."""
    job_id: str = web.post_json(server.url, "/jobs/style", endless_request()).json()["jobId"]
    return job_id
