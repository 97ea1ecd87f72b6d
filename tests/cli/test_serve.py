"""Servers configured by variables and a file, and embedded servers, which ignore most variables."""

from pathlib import Path

import grpc
import psutil
import pytest

from gramophone import EmbeddedServer, UnavailableError
from gramophone_server.settings import Settings, entries
from tests.harness import ServerProcess, run, style_request

# Variables with which an embedded server would not start, or could not be reached.
FOREIGN_VARIABLES = {
    "GRAMOPHONE_CONFIG": "nowhere.toml",
    "GRAMOPHONE_HOST": "192.0.2.1",
    "GRAMOPHONE_PORT": "1",
    "GRAMOPHONE_TOKENS": "nowhere.json",
    "GRAMOPHONE_TLS_CERTIFICATE": "nowhere.pem",
    "GRAMOPHONE_DATA": "/proc/nowhere",
    "GRAMOPHONE_MAX_PIXELS": "many",
    "GRAMOPHONE_LOG_LEVEL": "loud",
}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for entry in entries(Settings):
        monkeypatch.delenv(str(entry.variable), raising=False)


def refusal(server: ServerProcess, iterations: int) -> str:
    """The message with which the server refuses a job with too many iterations."""
    with pytest.raises(grpc.RpcError) as caught:
        run(server, style_request(iterations=iterations))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return str(caught.value.details())


def test_a_server_uses_its_file_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file := tmp_path / "server.toml").write_text("max_iterations = 5\nport = 1\nthreads = 1\n")
    with ServerProcess("--config", str(file)) as server:
        assert "5" in refusal(server, 6)
    monkeypatch.setenv("GRAMOPHONE_CONFIG", str(file))
    monkeypatch.setenv("GRAMOPHONE_MAX_ITERATIONS", "7")
    with ServerProcess() as server:
        assert "7" in refusal(server, 8)
        assert run(server, style_request(iterations=6)).iterations == 6


def test_a_database_password_is_not_passed_to_child_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMOPHONE_DATABASE", f"sqlite:///{tmp_path}/secret.sqlite")
    with ServerProcess("--data", str(tmp_path / "data")) as server:
        run(server, style_request())
        children = psutil.Process(server.process.pid).children(recursive=True)
        assert len(children) >= 2  # A worker and a decoder.
        for child in children:
            assert "GRAMOPHONE_DATABASE" not in child.environ()
            assert "secret" not in " ".join(child.cmdline())


def test_an_embedded_server_ignores_variables_for_other_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FOREIGN_VARIABLES.items():
        monkeypatch.setenv(name, value)
    with EmbeddedServer() as server:
        assert server.address.startswith("127.0.0.1:")


def test_an_embedded_server_uses_variables_that_describe_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAMOPHONE_DEVICE", "gpu")
    with pytest.raises(UnavailableError, match=r"\$GRAMOPHONE_DEVICE: 'gpu' cannot be a device"), EmbeddedServer():
        pass
