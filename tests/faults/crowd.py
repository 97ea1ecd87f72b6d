"""A crowd of watchers of one job, some of which never read, over many connections."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc

from gramophone.v1 import job_pb2, job_service_pb2
from gramophone.v1.job_service_pb2_grpc import JobServiceStub

# Channel options that keep the flow-control window so small that a few reports fill it.
SMALL = [("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16384)]
# A channel option that gives each channel its own connection.
APART = ("grpc.use_local_subchannel_pool", 1)
_READERS_PER_CONNECTION = 100


class Crowd:
    """Watchers of a job, from `gather` to `leave`.

    Attributes:
        watching: number of readers that have received an event and still read.
        last: number of readers by the last job state that they received, or by their error code.
        progress: number of progress reports that all readers have received together.
    """

    def __init__(self, address: str, job_id: str, after: int = 0, *, reading: int, not_reading: int) -> None:
        self._address = address
        self._request = job_service_pb2.WatchJobRequest(job_id=job_id, after_sequence=after)
        self._counts = reading, not_reading
        self._channels: list[grpc.aio.Channel] = []
        self._readers: list[asyncio.Task[None]] = []
        self._unread: list[tuple[Any, AsyncIterator[job_service_pb2.WatchJobResponse]]] = []
        self._all_there = asyncio.Event()
        self.watching = 0
        self.progress = 0
        self.last: Counter[str] = Counter()

    async def gather(self) -> None:
        """Opens all streams; returns when each reader has an event and each of the others has read only its first."""
        reading, not_reading = self._counts
        for _ in range(not_reading):
            call = self._stub(*SMALL).WatchJob(self._request)
            self._unread.append((call, aiter(cast(Any, call))))
        for begin in range(0, reading, _READERS_PER_CONNECTION):
            stub = self._stub()
            count = min(_READERS_PER_CONNECTION, reading - begin)
            self._readers += [asyncio.create_task(self._read(stub)) for _ in range(count)]
        await asyncio.gather(*(anext(stream) for _, stream in self._unread))
        if reading:
            await self._all_there.wait()

    async def wait(self) -> None:
        """Waits until the streams of all readers have ended."""
        await asyncio.gather(*self._readers)

    async def read_late(self) -> list[int]:
        """Reads the streams that nothing has read so far to their ends; returns the last state of each."""
        states: list[int] = []
        for _, stream in self._unread:
            last = None
            async for response in stream:
                last = response.event
            assert last is not None
            states.append(last.state)
        return states

    async def leave(self) -> None:
        """Cancels all streams and closes their connections."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for call, _ in self._unread:
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
