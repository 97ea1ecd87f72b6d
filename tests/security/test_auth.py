"""A server with bearer tokens: who may call, and that errors reveal nothing about other clients."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2, style_transfer_service_pb2
from gramophone_server.api.server import SERVICES
from gramophone_server.rpc import reflection
from gramophone_server.security.tokens import add_token, remove_token
from tests.harness import ServerProcess, endless_request, events, png, style_request, wait_until

Metadata = tuple[tuple[str, str], ...]

METHODS = [
    method
    for service in (
        style_transfer_service_pb2.DESCRIPTOR.services_by_name["StyleTransferService"],
        job_service_pb2.DESCRIPTOR.services_by_name["JobService"],
        model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
        *reflection.services(),
    )
    for method in service.methods
]
JOB_METHODS = [method for method in METHODS if "job_id" in method.input_type.fields_by_name]
UNKNOWN_ID = "0" * 30


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


class Guarded:
    """A server with tokens for alice, bob and the administrator root."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tokens.json"
        self.tokens = {name: add_token(self.file, name, admin=name == "root") for name in ("alice", "bob", "root")}
        self.alice, self.bob, self.root = (bearer(self.tokens[name]) for name in ("alice", "bob", "root"))
        self.server = ServerProcess("--tokens", str(self.file), "--log-level", "debug")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    made = Guarded(tmp_path_factory.mktemp("tokens"))
    with made.server:
        yield made


@pytest.fixture(scope="module")
def job_id(guarded) -> str:
    done = list(events(guarded.server.style.ReconstructStyle(style_request(), metadata=guarded.alice)))
    assert done[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    return done[-1].job_id


def call(server: ServerProcess, method: MethodDescriptor, metadata: Metadata, **fields: Any) -> list[Any]:
    """Calls any method, unary or streaming, and returns its responses."""
    kinds = {False: "unary", True: "stream"}
    kind = f"{kinds[method.client_streaming]}_{kinds[method.server_streaming]}"
    request = message_factory.GetMessageClass(method.input_type)(**fields)
    response = message_factory.GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    made = getattr(server.channel, kind)(
        path, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
    )
    answer = made(iter([request]) if method.client_streaming else request, metadata=metadata, timeout=30)
    return list(answer) if method.server_streaming else [answer]


def error_of(server: ServerProcess, method: MethodDescriptor, metadata: Metadata, **fields: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(server, method, metadata, **fields)
    return caught.value


def visible(error: Any) -> tuple[Any, ...]:
    """Everything in an error that the client sees: code, details and metadata."""
    return error.code(), error.details(), tuple(error.initial_metadata()), tuple(error.trailing_metadata())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_all_methods_refuse_calls_without_a_valid_token(guarded, method):
    for metadata, words in (((), "authorization: Bearer TOKEN"), (bearer("gramophone_wrong"), "not known here")):
        error = error_of(guarded.server, method, metadata)
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED
        assert words in error.details()
        for name in ("alice", "bob", "root", str(guarded.file)):
            assert name not in str(visible(error))


def test_an_unknown_method_is_refused_without_a_token(guarded):
    unknown = guarded.server.channel.unary_unary("/gramophone.v1.JobService/Nothing")
    for metadata, code in (((), "UNAUTHENTICATED"), (guarded.alice, "UNIMPLEMENTED")):
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", metadata=metadata)
        assert caught.value.code().name == code


@pytest.mark.parametrize(
    "form",
    ["{}", "Basic {}", "Bearer{}", "Bearer {}x", "Bearer {}, Bearer {}", "Bearer", ""],
)
def test_malformed_credentials_are_refused(guarded, form):
    metadata = (("authorization", form.format(*[guarded.tokens["alice"]] * form.count("{}"))),)
    error = error_of(guarded.server, METHODS[0], metadata)
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED
    assert guarded.tokens["alice"] not in str(visible(error))


def test_two_tokens_are_refused(guarded):
    error = error_of(guarded.server, METHODS[0], (*guarded.alice, *guarded.bob))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED


def test_the_token_is_checked_before_the_request_is_parsed(guarded):
    """A request that is not a valid message still gets UNAUTHENTICATED."""
    raw = guarded.server.channel.unary_unary("/gramophone.v1.JobService/GetJob")
    with pytest.raises(grpc.RpcError) as caught:
        raw(b"\xff" * 1_000_000)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_health_needs_no_token(guarded):
    stub = health_pb2_grpc.HealthStub(guarded.server.channel)
    request = health_pb2.HealthCheckRequest()
    assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(request)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_reflection_works_with_a_token(guarded):
    stub = reflection_pb2_grpc.ServerReflectionStub(guarded.server.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), metadata=guarded.bob)
    assert answer.list_services_response.service


def test_the_owner_and_administrators_see_a_job(guarded, job_id):
    for metadata in (guarded.alice, guarded.root, (("authorization", f"bearer  {guarded.tokens['alice']}"),)):
        request = job_service_pb2.GetJobRequest(job_id=job_id)
        job = guarded.server.jobs.GetJob(request, metadata=metadata).job
        assert job.owner == "alice"
        assert job.result.image.data
        watched = list(
            events(guarded.server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id), metadata=metadata))
        )
        assert watched[-1].state == job_pb2.JOB_STATE_SUCCEEDED


@pytest.mark.parametrize("method", JOB_METHODS, ids=lambda method: method.name)
def test_a_job_of_another_client_gives_the_error_of_an_unknown_job(guarded, job_id, method):
    """The errors are identical except for the id that the client sent."""
    assert len(job_id) == len(UNKNOWN_ID)
    others = visible(error_of(guarded.server, method, guarded.bob, job_id=job_id))
    unknown = visible(error_of(guarded.server, method, guarded.bob, job_id=UNKNOWN_ID))
    assert repr(others).replace(job_id, UNKNOWN_ID) == repr(unknown)
    if method.name in ("GetJob", "WatchJob", "CancelJob"):
        assert others[0] == grpc.StatusCode.NOT_FOUND


def test_list_jobs_returns_only_visible_jobs(guarded, job_id):
    def listed(metadata: Metadata, **fields: Any) -> list[str]:
        request = job_service_pb2.ListJobsRequest(**fields)
        return [job.owner for job in guarded.server.jobs.ListJobs(request, metadata=metadata).jobs]

    assert set(listed(guarded.alice)) == {"alice"}
    assert "alice" in listed(guarded.root)
    assert "alice" not in listed(guarded.bob)
    # A page token made from another client's job id shows nothing either.
    assert "alice" not in listed(guarded.bob, page_token=f"{int(job_id, 16) + 1:030x}")


def test_only_the_owner_and_administrators_can_cancel_a_job(guarded):
    stream = events(guarded.server.style.ReconstructStyle(endless_request(), metadata=guarded.alice))
    running = next(stream).job_id
    cancel = job_service_pb2.CancelJobRequest(job_id=running)
    with pytest.raises(grpc.RpcError):
        guarded.server.jobs.CancelJob(cancel, metadata=guarded.bob)
    while not next(stream).HasField("progress"):
        pass
    guarded.server.jobs.CancelJob(cancel, metadata=guarded.root)
    assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.slow
def test_closing_a_stream_cancels_its_job_on_a_server_with_tokens(guarded):
    request = endless_request()
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CANCEL
    stream = guarded.server.style.ReconstructStyle(request, metadata=guarded.alice)
    running = next(events(stream)).job_id
    stream.cancel()

    def state() -> int:
        asked = job_service_pb2.GetJobRequest(job_id=running)
        return guarded.server.jobs.GetJob(asked, metadata=guarded.alice).job.state

    wait_until(lambda: state() == job_pb2.JOB_STATE_CANCELLED, "the job's end")


def test_only_the_owner_can_use_an_upload(guarded):
    data = png(seed=77)
    sha256 = hashlib.sha256(data).hexdigest()
    pieces = [job_service_pb2.UploadImageRequest(sha256=sha256, data=data)]
    guarded.server.jobs.UploadImage(iter(pieces), metadata=guarded.alice)

    def estimate(name: str, metadata: Metadata) -> style_transfer_service_pb2.EstimateJobResponse:
        request = style_request()
        request.styles[0].image.CopyFrom(options_pb2.InputImage(sha256=name))
        return guarded.server.style.EstimateJob(
            style_transfer_service_pb2.EstimateJobRequest(style=request), metadata=metadata
        )

    assert estimate(sha256, guarded.alice).width == 32
    refusals = []
    for name in (sha256, "0" * 64, "../../" + sha256, "/etc/passwd\0"):
        # An administrator cannot use it either: success would reveal that the file exists.
        for metadata in (guarded.bob, guarded.root):
            with pytest.raises(grpc.RpcError) as caught:
                estimate(name, metadata)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            refusals.append(caught.value.details().replace(repr(name), "NAME"))
    assert len(set(refusals)) == 1


def test_changed_tokens_are_used_without_a_restart(guarded):
    def accepted(metadata: Metadata) -> bool:
        call = guarded.server.models.ListModels.future(model_service_pb2.ListModelsRequest(), metadata=metadata)
        assert call.code() in (grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED)
        return bool(call.code() == grpc.StatusCode.OK)

    carol = bearer(add_token(guarded.file, "carol", admin=False))
    assert accepted(carol)
    assert accepted(guarded.alice)
    remove_token(guarded.file, "carol")
    assert not accepted(carol)
    assert accepted(guarded.alice)
    # With a damaged file all tokens are refused, and one line is logged; a repaired file is used again.
    good = guarded.file.read_text()
    guarded.file.write_text("{")
    for _ in range(3):
        assert not accepted(guarded.alice)
    assert guarded.server.read_log().count("no token is accepted until this is fixed") == 1
    guarded.file.write_text(good)
    assert accepted(guarded.alice)


def test_the_log_has_no_tokens(guarded, job_id):
    error_of(guarded.server, METHODS[0], bearer("gramophone_wrong-token"))
    time.sleep(0.2)
    log = guarded.server.read_log()
    assert job_id in log
    for secret in (*guarded.tokens.values(), "gramophone_wrong-token"):
        assert secret not in log


def test_a_server_without_tokens_has_one_anonymous_client(server):
    last = list(events(server.style.ReconstructStyle(style_request())))[-1]
    assert server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=last.job_id)).job.owner == ""


def test_the_tests_above_cover_all_services():
    served = {*SERVICES, "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
    assert {method.containing_service.full_name for method in METHODS} == served
