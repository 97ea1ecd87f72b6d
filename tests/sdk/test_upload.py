"""Large pictures are uploaded once, before the requests that use them."""

import hashlib
import random

import pytest

import gramophone
from tests.sdk.flaky_server import FlakyServer

MIB = 1 << 20
SMALL = b"small"
LARGE = random.Random(1).randbytes(5 * MIB)
OTHER = random.Random(2).randbytes(2 * MIB)


def sizes(flaky: FlakyServer, method: str) -> list[int]:
    return [int(call.split()[0]) for call in flaky.calls(method)]


def test_a_large_picture_is_uploaded_once(flaky, connect):
    client = connect(flaky.address)
    for _ in range(3):
        client.style([SMALL, LARGE]).result()
    client.transfer(LARGE, gramophone.Style(SMALL, mask=OTHER, source_mask=LARGE), init=OTHER).result()
    client.estimate("style", LARGE)
    client.features(OTHER)
    assert sizes(flaky, "UploadImage") == [len(LARGE), len(OTHER)]
    for method in ("ReconstructStyle", "TransferStyle", "EstimateJob", "ExtractFeatures"):
        assert flaky.calls(method)
        assert max(sizes(flaky, method)) < 1000


def test_a_small_picture_is_sent_in_its_request(flaky, connect):
    connect(flaky.address).style(bytes(1_000_000)).result()
    assert 1_000_000 < sizes(flaky, "ReconstructStyle")[0] < MIB
    assert flaky.calls("UploadImage") == []


def test_a_picture_that_the_server_has_is_not_sent_again(flaky, connect):
    picture = random.Random(3).randbytes(64 * MIB)
    first = connect(flaky.address).upload(picture)
    # The server responds at once, and the client stops sending.
    second = connect(flaky.address).upload(picture)
    assert first == second == hashlib.sha256(picture).hexdigest()
    assert sizes(flaky, "UploadImage") == [len(picture), 0]


def test_an_uploaded_picture_is_named_by_its_hash_in_requests(flaky, connect):
    client = connect(flaky.address)
    picture = gramophone.Uploaded(client.upload(SMALL))
    assert client.style(gramophone.Style(picture, weight=2)).result()
    with pytest.raises(gramophone.InvalidRequestError) as caught:
        client.style(gramophone.Uploaded("0" * 64))
    assert [violation.field for violation in caught.value.violations] == ["styles.image.sha256"]


@pytest.mark.parametrize("script", [["UploadImage die 2"], ["UploadImage die 0", "UploadImage abort UNAVAILABLE"]])
def test_a_broken_upload_starts_over(flaky, connect, script):
    flaky.script(*script)
    assert connect(flaky.address).style(LARGE).result()
    assert sizes(flaky, "UploadImage") == [len(LARGE)]


def test_a_picture_that_the_server_has_deleted_is_uploaded_again(flaky, connect):
    client = connect(flaky.address)
    client.style([LARGE, OTHER]).result()
    flaky.forget_uploads()
    job = client.style([LARGE, OTHER])
    assert job.result()
    assert sizes(flaky, "UploadImage") == [len(LARGE), len(OTHER)] * 2
    calls = flaky.calls("ReconstructStyle")
    assert calls[1].split()[2] == calls[2].split()[2]


def test_the_largest_of_several_pictures_are_uploaded(flaky, connect):
    """Each picture alone is small enough for the request, but all together are too large for a proxy."""
    pictures = [random.Random(size).randbytes(size) for size in (900_000, 800_000, 700_000, 10)]
    connect(flaky.address).style(pictures).result()
    assert sizes(flaky, "UploadImage") == [900_000, 800_000]
    assert sizes(flaky, "ReconstructStyle")[0] < 1 << 20


def test_a_server_without_uploads_gets_the_pictures_in_the_request(flaky, connect):
    client = connect(flaky.address)
    flaky.script(*["UploadImage abort UNIMPLEMENTED"] * 20)
    for _ in range(2):
        client.style([LARGE, SMALL]).result()
    assert all(size > len(LARGE) for size in sizes(flaky, "ReconstructStyle"))
    assert flaky.calls("UploadImage") == []


def test_a_refused_upload_is_an_error_and_submits_no_job(flaky, connect):
    client = connect(flaky.address)
    flaky.script(*["UploadImage abort RESOURCE_EXHAUSTED"] * 20)
    with pytest.raises(gramophone.OverloadedError):
        client.style(LARGE)
    flaky.script(*["UploadImage abort PERMISSION_DENIED"] * 20)
    with pytest.raises(gramophone.ServerError, match="PERMISSION_DENIED"):
        client.upload(LARGE)
    assert flaky.jobs() == []
