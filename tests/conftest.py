import os

# Programs are started here while calls are under way, and gRPC's own handlers of a fork may wait for those for ever.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# Commands of tests neither use a server of whoever runs them nor leave one behind, but where that is what is tested.
os.environ["GRAMOPHONE_KEEP"] = "0"

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import databases
from tests.databases import each_database, in_folder, postgres_of_session  # noqa: F401 - fixtures
from tests.harness import ServerProcess
from tests.postgres import Postgres, postgres  # noqa: F401 - a fixture


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the fault suite; here because pytest reads only the outermost conftest before it parses them."""
    group = parser.getgroup("faults")
    group.addoption("--long", action="store_true", help="Run the fault suite in its long form.")
    group.addoption("--postgres", action="store_true", help="Run servers and stores on a PostgreSQL of the tests' own.")
    group.addoption("--soak", type=float, metavar="MINUTES", help="Length of the soak.  [default: 3 with --long]")


def pytest_configure(config: pytest.Config) -> None:
    """Lets programs that tests start hear signals, and starts the PostgreSQL of --postgres."""
    # Below nohup, or in the background of a shell, pytest ignores some; what it starts would inherit that.
    for number in (signal.SIGHUP, signal.SIGINT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
    if config.getoption("--postgres"):
        running = Postgres()
        config.add_cleanup(running.close)
        databases.use(running.url)


# What starts processes of its own; the rest is what `make test-fast` runs.
_OF_SERVICE = ("api", "cli", "clients", "end_to_end", "examples", "faults", "observability", "proxies", "security")
_STARTS = {"server", "flaky", "connect", "busy", "each_database", "postgres"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a running service."""
    root = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(root).parts[0]
        if folder in _OF_SERVICE or _STARTS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.service)


@pytest.fixture(scope="session")
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the fault suite runs in its long form."""
    return bool(request.config.getoption("--long"))


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A real server, shared by all tests that leave it as they found it."""
    with ServerProcess() as running:
        yield running


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real weights and pictures, which tests may use but the project does not need."""
    folder = os.environ.get("GRAMOPHONE_TEST_ASSETS")
    if not folder:
        pytest.skip("GRAMOPHONE_TEST_ASSETS is not set: no real weights and pictures to test with")
    return Path(folder).resolve()
