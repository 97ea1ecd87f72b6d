"""Leases of jobs: order, limits, and what happens to jobs whose front is gone."""

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
import sqlalchemy as sa

from gramophone_server.messages.events import Failure, State
from gramophone_server.scheduling.queue import HALF_LIFE, FairQueue
from gramophone_server.storage.cluster.leases import QueueRules
from gramophone_server.storage.cluster.membership import Membership, renew, take_over_expired
from gramophone_server.storage.database import fronts as fronts_table
from gramophone_server.storage.errors import AlreadySubmittedError
from gramophone_server.storage.job import SEQUENCE_GAP, Job
from tests.harness import wait_until
from tests.storage.stores import opened, progress, result, spec_of, stored_job

from .fronts import RULES, event_with, front, fronts, start, states, submit, take


@pytest.fixture
def url(shared_postgres) -> str:
    return shared_postgres.make()


async def revoke(store, by) -> None:
    """Lets the leases of a front expire, and another front take them over."""
    expire(store)
    assert take_over_expired(by._engine, at_once(by), by.folder) == 1


def at_once(store) -> Membership:
    """Returns the membership of a front as if the database had started more than a lease ago."""
    return Membership(store._joiner.member.token, 0.0)


async def test_each_job_is_leased_once(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        jobs = [await submit(one) for _ in range(24)]
        found = await asyncio.gather(*(take(store) for store in (one, other) for _ in range(13)))
        assert sorted(job.id for job in found if job) == [job.id for job in jobs]
        assert await take(one) is None


@pytest.mark.parametrize("seed", range(3))
async def test_the_order_is_that_of_a_single_server(tmp_path, url, seed):
    """The reference is FairQueue: same jobs, same charges, the same maximum of running jobs."""
    rng = random.Random(seed)
    queue, rules = FairQueue(3), QueueRules(3, HALF_LIFE)
    async with fronts(url, tmp_path) as (one, other):
        running: list[Job] = []
        for _ in range(60):
            store = rng.choice((one, other))
            match rng.randrange(4):
                case 0 | 1:
                    job = await submit(store, owner=rng.choice("abc"), priority=rng.randrange(3))
                    queue.push(job)
                case 2:
                    seconds = rng.choice((1.0, 20.0, 400.0))
                    expected = await queue.next(lambda job: True, seconds, ())
                    found = await store.take(rules, (), seconds, None)
                    assert (found and found.id) == (expected and expected.id)
                    if found is not None:
                        running.append(found)
                case 3 if running:
                    job = running.pop(rng.randrange(len(running)))
                    used = rng.choice((0.5, 3.0, 90.0))
                    await store.settle(job.owner, used, rules)
                    queue.charge(job.owner, used)
                    queue.done(job)
                    holder = one if job.id in one._live else other
                    await holder.end(job, result())


async def test_a_job_left_out_is_not_leased(tmp_path, url):
    async with front(url, tmp_path) as store:
        first, second = await submit(store), await submit(store)
        found = await store.take(RULES, (first.id,), 1.0, None)
        assert found is not None and found.id == second.id
        assert await store.take(RULES, (), 1.0, second.id) is None


async def test_a_front_that_leaves_gives_back_its_jobs_at_once(tmp_path, url):
    async with front(url, tmp_path) as other:
        async with front(url, tmp_path) as one:
            job = await submit(one)
            await start(one)
            watched = await stored_job(other, job.id)
        assert (await event_with(watched, lambda event: event.sequence > SEQUENCE_GAP)).state is State.QUEUED
        again = await start(other)
        assert again is watched
        assert again.attempts == 2
        await other.end(again, result(b"other"))
        assert await states(watched) == [State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING, State.SUCCEEDED]


async def test_a_front_whose_leases_were_taken_over_can_write_nothing_more(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        await submit(one)
        job = await start(one)
        token = one.token
        one.record(job, job.report(progress(1)))
        await revoke(one, by=other)
        again = await start(other)
        assert again.id == job.id
        # This write is late: it waits until the front has joined again, and then has no effect.
        await one.end(job, result(b"late"))
        assert one.token > token
        assert not job.state.final
        await other.end(again, result(b"picture"))
        assert (await event_with(job, lambda event: event.state.final)).state is State.SUCCEEDED
        for store in (one, other):
            ended = await stored_job(store, job.id)
            assert ended.outcome.image.data == b"picture"
            assert ended.attempts == 2
        with one._engine.connect() as connection:
            assert connection.execute(sa.text("SELECT count(*) FROM events WHERE state = 'succeeded'")).scalar() == 1


async def test_a_front_that_is_cut_off_in_the_middle_of_a_statement_is_taken_over(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        await submit(one)
        job = await start(one)
        with writing(one) as raw, contextlib.suppress(psycopg.OperationalError):
            raw.execute("SET idle_in_transaction_session_timeout = 100")
            raw.commit()
            # Statements without the end of their pipeline: the database waits for it, and does not count that as idle.
            with raw.pipeline():
                lock = raw.execute("SELECT token FROM fronts WHERE token = %s FOR KEY SHARE", [one.token])
                assert lock.fetchall() == [(one.token,)]
                await asyncio.sleep(0.5)
                expire(one)
                member = at_once(other)
                assert take_over_expired(other._engine, member, other.folder) == 0
                wait_until(
                    lambda: take_over_expired(other._engine, member, other.folder) == 1, "the front to be removed"
                )
        again = await start(other)
        assert again.id == job.id
        await other.end(again, result())


async def test_a_front_that_has_just_expired_keeps_its_connections_and_may_renew_its_leases(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        member = replace(other._joiner.member, lease=4.0)
        wait_until(lambda: seconds_of(other, "pg_postmaster_start_time()") > member.lease, "a database of some age")
        with writing(one) as raw:
            raw.execute("SELECT token FROM fronts WHERE token = %s FOR KEY SHARE", [one.token])
            expire(one)
            assert take_over_expired(other._engine, member, other.folder) == 0
            raw.execute("SELECT 1")
            assert renew(one._engine, one._joiner.member)
            raw.commit()
        assert take_over_expired(other._engine, member, other.folder) == 0


def seconds_of(store, since: str) -> float:
    """Returns the seconds since a time of the database, given in SQL."""
    with store._engine.connect() as connection:
        return float(connection.exec_driver_sql(f"SELECT extract(epoch FROM now() - {since})").scalar())


@contextlib.contextmanager
def writing(store) -> Iterator[psycopg.Connection]:
    """Opens a connection in the name of a front."""
    url = store._engine.url.set(drivername="postgresql").render_as_string(False)
    with store._engine.connect() as connection:
        name = connection.exec_driver_sql("SHOW application_name").scalar()
    raw = psycopg.connect(url)
    raw.execute("SELECT set_config('application_name', %s, false)", [name])
    raw.commit()
    try:
        yield raw
    finally:
        raw.close()


def expire(store) -> None:
    """Lets the leases of a front expire now."""
    with store._engine.begin() as connection:
        now = connection.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())").scalar()
        connection.execute(fronts_table.update().where(fronts_table.c.token == store.token).values(expires=now))


async def test_the_tokens_of_fronts_increase(tmp_path, url):
    tokens = []
    for _ in range(3):
        async with front(url, tmp_path) as store:
            tokens.append(store.token)
    assert tokens == sorted(set(tokens))


async def test_a_live_front_is_not_taken_over(tmp_path, url):
    async with fronts(url, tmp_path, lease=3.0) as (one, _):
        await submit(one)
        job, token = await start(one), one.token
        await asyncio.sleep(7)
        await one.end(job, result())
        assert (job.state, one.token) == (State.SUCCEEDED, token)


async def test_what_is_known_about_failures_stays_with_the_job(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        await submit(one)
        job = await start(one)
        job.losses, job.squeeze, job.suspected = 3, 2, True
        await one.give_back(job)
        again = await take(other)
        assert again is not None
        assert (again.losses, again.squeeze, again.suspected, again.attempts) == (3, 2, True, 1)


async def test_one_request_id_makes_one_job_at_all_fronts(tmp_path, url):
    async with fronts(url, tmp_path) as (one, other):
        found = await asyncio.gather(
            *(submit(store, request_id="same") for store in (one, other) for _ in range(4)), return_exceptions=True
        )
        added = [job for job in found if isinstance(job, Job)]
        assert len(added) == 1
        assert all(isinstance(error, AlreadySubmittedError) for error in found if error is not added[0])
        known = await other.submitted_as("", "same")
        assert known is not None and known.id == added[0].id


async def test_jobs_of_a_single_server_are_continued_by_a_cluster(tmp_path, shared_postgres, monkeypatch):
    monkeypatch.setenv("GRAMOPHONE_TEST_DATABASE", shared_postgres.url)
    from tests import databases

    url = databases.of_folder(tmp_path)
    assert url is not None
    async with opened(tmp_path) as (alone, _):
        job = Job(alone.ids.next(), spec_of(b"abc").without_pixels())
        await alone.add(job, spec_of(b"abc"))
        alone.record(job, job.start())
        await alone.flush()
    async with front(url, tmp_path) as store:
        again = await start(store)
        assert (again.id, again.attempts) == (job.id, 2)
    async with opened(tmp_path) as (alone, unfinished):
        assert [found.id for found in unfinished] == [job.id]
        await alone.end(unfinished[0], Failure("INTERNAL", "It fails."))
