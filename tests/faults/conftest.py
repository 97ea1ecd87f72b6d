import os

import pytest


@pytest.fixture(scope="session")
def long() -> bool:
    """Whether the suite runs in its long form, as `make faults` has it."""
    return os.environ.get("GRAMOPHONE_FAULTS") == "long"
