import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import ServerProcess


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
