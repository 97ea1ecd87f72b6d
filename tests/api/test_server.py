"""The front process: its services, imports and memory, how it starts and stops, and how it survives failures."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import grpc
import psutil
import pytest
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from gramophone.v1 import job_pb2, job_service_pb2
from tests.harness import ServerProcess, endless_request, events, rpc_status, run, style_request, wait_until
from tests.marks import slow

SERVICES = {f"gramophone.v1.{name}Service" for name in ("StyleTransfer", "Job", "Model")}


def test_health_is_serving_for_all_services(server):
    stub = health_pb2_grpc.HealthStub(server.channel)
    for name in {"", *SERVICES}:
        assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_all_services_and_methods(server, version):
    reflect = reflection_of(server, version)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="gramophone.v1.StyleTransferService"),
    ]
    services, file = reflect(iter(requests))
    both = {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
    assert {s.name for s in services.list_services_response.service} == {*SERVICES, *both, "grpc.health.v1.Health"}
    described = FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    methods = {method.name for method in described.service[0].method}
    assert methods == {"ReconstructStyle", "ReconstructContent", "TransferStyle", "EstimateJob"}


def reflection_of(server, version):
    """The reflection method of that version. v1 and v1alpha have the same wire format, so v1alpha's messages serve."""
    return server.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )


@pytest.mark.parametrize(
    "symbol",
    [
        *(
            f"google.rpc.{name}"
            for name in ("Status", "BadRequest", "RetryInfo", "ResourceInfo", "PreconditionFailure")
        ),
        "google.rpc.BadRequest.FieldViolation",
        "google.rpc.Code",
        "gramophone.v1.JobEvent",
        "gramophone.v1.rules",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1.ServerReflectionRequest",
    ],
)
def test_reflection_returns_a_symbol_with_all_imports_of_its_file(server, symbol):
    """The returned files form a complete descriptor pool in which the symbol is found."""
    request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol)
    (answer,) = reflection_of(server, "v1")(iter([request]))
    files = DescriptorDatabase()
    for file in answer.file_descriptor_response.file_descriptor_proto:
        files.Add(FileDescriptorProto.FromString(file))
    assert DescriptorPool(files).FindFileContainingSymbol(symbol).name


@pytest.mark.slow
def test_the_server_accepts_keepalive_pings_on_an_idle_connection(server):
    often = [("grpc.keepalive_time_ms", 5500), ("grpc.keepalive_permit_without_calls", 1)]
    unlimited = [("grpc.http2.max_pings_without_data", 0), ("grpc.use_local_subchannel_pool", 1)]
    states: list[grpc.ChannelConnectivity] = []
    with grpc.insecure_channel(server.address, [*often, *unlimited]) as channel:
        channel.subscribe(states.append)
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        time.sleep(19)  # Three pings; a server that refuses pings sends GOAWAY after the third.
        assert states[-1] == grpc.ChannelConnectivity.READY
        assert states.count(grpc.ChannelConnectivity.READY) == 1


def test_the_front_uses_little_memory_and_does_not_load_torch():
    # A separate server, because the shared one has decoded pictures of all sizes.
    with ServerProcess("--http", "127.0.0.1:0") as server:
        for seed in range(5):
            run(server, style_request(seed=seed))
            urllib.request.urlopen(f"{server.url}/metrics").close()
        front = psutil.Process(server.process.pid)
        libraries = {os.path.basename(entry.path) for entry in front.memory_maps()}
        assert not [name for name in libraries if "torch" in name or "onnxruntime" in name]
        assert front.memory_info().rss < 120 << 20


def test_importing_the_front_imports_no_heavy_library():
    code = (
        "import sys, gramophone_server.api.server, gramophone_server.api.http_side; "
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_worker_killed_while_idle_is_replaced():
    with ServerProcess() as server:
        run(server, style_request())
        (worker,) = server.workers()
        worker.kill()
        assert run(server, style_request()).iterations == 4


def test_workers_exit_when_the_front_is_killed():
    with ServerProcess() as server:
        stream = events(server.style.ReconstructStyle(endless_request()))
        while not next(stream).HasField("progress"):
            pass
        (worker,) = server.workers()
        server.process.kill()
        assert worker.wait(20) is not None or not worker.is_running()


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
def test_a_signal_fails_all_jobs_with_the_reason(number):
    with ServerProcess() as server:
        stream = events(server.style.ReconstructStyle(endless_request()))
        while not next(stream).HasField("progress"):
            pass
        waiting = events(server.style.ReconstructStyle(style_request()))
        next(waiting)
        server.process.send_signal(number)
        for last in (list(stream)[-1], list(waiting)[-1]):
            assert last.state == job_pb2.JOB_STATE_FAILED
            assert "shut down" in last.error.message
        assert server.process.wait(20) == 0
        assert "Traceback" not in server.read_log()


def test_the_server_exits_when_its_standard_input_closes():
    with ServerProcess() as server:
        workers = server.workers()
        assert server.process.stdin is not None
        server.process.stdin.close()
        assert server.process.wait(20) == 0
        wait_until(lambda: not any(w.is_running() for w in workers), "the workers' end", timeout=10)


def test_a_port_in_use_is_a_clear_error(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "gramophone_server", "--data", str(tmp_path)]
        command += ["--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert f"cannot serve on 127.0.0.1:{command[-1]}" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_default_model_is_a_clear_error():
    command = [sys.executable, "-m", "gramophone_server", "--port", "0", "--default-model", "nobody"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "nobody" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_full_queue_refuses_jobs_with_a_retry_delay():
    with ServerProcess("--max-queued", "2") as server:
        calls = [server.style.ReconstructStyle(endless_request())]
        while not next(events(calls[0])).HasField("progress"):
            pass
        for _ in range(2):
            calls.append(server.style.ReconstructStyle(style_request()))
            next(calls[-1])
        with pytest.raises(grpc.RpcError) as caught:
            list(server.style.ReconstructStyle(style_request()))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status(caught.value)
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.seconds >= 1
        states = [job.state for job in server.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs]
        assert sorted(states) == [job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING]
