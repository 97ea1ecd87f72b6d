"""Tokens, certificates and TLS of both clients and the command line, against real servers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gramophone
from gramophone.credentials import Credentials, is_loopback
from gramophone_server.security.tokens import add_token
from tests.certificates import Authority
from tests.cli import quick
from tests.harness import ServerProcess, png

SMALL: dict[str, Any] = {"size": 32, "iterations": 4, "report_every": 2}
CA = Authority()


class Servers:
    """Three servers (with tokens; with tokens and TLS; with client certificates) and the files that a client needs."""

    def __init__(self, folder: Path) -> None:
        tokens = folder / "tokens.json"
        self.token = add_token(tokens, "alice", admin=False)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(CA.certificate)
        self.foreign = Authority().certificate
        self.certificate, self.key = CA.issue("carol").write(folder, "carol")
        certificate, key = CA.issue("server").write(folder, "server")
        self.plain = ServerProcess("--tokens", str(tokens))
        tls = ["--tls-certificate", certificate, "--tls-key", key]
        self.tls = ServerProcess(*tls, "--tokens", str(tokens), credentials=CA.trust())
        self.mutual = ServerProcess(*tls, "--client-ca", str(self.ca), credentials=CA.trust())


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    made = Servers(tmp_path_factory.mktemp("credentials"))
    with made.plain, made.tls, made.mutual:
        yield made


def accepted_credentials(servers: Servers) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields (address, name of the client, credentials that the server accepts)."""
    yield servers.plain.address, "alice", {"token": servers.token}
    yield servers.tls.address, "alice", {"token": servers.token, "root_certificates": str(servers.ca)}
    yield servers.tls.address, "alice", {"token": servers.token, "tls": True, "root_certificates": CA.certificate}
    pair: dict[str, Any] = {"certificate": servers.certificate, "private_key": Path(servers.key)}
    yield servers.mutual.address, "carol", {"root_certificates": servers.ca, **pair}
    read = {name: Path(path).read_bytes() for name, path in pair.items()}
    yield servers.mutual.address, "carol", {"root_certificates": CA.certificate, **read}


def test_servers_accept_clients_with_the_right_credentials(servers):
    for address, _, credentials in accepted_credentials(servers):
        with gramophone.Client(address, **credentials) as client:
            job = client.style(png(), **SMALL)
            assert len(list(job)) >= 1
            assert job.result().image.size == (32, 32)
            assert client.job(job.id).info().state == "succeeded"
            assert next(client.jobs()).id == job.id
            assert client.models()


async def test_servers_accept_async_clients_with_the_right_credentials(servers):
    for address, _, credentials in accepted_credentials(servers):
        async with gramophone.aio.Client(address, **credentials) as client:
            job = await client.style(png(), **SMALL)
            assert [frame async for frame in job]
            assert (await job.result()).image.size == (32, 32)
            assert (await (await client.job(job.id)).info()).state == "succeeded"
            assert await client.models()


def test_calls_to_loopback_do_not_use_a_proxy(servers):
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "no_grpc_proxy": ""}
    done = gramophone_command(
        "jobs", "list", "--server", servers.plain.address, GRAMOPHONE_TOKEN=servers.token, **proxy
    )
    assert done.returncode == 0, done.stderr


def test_a_missing_or_wrong_token_is_an_unauthenticated_error(servers):
    wrong: tuple[dict[str, Any], ...] = ({}, {"token": "gramophone_wrong"})
    for credentials in wrong:
        with gramophone.Client(servers.plain.address, **credentials) as client:
            with pytest.raises(gramophone.UnauthenticatedError, match="rejects this client"):
                client.style(png(), **SMALL)
            with pytest.raises(gramophone.UnauthenticatedError, match="rejects this client"):
                client.models()


async def test_a_wrong_token_is_an_unauthenticated_error_in_async_clients(servers):
    async with gramophone.aio.Client(servers.plain.address, token="gramophone_wrong") as client:
        with pytest.raises(gramophone.UnauthenticatedError, match="not known here"):
            await client.style(png(), **SMALL)
        with pytest.raises(gramophone.UnauthenticatedError, match="not known here"):
            await client.models()


def test_an_unknown_job_is_not_found(servers):
    with gramophone.Client(servers.plain.address, token=servers.token) as client:
        assert client.style(png(), **SMALL).result().image
        with pytest.raises(gramophone.NotFoundError, match="is not known"):
            client.job("0" * 30)


@pytest.mark.parametrize("where", ["tls", "mutual", "plain"])
def test_a_failed_tls_handshake_is_an_error_that_names_the_certificate(servers, where):
    server = getattr(servers, where)
    with gramophone.Client(server.address, token=servers.token, root_certificates=servers.foreign) as client:
        with pytest.raises(gramophone.UnavailableError, match=r"no encrypted connection to .* certificate"):
            client.models()


def test_a_closed_connection_is_an_error_that_suggests_tls_or_a_certificate(servers):
    expired = CA.issue("carol", days=-1)
    for credentials in (
        {},
        {"root_certificates": servers.ca},
        {"root_certificates": servers.ca, "certificate": expired.certificate, "private_key": expired.key},
    ):
        with gramophone.Client(servers.mutual.address, retry_for=0, **credentials) as client:
            with pytest.raises(gramophone.UnavailableError, match=r"Does it require TLS, or a client certificate\?"):
                client.models()


def test_a_token_is_sent_unencrypted_to_loopback_only():
    for target in (
        "example.org:50051",
        "192.0.2.1:50051",
        "dns:///example.org:443",
        "[2001:db8::1]:50051",
        "0.0.0.0:1",
    ):
        for twin in (gramophone.Client, gramophone.aio.Client):
            with pytest.raises(ValueError, match=r"would be sent to .* unencrypted; give tls=True"):
                twin(target, token="gramophone_secret")
        Credentials(token="gramophone_secret", insecure=True).channel(target, []).close()
        Credentials(token="gramophone_secret", tls=True).channel(target, []).close()
    loopback = ("localhost", "localhost:1", "127.0.0.1:1", "[::1]:1", "::1", "unix:/tmp/x", "dns:///localhost:1")
    for target in (*loopback, "ipv4:127.0.0.1:1", "ipv6:[::1]:1"):
        Credentials(token="gramophone_secret").channel(target, []).close()


@pytest.mark.parametrize("token", ["", " ", "two\nlines", "ümlaut", "x\0"])
def test_an_invalid_token_is_an_error_that_does_not_show_it(token):
    with pytest.raises(ValueError, match="token is not valid") as caught:
        gramophone.Client(token=token)
    assert "two" not in str(caught.value)


def test_incomplete_or_missing_certificate_files_are_errors(servers):
    with pytest.raises(ValueError, match="certificate and private_key go together"):
        gramophone.Client(certificate=servers.certificate)
    with pytest.raises(FileNotFoundError):
        gramophone.Client(root_certificates="nowhere.pem")


def test_loopback_addresses_are_recognized():
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "localhost.example", "127.0.0.1.example", "10.0.0.1")))


def test_representations_hide_secrets():
    assert "secret" not in repr(Credentials(token="gramophone_secret"))


def gramophone_command(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gramophone", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_the_command_line_accepts_all_kinds_of_credentials(servers, tmp_path):
    (tmp_path / "picture.png").write_bytes(png())
    small = ["--size", "32", "--iterations", "4", "-o", tmp_path / "out.png"]
    style = ["style", tmp_path / "picture.png", *small]
    pair = ["--cert", servers.certificate, "--key", servers.key]
    accepted: list[tuple[list[object], dict[str, str]]] = [
        (["--server", servers.plain.address], {"GRAMOPHONE_TOKEN": servers.token}),
        (["--server", servers.plain.address, "--token", servers.token], {}),
        (["--server", servers.tls.address, "--ca", servers.ca], {"GRAMOPHONE_TOKEN": servers.token}),
        (["--server", servers.mutual.address, "--ca", servers.ca, *pair], {}),
    ]
    for args, environment in accepted:
        done = quick.gramophone(*style, *args, **environment)
        assert done.returncode == 0, done.stderr
        listed = quick.gramophone("jobs", "list", *args, **environment)
        assert "succeeded" in listed.stdout, listed.stderr


def test_the_command_line_says_why_it_is_refused(servers):
    for args, words in (
        (["--server", servers.plain.address], "requires authentication: give --token TOKEN"),
        (["--server", servers.tls.address, "--tls"], "no encrypted connection"),
        (["--server", "example.org:50051", "--token", servers.token], "unencrypted"),
        (["--server", servers.tls.address, "--ca", "nowhere.pem"], "'nowhere.pem' does not exist"),
    ):
        done = quick.gramophone("jobs", "list", *args)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert servers.token not in done.stderr
