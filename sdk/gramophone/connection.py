"""Calls that are made again when the server was away, and whose large pictures go ahead; with and without await."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakSet

import grpc

from .brief import Rooted
from .errors import InvalidRequestError, ServerError, UnavailableError, closed_meanwhile
from .retry import Attempts, RetryPolicy, StreamEndedError
from .stubs import LoopStubs, ProcessStubs
from .uploads import Library, UploadingRequest, pieces, sha256_of
from .v1 import job_service_pb2

_T = TypeVar("_T")
# Seconds that closing a client may take to cancel the jobs that end with it; the server does it too, a little later.
_LEAVING = 2.0


class _Terms(Rooted):
    """What both kinds of connection have.

    Args:
        target: the server's address.
        policy: how patient calls are.
        stubs: the services.
    """

    _instead = "make another client there"
    _shown = ("target",)

    def __init__(self, target: str, policy: RetryPolicy, stubs: ProcessStubs | LoopStubs) -> None:
        self.target = target
        self.policy = policy
        self._library = Library()
        self._stubs = stubs
        # Jobs that are to end with the client, and the process that they are of.
        self._ending: tuple[int, WeakSet[Any]] = os.getpid(), WeakSet()

    def ends_with_client(self, job: Any) -> None:
        """Notes a job, of either kind, that is cancelled when the client is closed."""
        if self._ending[0] != os.getpid():
            self._ending = os.getpid(), WeakSet()
        self._ending[1].add(job)

    def _left_over(self) -> list[Any]:
        """The requests that cancel those jobs, but for what is known to have ended."""
        process, jobs = self._ending
        ids = [job.id for job in list(jobs) if job.state in ("queued", "running")] if process == os.getpid() else []
        return [job_service_pb2.CancelJobRequest(job_id=job_id) for job_id in ids]

    @property
    def style(self) -> Any:
        """The StyleTransferService, over the channel of this process or event loop."""
        return self._stubs.here().style

    @property
    def jobs(self) -> Any:
        """The JobService, likewise."""
        return self._stubs.here().jobs

    @property
    def models(self) -> Any:
        """The ModelService, likewise."""
        return self._stubs.here().models

    def attempts(self, deadline: float | None = None, late: str | None = None) -> Attempts:
        """The tries of a stream, until `deadline` in the time of time.monotonic()."""
        return Attempts(self.policy, self.target, deadline, late)

    def attempts_in_time(self) -> Attempts:
        """The tries of a call that is not a stream."""
        timeout = self.policy.timeout
        return self.attempts(None if timeout is None else time.monotonic() + timeout)


class Connection(_Terms):
    """Calls of the synchronous client."""

    def __init__(self, target: str, policy: RetryPolicy, dial: Callable[[], Any]) -> None:
        self._channels = ProcessStubs(dial)
        super().__init__(target, policy, self._channels)

    @property
    def home(self) -> object:
        """Where streams begun now can be read."""
        return os.getpid()

    def close(self) -> None:
        """Closes the channel, once the jobs that end with it are cancelled."""
        deadline = time.monotonic() + _LEAVING
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for request in self._left_over():
                self.jobs.CancelJob(request, timeout=max(deadline - time.monotonic(), 0))
        self._channels.close()

    def call(self, method: Callable[..., Any], request: Any, attempts: Attempts | None = None) -> Any:
        """The answer to a call that is not a stream."""
        chosen = attempts or self.attempts_in_time()
        return self._retry(lambda: method(request, timeout=chosen.left), chosen)

    def call_with_pictures(self, method: Callable[..., Any], request: Any) -> Any:
        """The answer to a call that is not a stream and has pictures in its request."""
        return self._send(request, lambda sent: self.call(method, sent))

    def submit(self, method: Callable[..., Any], request: Any) -> tuple[Any, Any]:
        """Submits a job, however often that takes; returns its stream and the first event, which has come from it."""
        request.submission.request_id = request.submission.request_id or str(uuid.uuid4())

        def begin() -> tuple[Any, Any]:
            stream = method(request)
            for response in stream:
                return stream, response.event
            raise StreamEndedError

        return self._send(request, lambda _: self._retry(begin, self.attempts()))

    def upload(self, data: bytes) -> str:
        """Has the server keep a picture file; returns its hash."""
        sha256 = sha256_of(data)
        self._upload(sha256, data)
        return sha256

    def _upload(self, sha256: str, data: bytes) -> None:
        self._retry(lambda: self.jobs.UploadImage(pieces(sha256, data)), self.attempts())
        self._library.known.add(sha256)

    def _send(self, request: Any, call: Callable[[Any], _T]) -> _T:
        uploading = UploadingRequest(request, self._library)
        self._upload_missing(uploading)
        try:
            return call(uploading.request)
        except InvalidRequestError as error:
            if not uploading.forgotten(error):
                raise
        self._upload_missing(uploading)
        return call(uploading.request)

    def _upload_missing(self, uploading: UploadingRequest[Any]) -> None:
        try:
            for sha256, data in uploading.missing():
                self._upload(sha256, data)
        except ServerError as error:
            uploading.refused(error)

    def _retry(self, call: Callable[[], _T], attempts: Attempts) -> _T:
        while True:
            try:
                return call()
            except grpc.RpcError as error:
                time.sleep(attempts.pause(error))


class AsyncConnection(_Terms):
    """Calls of the asynchronous client; see Connection."""

    def __init__(self, target: str, policy: RetryPolicy, dial: Callable[[], Any]) -> None:
        self._channels = LoopStubs(dial)
        super().__init__(target, policy, self._channels)

    @property
    def home(self) -> object:
        """Where streams begun now can be read."""
        return asyncio.get_running_loop()

    async def close(self) -> None:
        """Closes the channels, once the jobs that end with them are cancelled."""
        deadline = time.monotonic() + _LEAVING
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for request in self._left_over():
                await self.jobs.CancelJob(request, timeout=max(deadline - time.monotonic(), 0))
        await self._channels.close()

    async def call(self, method: Callable[..., Any], request: Any, attempts: Attempts | None = None) -> Any:
        """The answer to a call that is not a stream."""
        chosen = attempts or self.attempts_in_time()
        return await self._retry(lambda: method(request, timeout=chosen.left), chosen)

    async def call_with_pictures(self, method: Callable[..., Any], request: Any) -> Any:
        """The answer to a call that is not a stream and has pictures in its request."""
        return await self._send(request, lambda sent: self.call(method, sent))

    async def submit(self, method: Callable[..., Any], request: Any) -> tuple[Any, Any]:
        """Submits a job, however often that takes; returns its stream and the first event, which has come from it."""
        request.submission.request_id = request.submission.request_id or str(uuid.uuid4())

        async def begin() -> tuple[Any, Any]:
            stream = method(request)
            async for response in stream:
                return stream, response.event
            raise StreamEndedError

        return await self._send(request, lambda _: self._retry(begin, self.attempts()))

    async def upload(self, data: bytes) -> str:
        """Has the server keep a picture file; returns its hash."""
        sha256 = await asyncio.to_thread(sha256_of, data)
        await self._upload(sha256, data)
        return sha256

    async def _upload(self, sha256: str, data: bytes) -> None:
        await self._retry(lambda: self.jobs.UploadImage(pieces(sha256, data)), self.attempts())
        self._library.known.add(sha256)

    async def _send(self, request: Any, call: Callable[[Any], Awaitable[_T]]) -> _T:
        uploading = await asyncio.to_thread(UploadingRequest, request, self._library)
        await self._upload_missing(uploading)
        try:
            return await call(uploading.request)
        except InvalidRequestError as error:
            if not uploading.forgotten(error):
                raise
        await self._upload_missing(uploading)
        return await call(uploading.request)

    async def _upload_missing(self, uploading: UploadingRequest[Any]) -> None:
        try:
            for sha256, data in uploading.missing():
                await self._upload(sha256, data)
        except ServerError as error:
            uploading.refused(error)

    @property
    def closed(self) -> bool:
        """Whether the client is closed."""
        return self._channels.closed

    def cut_off(self) -> UnavailableError | None:
        """What a CancelledError stands for in a task that nobody cancels: a call ended by closing the client."""
        task = asyncio.current_task()
        if not self._channels.closed or (task is not None and task.cancelling()):
            return None
        return closed_meanwhile(self.target)

    async def _retry(self, call: Callable[[], Awaitable[_T]], attempts: Attempts) -> _T:
        while True:
            try:
                return await call()
            except asyncio.CancelledError:
                if (error := self.cut_off()) is not None:
                    raise error from None
                if (task := asyncio.current_task()) is None or task.cancelling():
                    raise
                # grpc.aio cancels a call whose end comes while a piece of its request is being written.
                await asyncio.sleep(attempts.pause(StreamEndedError("the call was broken off")))
            except grpc.RpcError as failure:
                await asyncio.sleep(attempts.pause(failure))
