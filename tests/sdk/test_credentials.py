"""What clients show and whom they trust, of both twins and the command line, against real servers."""

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
from tests.harness import ServerProcess, png

SMALL: dict[str, Any] = {"size": 32, "iterations": 4, "report_every": 2}
OURS = Authority()


class Places:
    """A plaintext server and an encrypted one that share a file of tokens, and the files that a client needs."""

    def __init__(self, folder: Path) -> None:
        tokens = folder / "tokens.json"
        self.token = add_token(tokens, "alice", admin=False)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(OURS.certificate)
        self.foreign = Authority().certificate
        self.certificate, self.key = OURS.issue("carol").write(folder, "carol")
        certificate, key = OURS.issue("server").write(folder, "server")
        self.plain = ServerProcess("--tokens", str(tokens))
        tls = ["--tls-certificate", certificate, "--tls-key", key]
        self.tls = ServerProcess(*tls, "--tokens", str(tokens), credentials=OURS.trust())
        self.mutual = ServerProcess(*tls, "--client-ca", str(self.ca), credentials=OURS.trust())


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> Iterator[Places]:
    made = Places(tmp_path_factory.mktemp("credentials"))
    with made.plain, made.tls, made.mutual:
        yield made


def ways(places: Places) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each server with the credentials that open it, and who one is then."""
    yield places.plain.address, "alice", {"token": places.token}
    yield places.tls.address, "alice", {"token": places.token, "root_certificates": str(places.ca)}
    yield places.tls.address, "alice", {"token": places.token, "tls": True, "root_certificates": OURS.certificate}
    pair = {"certificate": places.certificate, "private_key": Path(places.key)}
    yield places.mutual.address, "carol", {"root_certificates": places.ca, **pair}
    read = {name: Path(path).read_bytes() for name, path in pair.items()}
    yield places.mutual.address, "carol", {"root_certificates": OURS.certificate, **read}


def test_they_open_the_right_doors(places):
    for address, _, credentials in ways(places):
        with gramophone.Client(address, **credentials) as client:
            job = client.style(png(), **SMALL)
            assert len(list(job)) >= 1
            assert job.result().image.size == (32, 32)
            assert client.job(job.id).info().state == "succeeded"
            assert next(client.jobs()).id == job.id
            assert client.models()


async def test_they_do_so_with_await(places):
    for address, _, credentials in ways(places):
        async with gramophone.aio.Client(address, **credentials) as client:
            job = await client.style(png(), **SMALL)
            assert [frame async for frame in job]
            assert (await job.result()).image.size == (32, 32)
            assert (await (await client.job(job.id)).info()).state == "succeeded"
            assert await client.models()


def test_what_is_for_this_machine_does_not_go_through_a_proxy(places):
    proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "no_grpc_proxy": ""}
    done = gramophone_command("jobs", "list", "--server", places.plain.address, GRAMOPHONE_TOKEN=places.token, **proxy)
    assert done.returncode == 0, done.stderr


def test_a_client_that_is_refused(places):
    for credentials in ({}, {"token": "gramophone_wrong"}):
        with gramophone.Client(places.plain.address, **credentials) as client:
            with pytest.raises(gramophone.UnauthenticatedError, match="refuses this client"):
                client.style(png(), **SMALL)
            with pytest.raises(gramophone.UnauthenticatedError, match="refuses this client"):
                client.models()


async def test_a_client_that_is_refused_with_await(places):
    async with gramophone.aio.Client(places.plain.address, token="gramophone_wrong") as client:
        with pytest.raises(gramophone.UnauthenticatedError, match="not known here"):
            await client.style(png(), **SMALL)
        with pytest.raises(gramophone.UnauthenticatedError, match="not known here"):
            await client.models()


def test_jobs_of_others_are_not_found(places):
    with gramophone.Client(places.plain.address, token=places.token) as client:
        assert client.style(png(), **SMALL).result().image
        with pytest.raises(gramophone.NotFoundError, match="is not known"):
            client.job("0" * 30)


@pytest.mark.parametrize("where", ["tls", "mutual", "plain"])
def test_no_connection_is_an_error_that_says_what_to_look_at(places, where):
    server = getattr(places, where)
    with gramophone.Client(server.address, token=places.token, root_certificates=places.foreign) as client:
        with pytest.raises(gramophone.UnavailableError, match=r"no encrypted connection to .* certificate"):
            client.models()


def test_a_door_that_is_shut_without_a_word_is_hinted_at(places):
    expired = OURS.issue("carol", days=-1)
    for credentials in (
        {},
        {"root_certificates": places.ca},
        {"root_certificates": places.ca, "certificate": expired.certificate, "private_key": expired.key},
    ):
        with gramophone.Client(places.mutual.address, retry_for=0, **credentials) as client:
            with pytest.raises(gramophone.UnavailableError, match=r"Does it want TLS, or a certificate\?"):
                client.models()


def test_a_token_in_plaintext_goes_nowhere_but_loopback():
    for target in (
        "example.org:50051",
        "192.0.2.1:50051",
        "dns:///example.org:443",
        "[2001:db8::1]:50051",
        "0.0.0.0:1",
    ):
        for twin in (gramophone.Client, gramophone.aio.Client):
            with pytest.raises(ValueError, match=r"would travel to .* unencrypted; give tls=True"):
                twin(target, token="gramophone_secret")
        Credentials(token="gramophone_secret", insecure=True).channel(target, []).close()
        Credentials(token="gramophone_secret", tls=True).channel(target, []).close()
    loopback = ("localhost", "localhost:1", "127.0.0.1:1", "[::1]:1", "::1", "unix:/tmp/x", "dns:///localhost:1")
    for target in (*loopback, "ipv4:127.0.0.1:1", "ipv6:[::1]:1"):
        Credentials(token="gramophone_secret").channel(target, []).close()


@pytest.mark.parametrize("token", ["", " ", "two\nlines", "ümlaut", "x\0"])
def test_what_is_no_token(token):
    with pytest.raises(ValueError, match="token is not one that") as caught:
        gramophone.Client(token=token)
    assert "two" not in str(caught.value)


def test_arguments_that_do_not_fit(places):
    with pytest.raises(ValueError, match="certificate and private_key go together"):
        gramophone.Client(certificate=places.certificate)
    with pytest.raises(FileNotFoundError):
        gramophone.Client(root_certificates="nowhere.pem")


def test_what_is_loopback():
    assert all(map(is_loopback, ("localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]")))
    assert not any(map(is_loopback, ("", "0.0.0.0", "::", "localhost.example", "127.0.0.1.example", "10.0.0.1")))


def test_secrets_do_not_show_in_what_is_printed():
    assert "secret" not in repr(Credentials(token="gramophone_secret"))


def gramophone_command(*args: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gramophone", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_the_command_line(places, tmp_path):
    (tmp_path / "picture.png").write_bytes(png())
    small = ["--size", "32", "--iterations", "4", "-o", tmp_path / "out.png"]
    style = ["style", tmp_path / "picture.png", *small]
    doors: list[tuple[list[object], dict[str, str]]] = [
        (["--server", places.plain.address], {"GRAMOPHONE_TOKEN": places.token}),
        (["--server", places.plain.address, "--token", places.token], {}),
        (["--server", places.tls.address, "--ca", places.ca], {"GRAMOPHONE_TOKEN": places.token}),
        (["--server", places.mutual.address, "--ca", places.ca, "--cert", places.certificate, "--key", places.key], {}),
    ]
    for args, environment in doors:
        done = gramophone_command(*style, *args, **environment)
        assert done.returncode == 0, done.stderr
        listed = gramophone_command("jobs", "list", *args, **environment)
        assert "succeeded" in listed.stdout, listed.stderr


def test_the_command_line_refused(places):
    for args, words in (
        (["--server", places.plain.address], "asks who calls: give --token TOKEN"),
        (["--server", places.tls.address, "--tls"], "no encrypted connection"),
        (["--server", "example.org:50051", "--token", places.token], "unencrypted"),
        (["--server", places.tls.address, "--ca", "nowhere.pem"], "'nowhere.pem' does not exist"),
    ):
        done = gramophone_command("jobs", "list", *args)
        assert done.returncode in (1, 2)
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert places.token not in done.stderr
