"""DownloadInput: a job's own pictures, from which the same job can be submitted again."""

import hashlib
import io
import json

import grpc
import numpy as np
import pytest
from PIL import Image

from gramophone.v1 import job_service_pb2 as jobs
from gramophone.v1 import options_pb2 as o
from gramophone.v1 import style_transfer_service_pb2 as pb
from tests.api.test_bad_requests import violations
from tests.harness import ServerProcess, encode, options, png, run
from tests.http import web

NOT_FOUND = grpc.StatusCode.NOT_FOUND


def name_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def glass() -> bytes:
    """A picture with transparent and half transparent pixels."""
    image = Image.open(io.BytesIO(png(64, 48, seed=3))).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return encode(image)


def mask() -> bytes:
    return encode(Image.linear_gradient("L").resize((50, 50)))


def flat(*colors: str) -> bytes:
    """A map with a region of each color."""
    image = Image.new("RGB", (64, 48), colors[0])
    image.paste(colors[1], (0, 0, 32, 48))
    return encode(image)


CONTENT, STYLE, GLASS, MASK = png(64, 48, seed=1), png(90, 90, seed=2), glass(), mask()


def request(content: bytes, style: bytes, other: bytes, mask: bytes) -> pb.TransferStyleRequest:
    image = o.InputImage
    styles = [
        o.StyleSource(image=image(data=style), scale=1.5, mask=image(data=mask)),
        o.StyleSource(image=image(data=other), source_mask=image(data=mask)),
    ]
    return pb.TransferStyleRequest(content=image(data=content), styles=styles, options=options(size=48, seed=9))


def download(server: ServerProcess, job_id: str, name: str) -> bytes:
    responses = list(server.jobs.DownloadInput(jobs.DownloadInputRequest(job_id=job_id, sha256=name)))
    data = b"".join(response.data for response in responses)
    assert [response.size for response in responses] == [len(data), *[0] * (len(responses) - 1)]
    return data


def submitted(server: ServerProcess, sent: pb.TransferStyleRequest) -> tuple[str, bytes]:
    """Runs a job; returns its id and the file of its result."""
    *_, last = server.style.TransferStyle(sent)
    return last.event.job_id, last.event.result.image.data


@pytest.fixture(scope="module")
def job(server: ServerProcess) -> tuple[str, bytes]:
    """A job with pictures in its request, and its result."""
    return submitted(server, request(CONTENT, STYLE, GLASS, MASK))


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_the_same_job_from_the_copies_gives_the_same_pixels(server, job):
    job_id, result = job
    copies = [download(server, job_id, name_of(data)) for data in (CONTENT, STYLE, GLASS, MASK)]
    assert all(Image.open(io.BytesIO(copy)).format == "PNG" for copy in copies)
    # The files differ in their recipes, which have the hashes of the pictures.
    assert np.array_equal(pixels(submitted(server, request(*copies))[1]), pixels(result))


def test_a_copy_has_the_size_and_the_channels_that_the_job_uses(server, job):
    found = [Image.open(io.BytesIO(download(server, job[0], name_of(d)))) for d in (CONTENT, STYLE, GLASS, MASK)]
    assert [image.mode for image in found] == ["RGB", "RGB", "RGBA", "L"]
    # The mask is one of the canvas, 48 x 36 pixels, and one of the second style.
    assert [image.size for image in found] == [(48, 36), (72, 72), (48, 36), (48, 36)]


def test_a_copy_of_the_same_size_has_the_pixels_of_the_file(server):
    data = png(48, 48, seed=12)
    source = o.StyleSource(image=o.InputImage(data=data))
    *_, last = server.style.ReconstructStyle(pb.ReconstructStyleRequest(styles=[source], options=options(size=48)))
    assert np.array_equal(pixels(download(server, last.event.job_id, name_of(data))), pixels(data))


def test_a_large_copy_comes_in_pieces(server):
    data = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), dtype=np.uint8)))
    content = pb.ReconstructContentRequest(
        content=o.InputImage(data=data),
        content_layers=[o.LayerWeight(layer="conv1_1")],
        options=options(size=900, iterations=1),
    )
    *_, last = server.style.ReconstructContent(content)
    name = name_of(data)
    responses = list(server.jobs.DownloadInput(jobs.DownloadInputRequest(job_id=last.event.job_id, sha256=name)))
    assert len(responses) > 1
    assert np.array_equal(pixels(download(server, last.event.job_id, name)), pixels(data))


def test_http_has_the_same_file(server, job):
    job_id, _ = job
    path = f"/jobs/{job_id}/inputs/{name_of(STYLE)}"
    answer = web.request(server.url, "GET", path)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.data == download(server, job_id, name_of(STYLE))
    assert answer.headers["content-length"] == str(len(answer.data))
    refused = web.request(server.url, "DELETE", path)
    assert (refused.status, refused.headers["allow"]) == (405, "GET")


def test_a_map_of_regions_and_a_deleted_job_are_not_found(server):
    colors, picture = flat("#ff0000", "#0000ff"), png(64, 48, seed=5)
    source = o.StyleSource(image=o.InputImage(data=picture), source_map=o.InputImage(data=colors))
    sent = pb.ReconstructStyleRequest(
        styles=[source], options=options(size=64, canvas_map=o.InputImage(data=colors), fit=o.FIT_LONGEST_SIDE)
    )
    result = run(server, sent)
    assert len(json.loads(result.recipe_json)["styles"]) == 2
    job_id = server.jobs.ListJobs(jobs.ListJobsRequest(page_size=1)).jobs[0].id
    assert download(server, job_id, name_of(picture))
    for name, field in ((name_of(colors), "sha256"), (name_of(picture), "job_id")):
        with pytest.raises(grpc.RpcError) as caught:
            download(server, job_id, name)
        assert caught.value.code() == NOT_FOUND
        assert violations(caught.value).keys() == {field}
        if field == "sha256":
            server.jobs.DeleteJob(jobs.DeleteJobRequest(job_id=job_id))


def test_damaged_pixels_are_not_sent(tmp_path):
    with ServerProcess("--data", str(tmp_path)) as server:
        job_id, _ = submitted(server, request(CONTENT, STYLE, GLASS, MASK))
        before = Image.open(io.BytesIO(download(server, job_id, name_of(CONTENT))))
        name = hashlib.sha256(before.tobytes()).hexdigest()
        blob = tmp_path / "blobs" / name[:2] / name
        blob.write_bytes(bytes(blob.stat().st_size))
        with pytest.raises(grpc.RpcError) as caught:
            download(server, job_id, name_of(CONTENT))
        assert caught.value.code() == NOT_FOUND
        assert "damaged" in violations(caught.value)["sha256"]
        assert download(server, job_id, name_of(STYLE))
