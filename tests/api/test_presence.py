"""Jobs that are canceled when their client disconnects: which stream ends count as a disconnect, and which do not."""

import asyncio
from typing import Any

import pytest

from gramophone_server.api.presence import ClientPresence
from gramophone_server.storage.job import Job
from tests.messages.specs import make_spec

GRACE = 0.2


class Call:
    """A fake gRPC context: `client` is the client's name ("" for none), `left` the seconds to its deadline, or None."""

    def __init__(self, client: str, left: float | None) -> None:
        self._client = client
        self._left = left

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "some"), *((("gramophone-client", self._client),) if self._client else ()))

    def time_remaining(self) -> float | None:
        return self._left


class Tracked:
    """A `ClientPresence` with one job, and the ids of the jobs that it cancels."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.presence = ClientPresence(lambda job: self.cancelled.append(job.id), GRACE)
        self.job = Job("one", make_spec())
        self.job.queue()

    def submission(self, *, ends: bool = True, left: float | None = None, client: str = "me") -> Any:
        call: Any = Call(client, left)
        return self.presence.submitted(self.job, call, ends=ends)

    def watch(self, *, client: str = "me") -> Any:
        call: Any = Call(client, None)
        return self.presence.watched(self.job, call)


@pytest.fixture
def tracked() -> Tracked:
    return Tracked()


async def test_a_job_is_cancelled_some_seconds_after_its_client_disconnects(tracked):
    with tracked.submission():
        await asyncio.sleep(2 * GRACE)
    await asyncio.sleep(GRACE / 2)
    assert tracked.cancelled == []
    await asyncio.sleep(GRACE)
    assert tracked.cancelled == ["one"]


async def test_a_client_that_reconnects_in_time_keeps_its_job(tracked):
    with tracked.submission():
        pass
    await asyncio.sleep(GRACE / 2)
    with tracked.watch():
        await asyncio.sleep(2 * GRACE)
        assert tracked.cancelled == []
    await asyncio.sleep(2 * GRACE)
    assert tracked.cancelled == ["one"]


async def test_one_open_stream_of_several_keeps_the_job(tracked):
    """The server may notice a broken stream long after the client has reconnected."""
    with tracked.submission():
        with tracked.submission():
            pass
        await asyncio.sleep(2 * GRACE)
        assert tracked.cancelled == []


@pytest.mark.parametrize("other", ["another", ""])
async def test_watchers_of_other_clients_do_not_keep_the_job(tracked, other):
    with tracked.watch(client=other):
        with tracked.submission(client=other and "me"):
            pass
        with tracked.watch(client=other):
            await asyncio.sleep(2 * GRACE)
    assert tracked.cancelled == ["one"]


async def test_a_client_without_a_name_reconnects_by_submitting_again(tracked):
    with tracked.submission(client=""):
        pass
    await asyncio.sleep(GRACE / 2)
    with tracked.submission(client=""):
        await asyncio.sleep(2 * GRACE)
        assert tracked.cancelled == []


async def test_a_job_that_may_outlive_its_client_is_not_cancelled(tracked):
    with tracked.submission(ends=False):
        pass
    await asyncio.sleep(2 * GRACE)
    assert tracked.cancelled == []


async def test_a_stream_that_ends_at_its_deadline_is_not_a_disconnect(tracked):
    with tracked.submission(left=0.0):
        pass
    await asyncio.sleep(2 * GRACE)
    assert tracked.cancelled == []


async def test_a_job_that_ended_in_the_meantime_is_not_cancelled(tracked):
    with tracked.submission():
        pass
    tracked.job.end(tracked.job.ending(None))
    await asyncio.sleep(2 * GRACE)
    assert tracked.cancelled == []
