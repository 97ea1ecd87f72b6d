"""Jobs from submission to result, over a real connection."""

import io
import json
import time
from itertools import pairwise
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from PIL import Image

from gramophone.v1 import job_pb2, job_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.harness import endless_request, events, options, png, run, style_request, wait_until

PICTURE = options_pb2.InputImage(data=png())
SOURCE = options_pb2.StyleSource(image=PICTURE)


def get(server, job_id: str) -> job_pb2.Job:
    return server.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job_id)).job


def cancel(server, job_id: str) -> job_pb2.Job:
    return server.jobs.CancelJob(job_service_pb2.CancelJobRequest(job_id=job_id)).job


def run_to_end(server, seed: int) -> str:
    """Runs a job to its end and returns its id."""
    *_, last = events(server.style.ReconstructStyle(style_request(seed=seed)))
    return last.job_id


def watch(server, job_id: str, after: int = 0) -> list[job_pb2.JobEvent]:
    return list(events(server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id, after_sequence=after))))


def test_the_stream_has_states_and_progress_in_order(server):
    history = list(events(server.style.ReconstructStyle(style_request(iterations=5, report_every=2))))
    states = [event.state for event in history]
    assert states[:2] == [job_pb2.JOB_STATE_QUEUED, job_pb2.JOB_STATE_RUNNING]
    assert states[-1] == job_pb2.JOB_STATE_SUCCEEDED
    assert set(states[2:-1]) == {job_pb2.JOB_STATE_RUNNING}
    sequences = [event.sequence for event in history]
    assert sequences == sorted(set(sequences))
    assert len({event.job_id for event in history}) == 1
    reports = [event.progress for event in history if event.HasField("progress")]
    assert reports
    assert {report.iteration for report in reports} <= {2, 4, 5}
    for report in reports:
        assert report.iterations == 5
        assert [term.layer for term in report.layer_losses] == ["conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"]
        total = sum(term.loss * term.weight for term in report.layer_losses)
        assert report.loss == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize("kind", ["style", "content", "transfer"])
def test_every_kind_makes_a_picture(server, kind):
    stream = {
        "style": lambda: server.style.ReconstructStyle(pb.ReconstructStyleRequest(styles=[SOURCE], options=options())),
        "content": lambda: server.style.ReconstructContent(
            pb.ReconstructContentRequest(content=PICTURE, options=options())
        ),
        "transfer": lambda: server.style.TransferStyle(
            pb.TransferStyleRequest(content=PICTURE, styles=[SOURCE, SOURCE], options=options())
        ),
    }[kind]()
    result = list(events(stream))[-1].result
    image = Image.open(io.BytesIO(result.image.data))
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (32, 32))
    assert result.iterations == 4
    kinds = {term.kind for term in result.layer_losses}
    # This model's defaults add a little total variation (kind 3) to jobs with content.
    expected = {"style": {1}, "content": {2, 3}, "transfer": {1, 2, 3}}[kind]
    assert kinds == expected


def test_fit_sets_the_size_of_the_result(server):
    wide = options_pb2.StyleSource(image=options_pb2.InputImage(data=png(96, 48)))
    for fit, size in ((None, (32, 32)), (options_pb2.FIT_LONGEST_SIDE, (32, 16))):
        request = pb.ReconstructStyleRequest(styles=[wide], options=options(fit=fit))
        image = run(server, request).image
        assert (image.width, image.height) == size


def test_the_same_request_gives_the_same_bytes(server):
    first, again, other = (run(server, style_request(seed=seed)).image.data for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_loss_of_the_result_falls_with_the_iterations(server):
    short, long = (run(server, style_request(iterations=n)) for n in (1, 40))
    assert long.loss < 0.2 * short.loss


def test_the_picture_contains_its_recipe(server):
    result = run(server, style_request(seed=7))
    image = Image.open(io.BytesIO(result.image.data))
    assert image.text["gramophone"] == result.recipe_json  # type: ignore[attr-defined]
    recipe = json.loads(result.recipe_json)
    assert recipe["seed"] == 7
    assert recipe["model"]["name"] == result.model
    assert len(recipe["model"]["sha256"]) == 64
    assert recipe["style_layers"][0] == {"layer": "conv1_1", "weight": pytest.approx(0.2), "loss": "gram"}
    assert recipe["precision"] in ("float32", "bfloat16")


def test_previews_have_the_requested_size_and_format(server):
    preview = options_pb2.PreviewOptions(every=2, size=16, format=options_pb2.IMAGE_FORMAT_WEBP)
    request = style_request(iterations=60, report_every=5, preview=preview)
    pictures = [
        e.progress.preview
        for e in events(server.style.ReconstructStyle(request))
        if e.HasField("progress") and e.progress.HasField("preview")
    ]
    assert pictures
    for picture in pictures:
        image = Image.open(io.BytesIO(picture.data))
        assert (image.format, image.size) == ("WEBP", (16, 16))
        assert picture.format == options_pb2.IMAGE_FORMAT_WEBP
    request = style_request(preview=options_pb2.PreviewOptions(every=0))
    assert not any(e.progress.HasField("preview") for e in events(server.style.ReconstructStyle(request)))


def test_at_most_two_progress_events_a_second_by_default(server):
    def reports(**fields: Any) -> list[tuple[int, float]]:
        """Returns (iteration, seconds since the start) of the first five progress events."""
        request = style_request(iterations=1_000_000, size=32, **fields)
        if not fields:
            request.options.ClearField("report_every")
        found: list[tuple[int, float]] = []
        stream = server.style.ReconstructStyle(request)
        for event in events(stream):
            if event.HasField("progress"):
                assert event.progress.HasField("preview")
                elapsed = event.progress.elapsed
                found.append((event.progress.iteration, elapsed.seconds + elapsed.nanos / 1e9))
            if len(found) == 5:
                cancel(server, event.job_id)
        return found[:5]

    assert min(later[1] - earlier[1] for earlier, later in pairwise(reports())) > 0.49
    # However slow the machine is: a job that asks for every tenth iteration reports each of them.
    assert min(later[0] - earlier[0] for earlier, later in pairwise(reports(report_every=10))) == 10


def test_init_content_starts_from_the_content(server):
    request = pb.TransferStyleRequest(
        content=PICTURE, styles=[SOURCE], style_weight=0, options=options(iterations=1, size=48)
    )
    result = list(events(server.style.TransferStyle(request)))[-1].result
    start = Image.open(io.BytesIO(PICTURE.data)).convert("RGB")
    assert Image.open(io.BytesIO(result.image.data)).tobytes() == start.tobytes()
    assert result.loss < 0.01  # Rounding only; a pixel changed by one level gives a loss 100 times as large.


@pytest.mark.parametrize("report_every", [5, 1_000_000])
def test_a_job_at_its_time_limit_returns_the_picture_so_far(server, report_every):
    request = style_request(iterations=1_000_000, report_every=report_every, time_limit=Duration(seconds=1))
    result = run(server, request)
    assert 0 < result.iterations < 1_000_000
    assert json.loads(result.recipe_json)["iterations"] == result.iterations


def test_the_next_job_starts_when_a_running_job_is_cancelled(server):
    stream = events(server.style.ReconstructStyle(endless_request()))
    first = next(stream)
    waiting = events(server.style.ReconstructStyle(style_request()))
    next(waiting)
    while not next(stream).HasField("progress"):
        pass
    cancel(server, first.job_id)
    assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED
    assert list(waiting)[-1].state == job_pb2.JOB_STATE_SUCCEEDED


def test_a_queued_job_can_be_cancelled(server):
    running = events(server.style.ReconstructStyle(endless_request()))
    # Wait for the job's id: the server may accept two concurrent calls in either order.
    running_id = next(running).job_id
    waiting = events(server.style.ReconstructStyle(style_request()))
    waiting_id = next(waiting).job_id
    assert cancel(server, waiting_id).state == job_pb2.JOB_STATE_CANCELLED
    assert list(waiting)[-1].state == job_pb2.JOB_STATE_CANCELLED
    cancel(server, running_id)
    assert list(running)[-1].state == job_pb2.JOB_STATE_CANCELLED
    # Canceling a job that has ended changes nothing.
    assert cancel(server, running_id).state == job_pb2.JOB_STATE_CANCELLED


def test_a_running_job_that_reports_only_at_its_end_can_be_cancelled(server):
    request = endless_request()
    request.options.report_every = 1_000_000
    stream = events(server.style.ReconstructStyle(request))
    job_id = next(stream).job_id
    assert next(stream).state == job_pb2.JOB_STATE_RUNNING
    time.sleep(0.5)  # The job computes by now.
    cancel(server, job_id)
    assert list(stream)[-1].state == job_pb2.JOB_STATE_CANCELLED


def test_the_next_job_starts_when_a_client_closes_its_stream(server):
    call = server.style.ReconstructStyle(endless_request())
    job_id = next(events(call)).job_id
    wait_until(lambda: get(server, job_id).HasField("progress"), "progress")
    call.cancel()
    assert run(server, style_request()).iterations == 4
    assert get(server, job_id).state == job_pb2.JOB_STATE_CANCELLED


@pytest.mark.slow
def test_a_lost_connection_cancels_the_job(server):
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = type(server.style)(channel)
        job_id = next(events(stub.ReconstructStyle(endless_request()))).job_id
    wait_until(lambda: get(server, job_id).state == job_pb2.JOB_STATE_CANCELLED, "the canceled state")


def test_on_disconnect_continue_keeps_the_job_running_and_watchable(server):
    request = style_request(iterations=60)
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    call = server.style.ReconstructStyle(request)
    seen = next(events(call))
    call.cancel()
    history = watch(server, seen.job_id, after=seen.sequence)
    assert all(event.sequence > seen.sequence for event in history)
    assert history[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    # WatchJob replays the events of a job that has ended, with its result.
    again = watch(server, seen.job_id)
    assert again[0].state == job_pb2.JOB_STATE_QUEUED
    assert again[-1].result == history[-1].result
    assert watch(server, seen.job_id, after=again[-1].sequence) == []


def test_closing_a_watch_stream_does_not_cancel_the_job(server):
    stream = events(server.style.ReconstructStyle(style_request(iterations=60)))
    job_id = next(stream).job_id
    call = server.jobs.WatchJob(job_service_pb2.WatchJobRequest(job_id=job_id))
    next(call)
    call.cancel()
    assert list(stream)[-1].state == job_pb2.JOB_STATE_SUCCEEDED


def test_two_concurrent_jobs_succeed(server):
    streams = [server.style.ReconstructStyle(style_request(seed=seed, iterations=10)) for seed in range(2)]
    endings = [list(events(stream))[-1] for stream in streams]
    assert [e.state for e in endings] == [job_pb2.JOB_STATE_SUCCEEDED] * 2
    assert endings[0].result.image.data != endings[1].result.image.data


def test_a_client_that_does_not_read_misses_progress_events_but_no_state(server):
    # A small flow-control window and large previews, so that a few reports fill the window.
    window = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384), ("grpc.use_local_subchannel_pool", 1)]
    preview = options_pb2.PreviewOptions(format=options_pb2.IMAGE_FORMAT_PNG)
    request = style_request(iterations=100, size=64, preview=preview)
    request.style_layers.add(layer="conv1_1")
    with grpc.insecure_channel(server.address, window) as channel:
        stream = events(type(server.style)(channel).ReconstructStyle(request))
        job_id = next(stream).job_id
        wait_until(lambda: get(server, job_id).state == job_pb2.JOB_STATE_SUCCEEDED, "the job's end", timeout=120)
        rest = list(stream)
    assert rest[0].state == job_pb2.JOB_STATE_RUNNING
    assert rest[-1].state == job_pb2.JOB_STATE_SUCCEEDED
    assert len([event for event in rest if event.HasField("progress")]) < 50
    assert get(server, job_id).result == rest[-1].result


def test_list_jobs_returns_all_jobs_in_pages(server):
    ids = [run_to_end(server, seed) for seed in range(3)]
    found, token = [], ""
    while True:
        page = server.jobs.ListJobs(job_service_pb2.ListJobsRequest(page_size=2, page_token=token))
        assert 1 <= len(page.jobs) <= 2
        found += [job.id for job in page.jobs]
        token = page.next_page_token
        if not token:
            break
    assert found == sorted(set(found), reverse=True)
    assert set(ids) <= set(found)
    done = server.jobs.ListJobs(job_service_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_FAILED]))
    assert not done.jobs


def test_the_times_of_a_job_are_in_order(server):
    before = time.time()
    job_id = run_to_end(server, 0)
    job = get(server, job_id)
    moments = [m.ToMicroseconds() / 1e6 for m in (job.create_time, job.start_time, job.end_time)]
    assert before - 1 <= moments[0] <= moments[1] <= moments[2] <= time.time() + 1
    assert job.result.timings.optimize.ToMicroseconds() > 0
