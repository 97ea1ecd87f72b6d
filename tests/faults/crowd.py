"""Very many watchers of one job, some of whom never read, on connections of their own."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone.v1.job_service_pb2_grpc import JobServiceStub

# A window that a few reports fill.
SMALL = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
APART = ("grpc.use_local_subchannel_pool", 1)
_A_CONNECTION = 100


class Crowd:
    """Watchers of a job, from `gather` to `leave`.

    Attributes:
        watching: readers that have had their first event.
        last: how many readers ended with each state of a job, or with an error.
        progress: how many reports they have had together.
    """

    def __init__(self, address: str, job_id: str, after: int = 0, *, reading: int, not_reading: int) -> None:
        self._address = address
        self._request = job_service_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)
        self._counts = reading, not_reading
        self._channels: list[grpc.aio.Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._idle: list[tuple[Any, AsyncIterator[job_service_pb2.WatchJobResponse]]] = []
        self._all_there = asyncio.Event()
        self.watching = 0
        self.progress = 0
        self.last: Counter[str] = Counter()

    async def gather(self) -> None:
        """Comes to watch; returns once every reader has had an event, and the others a first one and no more."""
        reading, not_reading = self._counts
        for _ in range(not_reading):
            call = self._stub(*SMALL).WatchJob(self._request)
            self._idle.append((call, aiter(call)))
        for begin in range(0, reading, _A_CONNECTION):
            stub = self._stub()
            count = min(_A_CONNECTION, reading - begin)
            self._readers += [asyncio.create_task(self._read(stub)) for _ in range(count)]
        await asyncio.gather(*(anext(unread) for _, unread in self._idle))
        if reading:
            await self._all_there.wait()

    async def wait(self) -> None:
        """Waits until all readers have come to the end of what they watch."""
        await asyncio.gather(*self._readers)

    async def read_late(self) -> list[int]:
        """Has those who never read begin to, after all; the state at the end of each."""
        states: list[int] = []
        for _, unread in self._idle:
            last = None
            async for response in unread:
                last = response.event
            assert last is not None
            states.append(last.state)
        return states

    async def leave(self) -> None:
        """Hangs up."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for call, _ in self._idle:
            call.cancel()
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def _stub(self, *options: tuple[str, int]) -> JobServiceStub:
        channel = grpc.aio.insecure_channel(self._address, options=[APART, *options])
        self._channels.append(channel)
        return JobServiceStub(channel)

    async def _read(self, stub: JobServiceStub) -> None:
        state, seen = job_pb2.JOB_STATE_UNSPECIFIED, False
        try:
            async for response in stub.WatchJob(self._request):  # type: ignore[attr-defined]
                if not seen:
                    seen = True
                    self.watching += 1
                    if self.watching == self._counts[0]:
                        self._all_there.set()
                state = response.event.state
                self.progress += response.event.HasField("progress")
        except grpc.aio.AioRpcError as error:
            self.last[error.code().name] += 1
        else:
            self.last[job_pb2.JobState.Name(state)] += 1
        finally:
            self.watching -= seen
