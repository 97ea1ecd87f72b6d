"""Options of the test run, and fixtures that all tests share."""

import os

# Tests start programs while calls are open, and gRPC's fork handlers may wait for such calls forever.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# `gramophone` commands in tests neither use the user's background server nor leave one running; the tests of that
# server set a value of their own.
os.environ["GRAMOPHONE_KEEP"] = "0"

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.databases import each_database, needs_sqlite, shared_postgres  # noqa: F401 - fixtures
from tests.harness import ServerProcess
from tests.postgres import Postgres, postgres  # noqa: F401 - a fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the options of the fault suite; pytest reads options only from the outermost conftest.py."""
    group = parser.getgroup("faults")
    group.addoption("--long", action="store_true", help="Run the fault suite in its long form.")
    group.addoption("--postgres", action="store_true", help="Run servers and stores on a temporary PostgreSQL server.")
    group.addoption("--soak", type=float, metavar="MINUTES", help="Length of the soak test.  [default: 3 with --long]")


def pytest_configure(config: pytest.Config) -> None:
    """Lets programs that tests start receive signals, and starts the PostgreSQL server of --postgres."""
    # Under nohup or in the background of a shell, pytest ignores some signals, and its child processes inherit that.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if config.getoption("--postgres"):
        running = Postgres()
        config.add_cleanup(running.close)
        databases.use(running.url)


# Folders and fixtures whose tests start a service; `make test-fast` runs the other tests.
_SERVICE_FOLDERS = (
    "api",
    "cli",
    "clients",
    "deploy",
    "end_to_end",
    "examples",
    "faults",
    "http",
    "observability",
    "proxies",
    "security",
)
_SERVICE_FIXTURES = {"server", "flaky", "connect", "busy", "each_database", "postgres"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a running service."""
    root = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(root).parts[0]
        if folder in _SERVICE_FOLDERS or _SERVICE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the fault suite runs in its long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A real server that tests share; a test that stops or damages its server starts its own.

    It cancels a job of a client that has left after 2 seconds.
    """
    with ServerProcess("--disconnect-grace", "2", "--http", "127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real weights and pictures, GRAMOPHONE_TEST_ASSETS; skips the test where it is not set."""
    folder = os.environ.get("GRAMOPHONE_TEST_ASSETS")
    if not folder:
        pytest.skip("GRAMOPHONE_TEST_ASSETS is not set: no real weights and pictures to test with")
    return Path(folder).resolve()
