"""What every test of jobs begins with."""

import pytest

from gramophone_server.jobs.database import metadata, open_engine

from .stores import DATABASE


@pytest.fixture(autouse=True)
def empty_database() -> None:
    """Of the database that was named: its tables of ours are dropped for each test."""
    if DATABASE:
        engine = open_engine(DATABASE)
        metadata.drop_all(engine)
        engine.dispose()
