"""Calls that are made again when the server was away, and whose large pictures go ahead."""

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
from ..uploads import UploadingRequest, pieces, sha256_of
from .waiting import Later, Stubs, here, in_thread, once, sleep

_T = TypeVar("_T")
# Seconds that closing a client may take to cancel the jobs that end with it; the server does it too, a little later.
_LEAVING = 2.0


class Connection(BaseConnection):
    """Calls that are made again when the server was away, and whose large pictures go ahead."""

    def __init__(self, target: str, policy: RetryPolicy, dial: Callable[[], Any]) -> None:
        self._channels = Stubs(dial)
        super().__init__(target, policy, self._channels)

    @property
    def home(self) -> object:
        """Where streams begun now can be read."""
        return here()

    def close(self) -> None:
        """Closes the channels, once the jobs that end with them are cancelled."""
        deadline = time.monotonic() + _LEAVING
        with contextlib.suppress(grpc.RpcError, RuntimeError):
            for request in self.left_over():
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
        sha256 = in_thread(sha256_of, data)
        self._upload(sha256, data)
        return sha256

    def _upload(self, sha256: str, data: bytes) -> None:
        self._retry(lambda: self.jobs.UploadImage(pieces(sha256, data)), self.attempts())
        self.library.known.add(sha256)

    def _send(self, request: Any, call: Callable[[Any], Later[_T]]) -> _T:
        uploading = in_thread(UploadingRequest, request, self.library)
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

    def _retry(self, call: Callable[[], Later[_T]], attempts: Attempts) -> _T:
        while True:
            try:
                return once(call, self)
            except grpc.RpcError as error:
                sleep(attempts.pause(error))
