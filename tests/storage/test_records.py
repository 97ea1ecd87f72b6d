"""An unreadable row affects only its own job."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gramophone_server.messages.events import Result, State
from gramophone_server.messages.spec import JobSpec
from gramophone_server.storage import codec
from gramophone_server.storage.database import events as event_rows
from gramophone_server.storage.database import jobs, open_engine
from gramophone_server.storage.query import Query
from gramophone_server.storage.quotas import Retention
from tests import databases

from .stores import events, make, opened, result, run, spec_of, stored_job

pytestmark = pytest.mark.usefixtures("each_database")


def without(text: str, field: str) -> str:
    values = json.loads(text)
    del values[field]
    return json.dumps(values)


def with_fields(text: str, **fields: Any) -> str:
    return json.dumps(json.loads(text) | fields)


def options_of(text: str) -> str:
    return json.dumps(json.loads(text)["options"])


BROKEN = {
    "lacks a field": lambda text: without(text, "levels"),
    "has an unknown field": lambda text: with_fields(text, grain=3),
    "another kind": lambda text: with_fields(text, kind="sculpture"),
    "null": lambda text: with_fields(text, width=None),
    "invalid version": lambda text: with_fields(text, version="two"),
    "lone surrogate": lambda text: with_fields(text, options=json.loads(with_fields(options_of(text), model="\ud800"))),
    "a picture that lacks a field": lambda text: with_fields(text, content={"width": 3}),
    "no JSON": lambda text: text[:-1],
    "not an object": lambda text: "[]",
    "deeply nested": lambda text: "[" * 100_000,
    "empty": lambda text: "",
}


def change(folder: Path, job_id: str, **values: Any) -> None:
    """Changes columns of a job's row; a function gets the old value and returns the new one."""
    engine = engine_of(folder)
    with engine.begin() as connection:
        row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one()
        changed = {name: value(row[name]) if callable(value) else value for name, value in values.items()}
        connection.execute(jobs.update().where(jobs.c.id == job_id).values(**changed))
    engine.dispose()


def change_event(folder: Path, job_id: str, number: int, **values: Any) -> None:
    engine = engine_of(folder)
    with engine.begin() as connection:
        wanted = event_rows.c.job_id == job_id, event_rows.c.sequence == number
        connection.execute(event_rows.update().where(*wanted).values(**values))
    engine.dispose()


def engine_of(folder: Path) -> sa.Engine:
    return open_engine(databases.of_folder(folder) or f"sqlite:///{folder / 'jobs.sqlite'}")


async def fill(folder: Path) -> None:
    """Stores two ended jobs (0001, 0002) and two queued jobs (0003, 0004)."""
    async with opened(folder) as (store, _):
        for number in (1, 2):
            job = make(number)
            await store.add(job, spec_of(b"abc"))
            await run(store, job, 2, result(b"picture"))
        for number in (3, 4):
            await store.add(make(number), spec_of(b"abc"))


@pytest.mark.parametrize("how", BROKEN)
async def test_a_job_with_an_unreadable_spec_fails(tmp_path, how, caplog):
    await fill(tmp_path)
    for job_id in ("0001", "0003"):
        change(tmp_path, job_id, spec=BROKEN[how])
    with caplog.at_level(logging.ERROR):
        async with opened(tmp_path) as (store, unfinished):
            assert [job.id for job in unfinished] == ["0004"]
            assert [job.id for job in await store.find(Query(10))] == ["0004", "0003", "0002", "0001"]
            # The result of an ended job can still be read.
            ended = await stored_job(store, "0001")
            assert ended.state is State.SUCCEEDED and ended.outcome.image.data == b"picture"
            assert ended.spec.kind == "style" and ended.spec.model == ended.spec.model
            waited = await stored_job(store, "0003")
            assert waited.state is State.FAILED and waited.outcome.code == "DATA_LOSS"
            assert "spec" in waited.outcome.message
            assert [event.state for event in await events(store, waited)] == [State.QUEUED, State.FAILED]
            for _ in range(3):
                await store.find(Query(10))
            await store.delete(ended)
            await store.delete(waited)
            assert [job.id for job in await store.find(Query(10))] == ["0004", "0002"]
            await store.delete_old()
    assert len([line for line in caplog.messages if "cannot be read" in line]) == 2


async def test_a_job_with_a_spec_of_a_later_version_fails(tmp_path):
    await fill(tmp_path)
    for job_id in ("0001", "0003"):
        change(tmp_path, job_id, spec=lambda text: with_fields(text, version=99, grain=3))
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0004"]
        assert (await stored_job(store, "0001")).state is State.SUCCEEDED
        failure = (await stored_job(store, "0003")).outcome
        assert failure.code == "FAILED_PRECONDITION"
        assert failure.message.startswith("A later version of gramophone stored the job: its spec is of version 99")


async def test_a_job_fails_on_any_exception_while_its_row_is_read(tmp_path, monkeypatch):
    await fill(tmp_path)
    decode = codec.decode_spec

    def fail(text: str) -> JobSpec:
        if "grain" in text:
            raise ZeroDivisionError("by chance")
        return decode(text)

    for job_id in ("0001", "0003"):
        change(tmp_path, job_id, spec=lambda text: with_fields(text, grain=3))
    monkeypatch.setattr(codec, "decode_spec", fail)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0004"]
        assert len(await store.find(Query(10))) == 4
        assert (await stored_job(store, "0001")).state is State.SUCCEEDED
        failed = await stored_job(store, "0003")
        assert failed.state is State.FAILED and "ZeroDivisionError: by chance" in failed.outcome.message
        await store.delete(failed)


async def test_an_old_unreadable_job_is_kept_as_long_as_other_jobs(tmp_path):
    await fill(tmp_path)
    change(tmp_path, "0003", spec="{", create_time=1.0)
    async with opened(tmp_path) as (store, _):
        await store.delete_old()
        assert (await stored_job(store, "0003")).state is State.FAILED


async def test_the_failure_of_an_unreadable_job_is_stored(tmp_path):
    await fill(tmp_path)
    change(tmp_path, "0003", spec="{")
    for _ in range(2):
        async with opened(tmp_path) as (store, unfinished):
            assert [job.id for job in unfinished] == ["0004"]
            (job,) = await store.find(Query(10, states=(State.FAILED,)))
            assert job.id == "0003" and job.end_time is not None


async def test_a_missing_option_gets_its_default(tmp_path):
    await fill(tmp_path)
    change(
        tmp_path, "0003", spec=lambda text: with_fields(text, options=json.loads(without(options_of(text), "plateau")))
    )
    async with opened(tmp_path) as (_, unfinished):
        assert [job.id for job in unfinished] == ["0003", "0004"]
        assert unfinished[0].spec.options.plateau == 0


@pytest.mark.parametrize(
    "detail",
    ["{", "null", "[]", '{"image": 3}', '{"loss": "much"}', None],
    ids=["no JSON", "null", "list", "other fields", "other types", "nothing"],
)
async def test_a_job_with_an_unreadable_end_is_failed(tmp_path, detail):
    await fill(tmp_path)
    change_event(tmp_path, "0001", 5, detail=detail)
    async with opened(tmp_path) as (store, _):
        (listed,) = [job for job in await store.find(Query(10)) if job.id == "0001"]
        assert listed.state is State.FAILED
        job = await stored_job(store, "0001")
        assert job.outcome.code == "DATA_LOSS" and "the job's end" in job.outcome.message
        assert (await events(store, job))[-1].state is State.FAILED
        assert isinstance((await stored_job(store, "0002")).outcome, Result)
        await store.delete(job)
        assert await store.get("0001") is None


@pytest.mark.parametrize("detail", ["{", '{"iteration": 1}', '{"iteration": -5, "iterations": 1e300}'])
async def test_unreadable_progress_is_left_out(tmp_path, detail):
    await fill(tmp_path)
    for sequence in (3, 4):
        change_event(tmp_path, "0001", sequence, detail=detail)
    async with opened(tmp_path) as (store, _):
        job = await stored_job(store, "0001")
        assert job.state is State.SUCCEEDED and job.progress is None
        found = await events(store, job)
        assert [event.sequence for event in found] == [1, 2, 3, 4, 5]
        assert found[2].detail is None


@pytest.mark.parametrize("state", ["paused", "", "SUCCEEDED"])
async def test_unknown_states_of_ended_and_queued_jobs(tmp_path, state):
    await fill(tmp_path)
    for job_id in ("0001", "0003"):
        change(tmp_path, job_id, state=state)
    change_event(tmp_path, "0002", 2, state=state)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0004"]
        found = {job.id: job.state for job in await store.find(Query(10))}
        assert found["0001"] is State.SUCCEEDED
        assert found["0002"] is State.SUCCEEDED
        assert found["0003"] is State.FAILED


async def test_an_ended_job_without_events_is_failed(tmp_path):
    await fill(tmp_path)
    engine = engine_of(tmp_path)
    with engine.begin() as connection:
        connection.execute(event_rows.delete().where(event_rows.c.job_id.in_(["0001", "0003"])))
    engine.dispose()
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0003", "0004"]
        job = await stored_job(store, "0001")
        assert job.state is State.FAILED and "no record" in job.outcome.message


async def test_the_events_have_precedence_over_the_state_of_the_row(tmp_path):
    await fill(tmp_path)
    change(tmp_path, "0001", state="running", end_time=None)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0003", "0004"]
        (job,) = await store.find(Query(1, states=(State.SUCCEEDED,), oldest_first=True))
        assert job.id == "0001" and job.end_time is not None


@pytest.mark.parametrize("sequence", [2**30, 2**31 - 1, 2**63 - 1])
async def test_a_job_can_end_after_a_huge_sequence_number(tmp_path, sequence):
    await fill(tmp_path)
    change(tmp_path, "0004", spec="{")
    for job_id in ("0003", "0004"):
        change_event(tmp_path, job_id, 1, sequence=sequence)
    async with opened(tmp_path) as (store, unfinished):
        assert [job.id for job in unfinished] == ["0003"]
        await run(store, unfinished[0], 2, result(b"picture"))
        assert len(await events(store, await stored_job(store, "0001"))) == 5
    async with opened(tmp_path) as (store, unfinished):
        assert unfinished == []
        states = [(await stored_job(store, job_id)).state for job_id in ("0003", "0004")]
        assert states == [State.SUCCEEDED, State.FAILED]


@pytest.mark.usefixtures("needs_sqlite")
async def test_invalid_values_that_only_sqlite_stores_fail_their_jobs(tmp_path):
    await fill(tmp_path)
    engine = engine_of(tmp_path)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET spec = '{' WHERE id = '0004'")
        connection.exec_driver_sql(
            "UPDATE jobs SET spec = CAST(x'7bff' AS TEXT), model = CAST(x'ff' AS TEXT) WHERE id = '0003'"
        )
        connection.exec_driver_sql("UPDATE events SET sequence = 'x' WHERE job_id IN ('0003', '0004')")
        connection.exec_driver_sql("UPDATE blobs SET size = 'x'")
    engine.dispose()
    async with opened(tmp_path, retention=Retention(bytes=1)) as (store, unfinished):
        assert unfinished == []
        found = {job.id: job.state for job in await store.find(Query(10))}
        assert found["0003"] is found["0004"] is State.FAILED
        await store.check_room("alice")
        await store.delete_old()


@pytest.mark.usefixtures("needs_sqlite")
@pytest.mark.parametrize("value", ["soon", b"\xff\xfe", 1e300, -5.0])
async def test_columns_with_values_of_another_type_are_read(tmp_path, value):
    """SQLite stores values of any type; PostgreSQL does not."""
    await fill(tmp_path)
    columns = ("create_time", "end_time", "start_time", "attempts", "priority", "owner", "request_id", "model")
    engine = engine_of(tmp_path)
    with engine.begin() as connection:
        for column in columns:
            connection.exec_driver_sql(f"UPDATE jobs SET {column} = ? WHERE id = '0001'", (value,))
        connection.exec_driver_sql("UPDATE events SET time = ? WHERE job_id = '0001'", (value,))
        connection.exec_driver_sql("UPDATE events SET sequence = 'x' WHERE job_id = '0002' AND sequence = 3")
    engine.dispose()
    async with opened(tmp_path, retention=Retention(1e12)) as (store, _):
        found = {job.id: job.state for job in await store.find(Query(10))}
        assert found == {"0001": State.SUCCEEDED, "0002": State.SUCCEEDED, "0003": State.QUEUED, "0004": State.QUEUED}
        assert len(await events(store, await stored_job(store, "0002"))) == 4
        await store.delete(await stored_job(store, "0001"))
        await store.delete_old()
        assert len(await store.find(Query(10))) == 3
