"""Jobs that are cancelled when their client leaves: what is taken for leaving, and what is not."""

import asyncio
from typing import Any

import pytest

from gramophone_server.api.attendance import Attendance
from gramophone_server.storage.job import Job
from tests.messages.specs import make_spec

GRACE = 0.2


class Call:
    """A call of a client of that name, with so much time left; None for no deadline."""

    def __init__(self, client: str, left: float | None) -> None:
        self._client = client
        self._left = left

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "some"), *((("gramophone-client", self._client),) if self._client else ()))

    def time_remaining(self) -> float | None:
        return self._left


class Desk:
    """An attendance of one job, and what it cancels."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.attendance = Attendance(lambda job: self.cancelled.append(job.id), GRACE)
        self.job = Job("one", make_spec())
        self.job.queue()

    def submission(self, *, ends: bool = True, left: float | None = None, client: str = "me") -> Any:
        call: Any = Call(client, left)
        return self.attendance.submitted(self.job, call, ends=ends)

    def watch(self, *, client: str = "me") -> Any:
        call: Any = Call(client, None)
        return self.attendance.watched(self.job, call)


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_client_that_leaves_has_its_job_cancelled_after_a_while(desk):
    with desk.submission():
        await asyncio.sleep(2 * GRACE)
    await asyncio.sleep(GRACE / 2)
    assert desk.cancelled == []
    await asyncio.sleep(GRACE)
    assert desk.cancelled == ["one"]


async def test_one_that_comes_back_in_time_has_not_left(desk):
    with desk.submission():
        pass
    await asyncio.sleep(GRACE / 2)
    with desk.watch():
        await asyncio.sleep(2 * GRACE)
        assert desk.cancelled == []
    await asyncio.sleep(2 * GRACE)
    assert desk.cancelled == ["one"]


async def test_one_of_several_streams_is_enough(desk):
    """A stream that is lost may be noticed long after the client has come back."""
    with desk.submission():
        with desk.submission():
            pass
        await asyncio.sleep(2 * GRACE)
        assert desk.cancelled == []


@pytest.mark.parametrize("other", ["another", ""])
async def test_others_that_watch_do_not_keep_it(desk, other):
    with desk.watch(client=other):
        with desk.submission(client=other and "me"):
            pass
        with desk.watch(client=other):
            await asyncio.sleep(2 * GRACE)
    assert desk.cancelled == ["one"]


async def test_who_has_no_name_comes_back_by_submitting_again(desk):
    with desk.submission(client=""):
        pass
    await asyncio.sleep(GRACE / 2)
    with desk.submission(client=""):
        await asyncio.sleep(2 * GRACE)
        assert desk.cancelled == []


async def test_a_job_that_goes_on_does(desk):
    with desk.submission(ends=False):
        pass
    await asyncio.sleep(2 * GRACE)
    assert desk.cancelled == []


async def test_a_stream_that_runs_out_of_time_is_no_leaving(desk):
    with desk.submission(left=0.0):
        pass
    await asyncio.sleep(2 * GRACE)
    assert desk.cancelled == []


async def test_a_job_that_has_ended_meanwhile_is_left_alone(desk):
    with desk.submission():
        pass
    desk.job.end(desk.job.ending(None))
    await asyncio.sleep(2 * GRACE)
    assert desk.cancelled == []
