"""The client for asyncio: `gramophone.Client` and `gramophone.Job` with `await`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import grpc

from .channel import CALL_TIMEOUT, OPTIONS, REATTACH_ATTEMPTS, backoff
from .client import arrays
from .credentials import Credentials, Pem
from .errors import DeadlineError, from_rpc
from .history import History
from .requests import (
    Options,
    content_request,
    estimate_request,
    features_request,
    list_request,
    style_request,
    transfer_request,
)
from .v1 import job_service_pb2, model_service_pb2
from .v1.job_service_pb2_grpc import JobServiceStub
from .v1.model_service_pb2_grpc import ModelServiceStub
from .v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from .values import Estimate, Frame, JobInfo, ModelInfo, Result

if TYPE_CHECKING:
    import numpy as np

    from .images import ImageLike
    from .requests import Layers, Style
    from .v1.job_service_pb2_grpc import JobServiceAsyncStub


class Job:
    """A job on the server; made by a Client. See gramophone.Job."""

    def __init__(self, stub: JobServiceAsyncStub, target: str, job_id: str, stream: Any = None) -> None:
        self._stub = stub
        self._target = target
        self._stream = stream
        self._history = History(job_id)

    @classmethod
    async def submit(cls, stub: JobServiceAsyncStub, target: str, stream: Any) -> Job:
        """Submits a job by reading the first event of its stream. Returns when the server has accepted it."""
        try:
            first = (await anext(aiter(stream))).event
        except grpc.RpcError as error:
            raise from_rpc(error, target) from error
        job = cls(stub, target, first.job_id, stream)
        job._history.take(first)
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
        await self._call(self._stub.CancelJob, job_service_pb2.CancelJobRequest(job_id=self.id))

    async def info(self) -> JobInfo:
        """The job as it stands on the server."""
        return JobInfo.of((await self._call(self._stub.GetJob, job_service_pb2.GetJobRequest(job_id=self.id))).job)

    async def _frames(self, deadline: float | None) -> AsyncIterator[Frame]:
        attempts = 0
        while not self._history.ended:
            try:
                if self._stream is None or deadline is not None:
                    self._stream = self._watch(deadline)
                async for response in self._stream:
                    attempts = 0
                    frame = self._history.take(response.event)
                    if frame is not None:
                        yield frame
                self._stream = None
            except grpc.RpcError as error:
                self._stream = None
                if deadline is not None and time.monotonic() >= deadline:
                    raise DeadlineError(f"job {self.id} has not ended in the time given; it goes on") from error
                attempts += 1
                if error.code() != grpc.StatusCode.UNAVAILABLE or attempts > REATTACH_ATTEMPTS:
                    raise from_rpc(error, self._target) from error
                await asyncio.sleep(backoff(attempts))
        self._history.result()

    def _watch(self, deadline: float | None) -> Any:
        request = job_service_pb2.WatchJobRequest(job_id=self.id, after_sequence=self._history.sequence)
        timeout = None if deadline is None else max(deadline - time.monotonic(), 0)
        return self._stub.WatchJob(request, timeout=timeout)

    async def _call(self, method: Callable[..., Any], request: Any) -> Any:
        return await _call(method, request, self._target)


class Client:
    """A connection to a server, used in an `async with` block or closed with `close`. See gramophone.Client."""

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
    ) -> None:
        self.target = target
        credentials = Credentials(token, tls, root_certificates, certificate, private_key, insecure)
        self._channel = credentials.aio_channel(target, OPTIONS)
        self._style = StyleTransferServiceStub(self._channel)
        self._jobs = JobServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection. Jobs go on, unless they were submitted with on_disconnect="cancel"."""
        await self._channel.close()

    async def style(
        self,
        styles: ImageLike | Style | Sequence[ImageLike | Style],
        *,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a texture with the Gram matrices of one or more pictures; see gramophone.Client.style."""
        request = await asyncio.to_thread(style_request, styles, layers, options)
        return await Job.submit(self._jobs, self.target, self._style.ReconstructStyle(request))

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
        return await Job.submit(self._jobs, self.target, self._style.ReconstructContent(request))

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
        return await Job.submit(self._jobs, self.target, self._style.TransferStyle(request))

    async def estimate(self, kind: str, *pictures: Any, **options: Any) -> Estimate:
        """What a job would take, without running it.

        Args:
            kind: "style", "content" or "transfer".
            pictures, options: what the method of that name takes.
        """
        return Estimate.of(
            await _call(self._style.EstimateJob, estimate_request(kind, pictures, **options), self.target)
        )

    async def job(self, job_id: str) -> Job:
        """A job submitted earlier; see gramophone.Client.job."""
        job = Job(self._jobs, self.target, job_id)
        await job.info()
        return job

    async def jobs(self, *, states: Iterable[str] = (), limit: int | None = None) -> AsyncIterator[JobInfo]:
        """Jobs that one may see, the newest first, at most `limit`, only in `states` such as "running" if given."""
        token, left, chosen = "", limit, tuple(states)
        while left is None or left > 0:
            page = await _call(self._jobs.ListJobs, list_request(chosen, min(left or 100, 100), token), self.target)
            for job in page.jobs:
                yield JobInfo.of(job)
            token = page.next_page_token
            left = None if left is None else left - len(page.jobs)
            if not token:
                return

    async def models(self) -> list[ModelInfo]:
        """The models of the server, its default first."""
        reply = await _call(self._models.ListModels, model_service_pb2.ListModelsRequest(), self.target)
        return [ModelInfo.of(model) for model in reply.models]

    async def features(
        self,
        image: ImageLike,
        *,
        layers: Sequence[str] = (),
        kind: str | None = None,
        size: int | None = None,
        pooling: str | None = None,
        model: str | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Features of a picture by layer, float32; see gramophone.Client.features."""
        request = await asyncio.to_thread(features_request, image, layers, kind, size, pooling, model)
        return arrays(await _call(self._models.ExtractFeatures, request, self.target))


async def _call(method: Callable[..., Any], request: Any, target: str) -> Any:
    try:
        return await method(request, timeout=CALL_TIMEOUT)
    except grpc.RpcError as error:
        raise from_rpc(error, target) from error
