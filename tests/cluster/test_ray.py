"""Workers on three real Ray nodes: the same bytes as on one machine, and no job lost whatever is killed."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.faults.recovery import checkpoints, picture, request, undisturbed
from tests.harness import ServerProcess, events, png, style_request, wait_until

from .conftest import SECONDS, RayNodes, killed, ray_arguments

# The tests share a cluster, whose start takes tens of seconds, and run in this order. The first ones have servers of
# their own; from its start on, the server that the others share takes all places of the cluster.
pytestmark = [pytest.mark.slow, pytest.mark.service, pytest.mark.timeout(900)]


def mixed(number: int) -> list[pb.ReconstructStyleRequest]:
    """Returns requests of jobs that differ in size, optimizer and length."""
    kinds: list[dict[str, Any]] = [
        {"size": 32}, {"size": 48, "optimizer": options_pb2.OPTIMIZER_ADAM}, {"size": 64, "iterations": 20}
    ]  # fmt: skip
    return [style_request(seed=seed, **({"iterations": 40} | kinds[seed % 3])) for seed in range(number)]


def all_pictures(server: ServerProcess, requests: list[pb.ReconstructStyleRequest]) -> list[bytes]:
    """Runs jobs at a time."""
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(lambda one: picture(server, one), requests))


def not_ready(url: str) -> str:
    """Returns why a server is not ready; empty if it is."""
    try:
        urllib.request.urlopen(f"{url}/healthz", timeout=10).close()
    except urllib.error.HTTPError as error:
        return error.read().decode()
    return ""


def wait_for_workers(server: ServerProcess, nodes: RayNodes, number: int = 2) -> None:
    wait_until(lambda: len(nodes.workers()) >= number and not not_ready(server.url), "the workers", SECONDS)


def history_of(server: ServerProcess, one: pb.ReconstructStyleRequest) -> list[job_pb2.JobEvent]:
    return list(events(server.style.ReconstructStyle(one)))


def survive(server: ServerProcess, kill: Callable[[], object], jobs: list, expected: list[bytes]) -> None:
    """Checks that jobs end once each and with the same bytes although `kill` is called while they run."""
    with ThreadPoolExecutor(len(jobs)) as threads:
        streams = [threads.submit(history_of, server, one) for one in jobs]
        running = job_service_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_RUNNING])
        wait_until(lambda: any(job.progress.iteration > 10 for job in server.jobs.ListJobs(running).jobs), "progress")
        kill()
        histories = [stream.result(SECONDS * 2) for stream in streams]
    ends = [[event.state for event in history if event.state > job_pb2.JOB_STATE_RUNNING] for history in histories]
    assert ends == [[job_pb2.JOB_STATE_SUCCEEDED]] * len(jobs)
    assert [history[-1].result.image.data for history in histories] == expected
    queued = [event for history in histories for event in history if event.state == job_pb2.JOB_STATE_QUEUED]
    assert len(queued) > len(jobs), "no job was interrupted"


@pytest.fixture(scope="module")
def long_jobs() -> tuple[list, list[bytes]]:
    requests = [request(seed, iterations=300) for seed in range(2)]
    return requests, undisturbed(requests)


def test_a_stopped_server_leaves_no_worker_and_the_next_continues_its_jobs(ray_nodes, tmp_path, long_jobs):
    (one, *_), (expected, *_) = long_jobs
    arguments = ("--data", str(tmp_path), *ray_arguments(ray_nodes), "--ray-workers", "1")
    with ServerProcess(*arguments) as server:
        stream = events(server.style.ReconstructStyle(one))
        job = next(event.job_id for event in stream if event.HasField("progress"))
        wait_until(lambda: bool(checkpoints(tmp_path)), "a checkpoint")
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
    with ServerProcess(*arguments) as server:
        history = list(events(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job))))
    assert history[-1].result.image.data == expected
    assert history[-1].result.iterations == one.options.iterations


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_nodes_that_do_not_see_the_folder_of_the_jobs_are_named(ray_nodes, tmp_path):
    # Only the server and its children see what is mounted here.
    alone = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(tmp_path))
    serve = ("-m", "gramophone_server", "--data", str(tmp_path), "--port", "0", "--until-stdin-closes")
    command = [*alone, sys.executable, *serve, *ray_arguments(ray_nodes)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        url = [process.stdout.readline() for _ in range(2)][1].removeprefix("serving on ").strip()
        wait_until(lambda: "does not see the files of the server" in not_ready(url), "the reason", SECONDS)
        assert socket.gethostname() in not_ready(url) and "--data" in not_ready(url)
        process.stdin.close()


def test_jobs_make_the_same_bytes_as_on_a_local_worker(on_ray, ray_nodes):
    requests = mixed(12)
    expected = undisturbed(requests)
    wait_for_workers(on_ray, ray_nodes)
    assert all_pictures(on_ray, requests) == expected


def test_progress_previews_and_a_cancellation_arrive(on_ray):
    preview = options_pb2.PreviewOptions(every=1)
    history = list(events(on_ray.style.ReconstructStyle(style_request(iterations=30, preview=preview))))
    iterations = [event.progress.iteration for event in history if event.HasField("progress")]
    assert iterations == sorted(set(iterations)) and len(iterations) > 1
    assert any(event.progress.HasField("preview") for event in history)
    stream = events(on_ray.style.ReconstructStyle(style_request(iterations=1_000_000)))
    job = next(event.job_id for event in stream if event.HasField("progress"))
    begun = time.monotonic()
    on_ray.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job))
    assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED
    assert time.monotonic() - begun < 20


def test_features_and_estimates_arrive(on_ray, server):
    image = options_pb2.InputImage(data=png())
    asked = model_service_pb2.ExtractFeaturesRequest(image=image, layers=["conv1_1"], size=32)
    assert list(on_ray.models.ExtractFeatures(asked)) == list(server.models.ExtractFeatures(asked))
    estimate = on_ray.style.EstimateJob(pb.EstimateJobRequest(style=style_request()))
    assert estimate.fits and estimate.device == "cpu"


@pytest.mark.parametrize("kind", ["worker", "actor", "node", "bridge"])
def test_jobs_survive_the_death_of(kind, on_ray, ray_nodes, long_jobs):
    wait_for_workers(on_ray, ray_nodes)

    def kill() -> None:
        if kind == "worker":
            killed(ray_nodes.workers())
        elif kind == "actor":
            killed(ray_nodes.relays())
        elif kind == "node":
            killed(ray_nodes.raylets(ray_nodes.nodes[0]))
            ray_nodes.nodes.pop(0)
            ray_nodes.add_node()
        else:
            killed(bridges(on_ray))

    survive(on_ray, kill, *long_jobs)
    assert "Traceback" not in on_ray.read_log()


def bridges(server: ServerProcess) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "gramophone_server.bridge" in " ".join(child.cmdline())]


def test_jobs_survive_the_head_and_its_replacement(on_ray, ray_nodes):
    wait_for_workers(on_ray, ray_nodes)

    def kill() -> None:
        killed(ray_nodes.head.processes())
        ray_nodes.wait_for_end()
        wait_until(lambda: "Ray" in not_ready(on_ray.url), "a reason for not being ready", SECONDS)
        # Calls are served without workers.
        assert on_ray.jobs.ListJobs(job_service_pb2.ListJobsRequest()).jobs
        ray_nodes.start_again()

    # Jobs that run longer than nodes without a head.
    requests = [request(seed, iterations=2000) for seed in range(2)]
    survive(on_ray, kill, requests, undisturbed(requests))
    wait_for_workers(on_ray, ray_nodes)
