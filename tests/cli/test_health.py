"""`gramophone health`: a server that serves, one that does not, and none."""

import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from gramophone.v1 import job_service_pb2
from gramophone_server.security.tokens import add_token
from tests.certificates import Authority
from tests.harness import ServerProcess, wait_until
from tests.postgres import Postgres


def health(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process of its own, as probes do."""
    program = "from gramophone_server.cli.health import health; health(prog_name='gramophone health')"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_server_that_serves(server: ServerProcess) -> None:
    done = health("--server", server.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, "serving\n", "")


def test_a_server_with_tls_and_tokens_needs_no_token(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("server").write(tmp_path, "server")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    add_token(tmp_path / "tokens.json", "bob", admin=False)
    arguments = ("--tls-certificate", certificate, "--tls-key", key, "--tokens", str(tmp_path / "tokens.json"))
    with ServerProcess(*arguments, credentials=authority.trust()) as server:
        port = server.address.rpartition(":")[2]
        assert health("--server", f"localhost:{port}", "--ca", tmp_path / "ca.pem").returncode == 0
        done = health("--server", f"localhost:{port}", "--timeout", "2")
        assert done.returncode == 1
        assert "cannot be reached" in done.stderr


def test_a_server_that_does_not_serve_says_why(tmp_path: Path, postgres: Postgres) -> None:
    with ServerProcess("--data", str(tmp_path), "--database", postgres.make()) as server:
        postgres.stop("immediate")
        # An idle server notices it at the next use of the database.
        with pytest.raises(grpc.RpcError):
            server.jobs.ListJobs(job_service_pb2.ListJobsRequest())
        wait_until(lambda: health("--server", server.address).returncode == 1, "the end of serving")
        done = health("--server", server.address)
        postgres.start()
    assert done.stderr.startswith(f"Error: the server at {server.address} is not serving: ")
    assert "database" in done.stderr


def test_no_server_and_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        done = health("--server", f"127.0.0.1:{silent_port}", "--timeout", "1")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: the server at 127.0.0.1:{silent_port} cannot be reached: ")
    # The port has just been closed.
    assert "cannot be reached" in health("--server", f"127.0.0.1:{silent_port}", "--timeout", "2").stderr


@pytest.mark.parametrize("arguments", [("--timeout", "0"), ("--server", "https://localhost"), ("--ca", "nowhere.pem")])
def test_invalid_arguments_are_reported_in_sentences(arguments: tuple[str, ...]) -> None:
    done = health(*arguments)
    assert done.returncode == 2
    assert "Error: Invalid value" in done.stderr
    assert "Traceback" not in done.stderr
