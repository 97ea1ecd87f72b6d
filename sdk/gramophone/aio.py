"""The client for asyncio: `gramophone.Client` and `gramophone.Job` with `await`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Unpack, overload

import grpc

from .arguments import integer
from .batches import PATIENCE, Outcome, arguments
from .brief import Rooted
from .channel import channel_options, named
from .client import arrays
from .connection import AsyncConnection
from .credentials import Credentials, Pem
from .downloads import Download, contents, destination
from .errors import GramophoneError, NotFoundError
from .history import History, Reading
from .images import encode
from .listing import JobFilters, Pages
from .options import FeatureKind, JobKind, Options, Pooling
from .requests import (
    content_request,
    estimate_request,
    features_request,
    style_request,
    transfer_request,
)
from .retry import Attempts, RetryPolicy, StreamEndedError, patient
from .targets import checked
from .v1 import job_service_pb2, model_service_pb2, options_pb2
from .values import Estimate, Frame, JobInfo, ModelInfo, Result

if TYPE_CHECKING:
    import numpy as np

    from .images import ImageLike
    from .requests import Layers, Style


class Job(Rooted):
    """A job on the server; made by a Client. Any number of tasks and event loops may read it; see gramophone.Job."""

    _instead = "send job.id, and call client.job(id) there"
    _shown = ("id", "state")

    def __init__(self, connection: AsyncConnection, job_id: str, stream: Any = None) -> None:
        self._connection = connection
        # Kept open for as long as this object is there, and opened again by whoever reads next: the server takes its
        # end for the client's leaving.
        self._submission = None if stream is None else _Submission(stream)
        self._home = connection.home if stream is not None else None
        # The same while nobody reads it.
        self._unread = self._submission
        self._lock = threading.Lock()
        self._coming_back: asyncio.Task[None] | None = None
        self._history = History(job_id)

    @classmethod
    async def submit(cls, connection: AsyncConnection, method: Any, request: Any) -> Job:
        """Submits a job. Returns when the server has accepted it."""
        stream, first = await connection.submit(method, request)
        job = cls(connection, first.job_id, stream)
        job._history.take(first)
        if request.submission.on_disconnect == options_pb2.ON_DISCONNECT_CANCEL:
            connection.ends_with_client(job)
            job._stay()
        return job

    @property
    def id(self) -> str:
        """Its id, by which `Client.job` finds it again."""
        return self._history.job_id

    @property
    def state(self) -> str:
        """Its state as of the latest event: "queued", "running", "succeeded", "failed" or "cancelled"."""
        return self._history.state

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Frames as they come, to the end of the job; raises as gramophone.Job does."""
        return self._frames(None)

    async def result(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109 - as gramophone.Job has it
        """Waits for the job to end, at most `timeout` seconds; returns and raises as gramophone.Job does."""
        async for _ in self._frames(None if timeout is None else time.monotonic() + timeout):
            pass
        return self._history.result()

    async def cancel(self) -> None:
        """Asks the job to stop; it does so at its next report. A job that has ended stays as it is."""
        await self._connection.call(self._connection.jobs.CancelJob, job_service_pb2.CancelJobRequest(job_id=self.id))

    async def info(self) -> JobInfo:
        """The job as it stands on the server."""
        request = job_service_pb2.GetJobRequest(job_id=self.id)
        return JobInfo.of((await self._connection.call(self._connection.jobs.GetJob, request)).job)

    async def delete(self) -> None:
        """Has the server forget the job and its result; ServerError for one that has not ended."""
        attempts = self._connection.attempts_in_time()
        request = job_service_pb2.DeleteJobRequest(job_id=self.id)
        try:
            await self._connection.call(self._connection.jobs.DeleteJob, request, attempts)
        except NotFoundError:
            # The try before this one did it, and its answer was lost.
            if not attempts.retried:
                raise

    @overload
    async def download(self, path_or_file: None = None, *, offset: int = 0) -> bytes: ...
    @overload
    async def download(self, path_or_file: str | os.PathLike[str] | BinaryIO, *, offset: int = 0) -> None: ...
    async def download(
        self, path_or_file: str | os.PathLike[str] | BinaryIO | None = None, *, offset: int = 0
    ) -> bytes | None:
        """Fetches the file that the job made, as gramophone.Job does."""
        with destination(path_or_file) as file:
            await self._receive(Download(self.id, offset), file, self._connection.attempts())
            return contents(path_or_file, file)

    async def _receive(self, download: Download, file: BinaryIO, attempts: Attempts) -> None:
        """Writes the file of the result as it comes."""
        while not download.complete:
            try:
                async for response in self._connection.jobs.DownloadResult(download.request(), timeout=attempts.left):
                    await asyncio.to_thread(file.write, download.take(response))
                    attempts.progress()
                if not download.complete:
                    raise StreamEndedError
            except grpc.RpcError as error:
                await asyncio.sleep(attempts.pause(error))
        download.check()

    async def _complete(self, attempts: Attempts) -> None:
        """Fetches the file of the result if it was too large for the last event."""
        if self._history.lacks_file:
            file = io.BytesIO()
            await self._receive(Download(self.id, 0), file, attempts)
            self._history.take_file(file.getvalue())

    async def _frames(self, deadline: float | None) -> AsyncIterator[Frame]:
        reading, attempts = Reading(self._history), self._connection.attempts(deadline, self._history.late())
        stream = None
        try:
            while not reading.ended:
                try:
                    stream = self._open(reading, attempts)
                    async for response in stream:
                        attempts.progress()
                        frame = reading.take(response.event)
                        if frame is not None:
                            yield frame
                    self._lose(stream)
                    stream = None
                    if not reading.ended:
                        raise StreamEndedError
                except grpc.RpcError as error:
                    self._lose(stream)
                    stream = None
                    reading.lost()
                    if not reading.ended:
                        await asyncio.sleep(attempts.pause(error))
        except asyncio.CancelledError:
            if (reason := self._connection.cut_off()) is not None:
                raise reason from None
            raise
        finally:
            self._leave(stream)
        for frame in reading.rest():
            yield frame
        await self._complete(attempts)
        self._history.result()

    def _open(self, reading: Reading, attempts: Attempts) -> Any:
        """A stream for one reader: the submission's for the first, which has all, and one of its own for any other."""
        lasting = attempts.left is None and self._home == self._connection.home
        with self._lock:
            if lasting and self._unread is not None:
                stream, self._unread = self._unread, None
                return stream
            stream = self._connection.jobs.WatchJob(reading.request(), timeout=attempts.left)
            if lasting and self._submission is None:
                stream = self._submission = _Submission(stream)
            return stream

    def _leave(self, stream: Any) -> None:
        """A reader leaves its stream, if it has not ended: the submission's is for the next one."""
        if stream is None:
            return
        with self._lock:
            if stream is self._submission:
                self._unread = stream
                return
        stream.cancel()

    def _lose(self, stream: Any) -> None:
        """A stream has ended."""
        with self._lock:
            if stream is not None and stream is self._submission:
                self._submission = self._unread = None

    def _stay(self, attempts: Attempts | None = None) -> None:
        """Has the stream of the submission opened again if it breaks while nobody reads it."""
        job: weakref.ref[Job] = weakref.ref(self)
        stream = self._submission
        if stream is not None:
            stream.call.add_done_callback(lambda _: _come_back_soon(job, stream, attempts))

    async def _come_back(self, lost: _Submission, attempts: Attempts | None) -> None:
        chosen = attempts or self._connection.attempts()
        with contextlib.suppress(GramophoneError, RuntimeError):
            if await lost.call.code() is grpc.StatusCode.OK:
                return
            await asyncio.sleep(chosen.pause(StreamEndedError()))
            with self._lock:
                if self._unread is not lost:
                    return
                stream = self._connection.jobs.WatchJob(Reading(self._history).request())
                self._unread = self._submission = _Submission(stream)
            self._stay(chosen)


def _come_back_soon(ref: weakref.ref[Job], lost: _Submission, attempts: Attempts | None) -> None:
    job = ref()
    if job is not None and job._unread is lost and not job._connection.closed:
        # The job has it, lest it be collected.
        job._coming_back = asyncio.get_running_loop().create_task(job._come_back(lost, attempts))


class _Submission:
    """The stream of a submission, which outlives its readers: gRPC ends others with the task that reads them."""

    def __init__(self, stream: Any) -> None:
        self.call = stream
        self._responses = aiter(stream)
        self._read: asyncio.Task[Any] | None = None

    def __aiter__(self) -> _Submission:
        return self

    async def __anext__(self) -> Any:
        if self._read is None:
            self._read = asyncio.create_task(self._next())
            # What it fails of is for its reader, if there is one.
            self._read.add_done_callback(lambda read: read.cancelled() or read.exception())
        response = await asyncio.shield(self._read)
        self._read = None
        if response is None:
            raise StopAsyncIteration
        return response

    async def _next(self) -> Any:
        return await anext(self._responses, None)


class Client(Rooted):
    """A connection to a server, used in an `async with` block or closed with `close`. See gramophone.Client.

    It may be made anywhere, also in a module, and be used in any number of event loops, at once or in turn: each has a
    connection of its own, made at its first call.
    """

    _instead = "make another from the same target and options there"
    _shown = ("target",)

    def __init__(
        self,
        target: str = "localhost:50051",
        *,
        token: str | None = None,
        tls: bool = False,
        root_certificates: Pem | None = None,
        certificate: Pem | None = None,
        private_key: Pem | None = None,
        insecure: bool = False,
        timeout: float | None = 60.0,
        retry_for: float = 60.0,
        retry_overload: bool = False,
        options: Iterable[tuple[str, Any]] = (),
    ) -> None:
        self.target = target = checked(target)
        parts = Credentials(token, tls, root_certificates, certificate, private_key, insecure)
        credentials, chosen = parts.loaded(target), channel_options(options)
        policy, name = RetryPolicy(timeout, retry_for, retry_overload), uuid.uuid4().hex
        self._connection = AsyncConnection(target, policy, lambda: named(credentials.aio_channel(target, chosen), name))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Jobs go on, unless they were submitted with on_disconnect="cancel"."""
        await self._connection.close()

    async def style(
        self,
        styles: ImageLike | Style | Sequence[ImageLike | Style],
        *,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a texture with the Gram matrices of one or more pictures; see gramophone.Client.style."""
        request = await asyncio.to_thread(style_request, styles, layers, options)
        return await Job.submit(self._connection, self._connection.style.ReconstructStyle, request)

    async def content(
        self,
        image: ImageLike,
        *,
        layer: str | None = None,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a picture with the feature maps of another; see gramophone.Client.content."""
        request = await asyncio.to_thread(content_request, image, layers if layer is None else layer, options)
        return await Job.submit(self._connection, self._connection.style.ReconstructContent, request)

    async def transfer(
        self,
        content: ImageLike,
        styles: ImageLike | Style | Sequence[ImageLike | Style],
        *,
        content_layers: Layers | None = None,
        style_layers: Layers | None = None,
        content_weight: float | None = None,
        style_weight: float | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a picture with the content of one picture and the style of others; see gramophone.Client.transfer."""
        request = await asyncio.to_thread(
            transfer_request, content, styles, content_layers, style_layers, content_weight, style_weight, options
        )
        return await Job.submit(self._connection, self._connection.style.TransferStyle, request)

    def map(
        self, method: Callable[..., Awaitable[Job]], *iterables: Iterable[Any], at_once: int = 8, **options: Any
    ) -> AsyncIterator[Outcome]:
        """Runs many jobs, some at a time, and gives what became of each, in their order; see gramophone.Client.map."""
        return self._map(method, arguments(iterables, at_once), at_once, options)

    async def _map(
        self,
        method: Callable[..., Awaitable[Job]],
        each: Iterable[tuple[Any, ...]],
        at_once: int,
        options: dict[str, Any],
    ) -> AsyncIterator[Outcome]:
        under_way: deque[tuple[int, Job | Exception]] = deque()
        try:
            for number, given in enumerate(each):
                if len(under_way) == at_once:
                    yield await _outcome(*under_way.popleft())
                try:
                    with patient(PATIENCE):
                        under_way.append((number, await method(*given, **options)))
                except Exception as error:
                    under_way.append((number, error))
            while under_way:
                yield await _outcome(*under_way.popleft())
        finally:
            for _, job in under_way:
                if isinstance(job, Job):
                    with contextlib.suppress(GramophoneError, RuntimeError):
                        await job.cancel()

    async def estimate(self, kind: JobKind, *pictures: Any, **options: Any) -> Estimate:
        """What a job would take, without running it.

        Args:
            kind: "style", "content" or "transfer".
            pictures, options: what the method of that name takes.
        """
        request = await asyncio.to_thread(estimate_request, kind, pictures, **options)
        return Estimate.of(await self._connection.call_with_pictures(self._connection.style.EstimateJob, request))

    async def upload(self, image: ImageLike) -> str:
        """Has the server keep a picture for some time; see gramophone.Client.upload."""
        return await self._connection.upload(await asyncio.to_thread(encode, image))

    async def job(self, job_id: str, *, after: int = 0) -> Job:
        """A job submitted earlier; see gramophone.Client.job."""
        after = integer("after", after) or 0
        if after < 0:
            raise ValueError(f"after must be at least 0, not {after}")
        job = Job(self._connection, job_id)
        job._history.skip(after, await job.info())
        return job

    async def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilters]) -> AsyncIterator[JobInfo]:
        """Jobs that one may see, the newest first, at most `limit`; see gramophone.listing.JobFilters for which."""
        pages = Pages(limit, filters)
        while (request := pages.next()) is not None:
            for job in pages.take(await self._connection.call(self._connection.jobs.ListJobs, request)):
                yield job

    async def models(self) -> list[ModelInfo]:
        """The models of the server, its default first."""
        models, request = [], model_service_pb2.ListModelsRequest()
        while True:
            page = await self._connection.call(self._connection.models.ListModels, request)
            models += [ModelInfo.of(model) for model in page.models]
            if not page.next_page_token:
                return models
            request.page_token = page.next_page_token

    async def features(
        self,
        image: ImageLike,
        *,
        layers: Sequence[str] = (),
        kind: FeatureKind | None = None,
        size: int | None = None,
        pooling: Pooling | None = None,
        model: str | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Features of a picture by layer, float32; see gramophone.Client.features."""
        request = await asyncio.to_thread(features_request, image, layers, kind, size, pooling, model)
        stream = self._connection.models.ExtractFeatures
        return arrays(await self._connection.call_with_pictures(_all_of(stream), request))


def _all_of(method: Callable[..., Any]) -> Callable[..., Awaitable[list[Any]]]:
    """The responses of a streaming method, together."""

    async def call(request: Any, timeout: float | None) -> list[Any]:  # noqa: ASYNC109 - as gRPC has it
        return [response async for response in method(request, timeout=timeout)]

    return call


async def _outcome(number: int, job: Job | Exception) -> Outcome:
    if isinstance(job, Exception):
        return Outcome(number, None, None, job)
    try:
        return Outcome(number, job.id, await job.result(), None)
    except GramophoneError as error:
        return Outcome(number, job.id, None, error)
