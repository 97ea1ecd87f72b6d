"""Removal of files while other fronts delete and add jobs."""

import pytest
import sqlalchemy as sa

from gramophone_server.storage.database import freed, jobs
from gramophone_server.storage.removal import delete_jobs
from tests.storage.stores import stored

from .fronts import fronts, submit


@pytest.fixture
def url(shared_postgres) -> str:
    return shared_postgres.make()


@pytest.mark.slow
async def test_a_file_that_two_fronts_free_at_once_is_removed(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        first, second = await submit(one, b"shared"), await submit(other, b"shared")
        with one._archive.transactions.writing() as deleting:
            delete_jobs(deleting, jobs.c.id == first.id)
            # The other front still sees the first job, so that the file is in use.
            with other._archive.transactions.writing() as connection:
                delete_jobs(connection, jobs.c.id == second.id)
            other._archive.stored.remove_unused()
            assert stored(tmp_path) == {b"shared"}
        one._archive.stored.remove_unused()
        assert stored(tmp_path) == set()
        with one._engine.connect() as connection:
            assert connection.execute(sa.select(freed.c.id)).all() == []


@pytest.mark.slow
async def test_files_are_not_removed_while_another_front_writes_some(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        job = await submit(one, b"again")
        with one._archive.transactions.writing() as connection:
            delete_jobs(connection, jobs.c.id == job.id)
        with one._archive.transactions.writing() as writing:
            one._archive.transactions.rights.keep_files(writing)
            other._archive.stored.remove_unused()
            assert stored(tmp_path) == {b"again"}
        other._archive.stored.remove_unused()
        assert stored(tmp_path) == set()
