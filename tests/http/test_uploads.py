"""Uploads by PUT, which resume after they broke off."""

import hashlib
import random
import time

import grpc
import pytest

from gramophone.v1 import job_service_pb2 as pb
from tests.harness import ServerProcess, png, wait_until
from tests.http import web


def picture(seed: int, size: int) -> tuple[str, bytes]:
    data = random.Random(seed).randbytes(size)
    return hashlib.sha256(data).hexdigest(), data


def state(server: ServerProcess, name: str) -> tuple[int, str | None, str | None]:
    answer = web.request(server.url, "HEAD", f"/images/{name}")
    return answer.status, answer.headers.get("upload-offset"), answer.headers.get("upload-complete")


def put(server: ServerProcess, name: str, data: bytes, **headers: str) -> web.Response:
    return web.request(server.url, "PUT", f"/images/{name}", data, {k.replace("_", "-"): v for k, v in headers.items()})


def break_off(server: ServerProcess, name: str, data: bytes, sent: int, offset: int = 0) -> None:
    """Sends only a part of a file, and leaves."""
    connection = web.connect(server.url)
    connection.putrequest("PUT", f"/images/{name}")
    connection.putheader("Content-Length", str(len(data) - offset))
    if offset:
        connection.putheader("Content-Range", f"bytes {offset}-{len(data) - 1}/{len(data)}")
    connection.endheaders()
    connection.send(data[offset : offset + sent])
    time.sleep(0.1)
    connection.close()


def test_a_file_is_stored_for_requests_and_not_sent_twice(server):
    data = png(seed=71)
    name = hashlib.sha256(data).hexdigest()
    assert state(server, name)[0] == 404
    answer = put(server, name, data)
    assert (answer.status, answer.json()) == (201, {"sha256": name, "size": len(data)})
    assert put(server, name, b"").status == 200
    assert state(server, name) == (204, str(len(data)), "?1")
    request = {"styles": [{"image": {"sha256": name}}], "options": {"size": 32, "iterations": 1}}
    assert web.post_json(server.url, "/jobs/style", request).status == 201


def test_a_client_that_asks_first_does_not_send_what_the_server_has(server):
    name, data = picture(1, 300_000)
    assert put(server, name, data).status == 201
    connection = web.connect(server.url)
    connection.putrequest("PUT", f"/images/{name}")
    for key, value in (("Content-Length", str(len(data))), ("Expect", "100-continue")):
        connection.putheader(key, value)
    connection.endheaders()
    assert web.read(connection).status == 200


def test_an_upload_that_broke_off_is_continued(server):
    name, data = picture(2, 3_000_000)
    break_off(server, name, data, 1_500_000)
    wait_until(lambda: state(server, name)[1] not in (None, "0"), "the bytes to be kept")
    has = int(state(server, name)[1] or 0)
    assert 64 << 10 <= has <= 1_500_000
    assert state(server, name) == (204, str(has), "?0")
    # It breaks off again, later.
    break_off(server, name, data, 1_000_000, has)
    wait_until(lambda: (state(server, name)[1] or "0") not in ("0", str(has)), "more bytes to be kept")
    now = int(state(server, name)[1] or 0)
    answer = put(server, name, data[now:], Content_Range=f"bytes {now}-{len(data) - 1}/{len(data)}")
    assert (answer.status, answer.json()["size"]) == (201, len(data))


def test_an_upload_continues_only_where_the_server_is(server):
    name, data = picture(3, 2_000_000)
    break_off(server, name, data, 1_000_000)
    wait_until(lambda: state(server, name)[0] == 204, "the bytes to be kept")
    has = int(state(server, name)[1] or 0)
    for start in (has + 1, has - 1):
        answer = put(server, name, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        assert (answer.status, answer.headers["upload-offset"]) == (409, str(has))
        assert answer.error() == ("aborted", {"Content-Range": answer.error()[1]["Content-Range"]})
    # A new upload starts over.
    assert put(server, name, data).status == 201


def test_what_broke_off_can_be_continued_by_grpc(server):
    name, data = picture(4, 1_000_000)
    break_off(server, name, data, 700_000)
    wait_until(lambda: state(server, name)[0] == 204, "the bytes to be kept")
    known = server.jobs.GetUpload(pb.GetUploadRequest(sha256=name))
    assert not known.complete
    rest = data[known.offset :]
    messages = [pb.UploadImageRequest(sha256=name, offset=known.offset, data=rest)]
    assert server.jobs.UploadImage(iter(messages)).size == len(data)
    assert server.jobs.GetUpload(pb.GetUploadRequest(sha256=name)).complete


@pytest.mark.parametrize(
    "header", ["bytes 5-2/10", "bytes */10", "bytes 0-5/10", "lines 0-9/10", "bytes 99999999999-99999999999/*"]
)
def test_a_range_that_makes_no_sense_names_its_header(server, header):
    answer = put(server, "0" * 64, b"x", Content_Range=header)
    assert (answer.status, answer.error()[1].keys()) == (400, {"Content-Range"})


def test_a_file_with_another_hash_is_refused_and_forgotten(server):
    _, data = picture(5, 200_000)
    answer = put(server, "0" * 64, data)
    assert (answer.status, answer.error()[1].keys()) == (400, {"sha256"})
    assert state(server, "0" * 64)[0] == 404


@pytest.mark.parametrize("name", ["x", "..%5c..%5cetc", "%00", "A" * 64, "0" * 63])
def test_a_name_that_is_no_hash_is_refused(server, name):
    answer = put(server, name, b"x")
    assert (answer.status, answer.error()[1].keys()) == (400, {"sha256"})
    assert state(server, name)[0] == 400
    assert put(server, "..%2f..%2fetc%2fpasswd", b"x").status == 404


def test_a_file_that_is_too_large_is_refused_early(server):
    connection = web.connect(server.url)
    connection.putrequest("PUT", f"/images/{'1' * 64}")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    piece = bytes(1 << 20)
    with pytest.raises(OSError, match=r".*"):  # noqa: PT012 - the server answers while the client still sends
        for _ in range(200):
            connection.send(b"100000\r\n" + piece + b"\r\n")
        answer = web.read(connection)
        assert (answer.status, answer.error()[1].keys()) == (400, {"data"})
        raise OSError("answered")


def test_a_wrong_position_by_grpc_is_aborted_with_the_field(server):
    name, data = picture(6, 100_000)
    with pytest.raises(grpc.RpcError) as caught:
        server.jobs.UploadImage(iter([pb.UploadImageRequest(sha256=name, offset=7, data=data[7:])]))
    assert caught.value.code() == grpc.StatusCode.ABORTED
