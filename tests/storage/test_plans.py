"""The calls of clients do not read all rows of a table; a store with many ended jobs answers them like an empty one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from gramophone_server.messages.events import State
from gramophone_server.storage.query import Query
from gramophone_server.storage.store import JobStore

from .stores import events, make, opened, result, run, spec_of

pytestmark = pytest.mark.usefixtures("needs_sqlite")

# Tables that grow with the number of ended jobs.
LARGE = ("jobs", "events", "blobs", "job_blobs")


@contextmanager
def statements(store: JobStore) -> Iterator[list[tuple[str, Any]]]:
    """Yields the list of the statements that the store executes, with their parameters."""
    executed: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        executed.append((statement, parameters[0] if many else parameters))

    sa.event.listen(store._engine, "before_cursor_execute", note)
    yield executed
    sa.event.remove(store._engine, "before_cursor_execute", note)


def scans(store: JobStore, executed: list[tuple[str, Any]]) -> set[str]:
    """Returns the statements that read all rows of a large table, or sort jobs."""
    found = set()
    with store._engine.connect() as connection:
        for statement, parameters in executed:
            if re.match(r"SELECT|UPDATE|DELETE|INSERT", statement):
                plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
                scanned = any(re.match(rf"SCAN ({'|'.join(LARGE)})\b", step) for step in plan)
                if scanned or ("FROM jobs" in statement and "USE TEMP B-TREE FOR ORDER BY" in plan):
                    found.add(statement)
    return found


async def test_the_life_of_a_job_scans_no_table(tmp_path):
    async with opened(tmp_path) as (store, _):
        await store.delete_old()  # counts the bytes of all files once
        with statements(store) as executed:
            job = make(2, owner="me", request_id="second")
            await store.add(job, spec_of(b"second"))
            await run(store, job, 3, result())
            assert await store.get(job.id) is not None
            assert await store.submitted_as("me", "second") is not None
            assert await events(store, job)
            await store.uploads.add("me", b"file")
            await store.delete(job)
            await store.delete_old()
        assert len(executed) > 20
        assert scans(store, executed) == set()


QUERIES = {
    "one state": Query(20, (State.SUCCEEDED,)),
    "several states": Query(20, (State.SUCCEEDED, State.FAILED, State.QUEUED)),
    "of an owner": Query(20, owner="me"),
    "of an owner in a state": Query(20, (State.FAILED,), owner="me"),
    "a page in the middle": Query(20, after="0005"),
    "a page in the middle of a state": Query(20, (State.SUCCEEDED,), after="0005"),
    "the oldest first": Query(20, (State.SUCCEEDED,), oldest_first=True, after="0005"),
}


@pytest.mark.parametrize("name", QUERIES)
async def test_a_page_of_a_list_scans_no_table(tmp_path, name):
    async with opened(tmp_path) as (store, _):
        await store.delete_old()
        with statements(store) as executed:
            await store.find(QUERIES[name])
        assert executed
        assert scans(store, executed) == set()


async def test_several_states_are_in_one_order(tmp_path):
    async with opened(tmp_path) as (store, _):
        outcomes = [result(), None, result(), None, result()]
        for number, outcome in enumerate(outcomes, 1):
            job = make(number)
            await store.add(job, spec_of(b"abc"))
            await run(store, job, 0, outcome)
        both = (State.SUCCEEDED, State.CANCELLED, State.SUCCEEDED)
        assert [job.id for job in await store.find(Query(3, both))] == ["0005", "0004", "0003"]
        assert [job.id for job in await store.find(Query(3, both, after="0003"))] == ["0002", "0001"]
        assert [job.id for job in await store.find(Query(2, both, oldest_first=True))] == ["0001", "0002"]
        assert [job.id for job in await store.find(Query(9, (State.CANCELLED,)))] == ["0004", "0002"]
