"""Calls to a server, with retries and with uploads of large pictures."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import grpc

from ..base_connection import BaseConnection
from ..errors import InvalidRequestError, ServerError
from ..retry import Attempts, RetryPolicy, StreamEndedError
from ..uploads import UploadingRequest, sha256_of, upload_requests
from .waiting import MaybeAwaitable, Stubs, in_thread, once, sleep, stream_owner

_T = TypeVar("_T")
# Maximum seconds for canceling jobs when the client closes. If it fails, the server cancels them some seconds later.
_CANCEL_TIMEOUT = 2.0


class Connection(BaseConnection):
    """Calls to a server, with retries and with uploads of large pictures."""

    def __init__(self, target: str, policy: RetryPolicy, dial: Callable[[], Any]) -> None:
        self._channels = Stubs(dial)
        super().__init__(target, policy, self._channels)

    @property
    def owner(self) -> object:
        """The event loop or process that can read streams opened now."""
        return stream_owner()

    def close(self) -> None:
        """Cancels the jobs submitted with on_disconnect="cancel", then closes the channels."""
        deadline = time.monotonic() + _CANCEL_TIMEOUT
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for request in self.cancel_requests():
                self.jobs.CancelJob(request, timeout=max(deadline - time.monotonic(), 0))
        self._channels.close()

    def call(self, method: Callable[..., Any], request: Any, attempts: Attempts | None = None) -> Any:
        """Makes a unary call, with retries; returns the response."""
        chosen = attempts or self.attempts_in_time()
        return self._retry(lambda: method(request, timeout=chosen.left), chosen)

    def call_with_pictures(self, method: Callable[..., Any], request: Any) -> Any:
        """Makes a unary call whose request has pictures; uploads the large ones first."""
        return self._send(request, lambda sent: self.call(method, sent))

    def submit(self, method: Callable[..., Any], request: Any) -> tuple[Any, Any]:
        """Submits a job, with retries; returns its stream and the stream's first event, already received."""
        request.submission.request_id = request.submission.request_id or str(uuid.uuid4())

        def begin() -> tuple[Any, Any]:
            stream = method(request)
            for response in stream:
                return stream, response.event
            raise StreamEndedError

        return self._send(request, lambda _: self._retry(begin, self.attempts()))

    def upload(self, data: bytes) -> str:
        """Uploads a picture file; returns its SHA-256."""
        sha256 = in_thread(sha256_of, data)
        self._upload(sha256, data)
        return sha256

    def _upload(self, sha256: str, data: bytes) -> None:
        self._retry(lambda: self.jobs.UploadImage(upload_requests(sha256, data)), self.attempts())
        self.uploads.known.add(sha256)

    def _send(self, request: Any, call: Callable[[Any], MaybeAwaitable[_T]]) -> _T:
        uploading = in_thread(UploadingRequest, request, self.uploads)
        self._upload_missing(uploading)
        try:
            return call(uploading.request)
        except InvalidRequestError as error:
            if not uploading.forget_deleted(error):
                raise
        self._upload_missing(uploading)
        return call(uploading.request)

    def _upload_missing(self, uploading: UploadingRequest[Any]) -> None:
        try:
            for sha256, data in uploading.missing():
                self._upload(sha256, data)
        except ServerError as error:
            uploading.upload_failed(error)

    def _retry(self, call: Callable[[], MaybeAwaitable[_T]], attempts: Attempts) -> _T:
        while True:
            try:
                return once(call, self)
            except grpc.RpcError as error:
                sleep(attempts.pause(error))
