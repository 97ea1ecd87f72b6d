"""Lets tests import the examples."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.harness import ServerProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# The examples are scripts that import each other: Python puts the folder of a script on its path.
sys.path.append(str(EXAMPLES))


@pytest.fixture(scope="module")
def program(server: ServerProcess) -> Iterator[Callable[[str], ModuleType]]:
    """Returns a function that imports a module of examples/programs, connected to the server of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES / "programs"))
        patch.setenv("GRAMOPHONE_SERVER", server.address)
        yield importlib.import_module
