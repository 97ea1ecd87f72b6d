"""HTTP over TLS: the same certificates as gRPC, also replaced ones and those of clients."""

import http.client
import ssl

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from gramophone.v1 import job_service_pb2 as pb
from tests.certificates import Authority
from tests.harness import ServerProcess, style_request
from tests.http import web

LIST = "/gramophone.v1.JobService/ListJobs"


def context(authority: bytes, pair: tuple[str, str] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cadata=authority.decode())
    # The certificates of these tests have no key identifiers, which Python 3.13 asks for.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if pair is not None:
        made.load_cert_chain(*pair)
    return made


def listing(url: str, tls: ssl.SSLContext) -> web.Response:
    return call(url, LIST, pb.ListJobsRequest(), tls)


def serial(url: str, tls: ssl.SSLContext) -> str:
    connection = web.connect(url, tls)
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    found = connection.sock.getpeercert()
    connection.close()
    assert found is not None
    return str(found["serialNumber"])


def test_http_uses_the_certificate_and_follows_its_replacement(tmp_path):
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    args = ("--tls-certificate", certificate, "--tls-key", key, "--http", "127.0.0.1:0")
    with ServerProcess(*args, credentials=authority.trust()) as server:
        assert server.url.startswith("https://")
        tls = context(authority.certificate)
        assert listing(server.url, tls).status == 200
        before = serial(server.url, tls)
        authority.issue("server").write(tmp_path, "server")
        after = serial(server.url, tls)
        assert after != before
        (tmp_path / "server.pem").write_text("damaged")
        assert serial(server.url, tls) == after
        with pytest.raises(ssl.SSLError):
            listing(server.url, ssl.create_default_context())
        plain = server.url.replace("https", "http")
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            web.request(plain, "GET", "/healthz")


def test_the_name_in_a_client_certificate_owns_its_jobs(tmp_path):
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    pairs = {name: authority.issue(name) for name in ("alice", "bob")}
    alice, bob = (context(authority.certificate, pair.write(tmp_path, name)) for name, pair in pairs.items())
    args = ("--tls-certificate", certificate, "--tls-key", key, "--client-ca", str(tmp_path / "ca.pem"))
    with ServerProcess(*args, "--http", "127.0.0.1:0", credentials=authority.trust(pairs["alice"])) as server:
        job_id = call(server.url, "/jobs/style", style_request(), alice).json()["jobId"]
        got = call(server.url, "/gramophone.v1.JobService/GetJob", pb.GetJobRequest(job_id=job_id), alice)
        assert got.json()["job"]["owner"] == "alice"
        assert web.request(server.url, "GET", f"/jobs/{job_id}/events", tls=bob).status == 404
        own = context(authority.certificate, (certificate, key))
        assert call(server.url, LIST, pb.ListJobsRequest(), own).status == 401
        with pytest.raises((ssl.SSLError, ConnectionError)):
            call(server.url, LIST, pb.ListJobsRequest(), context(authority.certificate))


def call(url: str, path: str, message: Message, tls: ssl.SSLContext) -> web.Response:
    body = json_format.MessageToJson(message).encode()
    return web.request(url, "POST", path, body, web.JSON, tls=tls)
