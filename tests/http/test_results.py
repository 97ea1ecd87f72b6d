"""Results and previews as files."""

import hashlib
import io

import pytest
from PIL import Image, ImageStat

from gramophone.v1 import job_service_pb2 as pb
from gramophone.v1 import options_pb2 as o
from tests.harness import encode, endless_request, style_request, wait_until
from tests.http import web
from tests.http.test_events import submit


@pytest.fixture(scope="module")
def job(server):
    """A job that has succeeded, from gRPC."""
    job_id = submit(server, style_request(size=96, seed=5))
    wait_until(lambda: server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.HasField("result"), "the result")
    return server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job


def get(server, job, **headers: str) -> web.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.request(server.url, "GET", f"/jobs/{job.id}/result", headers=names)


def test_a_result_is_a_file_with_type_name_and_tag(server, job):
    answer = get(server, job)
    assert answer.data == job.result.image.data
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == f'inline; filename="gramophone-{job.id}.png"'
    assert answer.headers["etag"] == f'"{job.result.image.sha256}"'
    assert answer.headers["content-length"] == str(len(answer.data))
    saved = web.request(server.url, "GET", f"/jobs/{job.id}/result?download")
    assert saved.headers["content-disposition"].startswith("attachment;")


def test_the_head_of_a_result_has_its_size(server, job):
    answer = web.request(server.url, "HEAD", f"/jobs/{job.id}/result")
    assert (answer.status, answer.data) == (200, b"")
    assert answer.headers["content-length"] == str(len(job.result.image.data))


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=10-19", 10, 19), ("bytes=100-", 100, -1), ("bytes=-7", -7, -1)],
)
def test_a_range_has_its_bytes(server, job, wanted, first, last):
    data = job.result.image.data
    first, last = first % len(data), last % len(data)
    answer = get(server, job, Range=wanted)
    assert answer.status == 206
    assert answer.data == data[first : last + 1]
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"


def test_a_range_beyond_the_end_is_refused_and_one_that_makes_no_sense_ignored(server, job):
    size = len(job.result.image.data)
    answer = get(server, job, Range=f"bytes={size}-")
    assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    assert answer.json()["code"] == "out_of_range"
    for wanted in ("bytes=5-2", "bytes=0-1,5-6", "rows=1-2", "bytes=-", "x"):
        assert get(server, job, Range=wanted).status == 200, wanted


def test_a_client_that_has_the_file_gets_no_bytes(server, job):
    tag = f'"{job.result.image.sha256}"'
    for header in (tag, f'"other", W/{tag}', "*"):
        answer = get(server, job, If_None_Match=header)
        assert (answer.status, answer.data) == (304, b"")
    assert get(server, job, If_None_Match='"other"').status == 200
    assert get(server, job, Range="bytes=0-3", If_Range=tag).status == 206
    assert get(server, job, Range="bytes=0-3", If_Range='"other"').status == 200


def test_a_job_without_a_result_says_so(server):
    job_id = submit(server, endless_request())
    answer = web.request(server.url, "GET", f"/jobs/{job_id}/result")
    assert (answer.status, answer.json()["code"]) == (400, "failed_precondition")
    server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))


def test_a_large_result_is_sent_whole_and_in_ranges(server):
    """One that has more bytes than fit into a message."""
    noise = encode(Image.effect_noise((1200, 1200), 90).convert("RGB"))
    name = hashlib.sha256(noise).hexdigest()
    assert web.request(server.url, "PUT", f"/images/{name}", noise).status == 201
    # One iteration at one layer hardly changes the noise, which hardly compresses.
    request = style_request(size=1536, iterations=1, report_every=0, scales=1)
    request.style_layers.add(layer="conv1_1")
    request.styles[0].image.CopyFrom(o.InputImage(sha256=name))
    request.options.init = o.INIT_NOISE
    job_id = submit(server, request)
    wait_until(lambda: server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.HasField("result"), "the result", 240)
    image = server.jobs.GetJob(pb.GetJobRequest(job_id=job_id)).job.result.image
    assert not image.data
    whole = web.request(server.url, "GET", f"/jobs/{job_id}/result").data
    assert len(whole) == image.size > 3 << 20
    part = web.request(server.url, "GET", f"/jobs/{job_id}/result", headers={"Range": "bytes=1000000-2999999"})
    assert part.data == whole[1_000_000:3_000_000]


def test_a_preview_is_small_and_tagged(server, job):
    answer = web.request(server.url, "GET", f"/jobs/{job.id}/preview?size=32")
    picture = Image.open(io.BytesIO(answer.data))
    assert (picture.format, answer.headers["content-type"]) == ("JPEG", "image/jpeg")
    assert max(picture.size) == 32
    tag = answer.headers["etag"]
    again = web.request(server.url, "GET", f"/jobs/{job.id}/preview?size=32", headers={"If-None-Match": tag})
    assert (again.status, again.data) == (304, b"")
    means = [ImageStat.Stat(one).mean for one in (picture, Image.open(io.BytesIO(job.result.image.data)))]
    assert means[0] == pytest.approx(means[1], abs=12)


def test_a_preview_is_never_enlarged(server, job):
    answer = web.request(server.url, "GET", f"/jobs/{job.id}/preview?size=512")
    assert Image.open(io.BytesIO(answer.data)).size == (96, 96)


@pytest.mark.parametrize("size", ["15", "513", "x", "-1", ""])
def test_a_wrong_size_of_a_preview_names_the_field(server, job, size):
    answer = web.request(server.url, "GET", f"/jobs/{job.id}/preview?size={size}")
    assert (answer.status, answer.error()[1].keys()) == (400, {"size"})


def test_a_running_job_has_the_latest_preview(server):
    job_id = submit(server, endless_request())

    def preview() -> web.Response:
        return web.request(server.url, "GET", f"/jobs/{job_id}/preview?size=16")

    wait_until(lambda: preview().status == 200, "a preview")
    assert max(Image.open(io.BytesIO(preview().data)).size) == 16
    server.jobs.CancelJob(pb.CancelJobRequest(job_id=job_id))
