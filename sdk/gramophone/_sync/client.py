"""The client of a Gramophone server."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, overload

from ..arguments import integer
from ..batches import LEAVING, Accepted, Batch, Outcome, Refused, arguments, method_and_lists
from ..brief import NotPicklable
from ..channel import channel_options, named
from ..credentials import Credentials, Pem
from ..errors import DeadlineError, GramophoneError, OverloadedError, UnavailableError
from ..features import arrays
from ..images import encode
from ..listing import JobFilters, Pages
from ..options import FeatureKind, JobKind, Options, Pooling
from ..requests import content_request, estimate_request, features_request, style_request, transfer_request
from ..retry import RetryPolicy
from ..targets import checked
from ..v1 import model_service_pb2
from ..values import Estimate, JobInfo, ModelInfo
from .connection import Connection
from .job import Job
from .waiting import Mailbox, MaybeAwaitable, in_background, in_thread

if TYPE_CHECKING:
    import numpy as np

    from ..images import ImageLike
    from ..requests import Layers, Style


class Client(NotPicklable):
    """A connection to a server, used in a `with` block or closed with `close`.

    `style`, `content` and `transfer` submit a job and return a Job as soon as the server has accepted it. They take the
    keyword options of `gramophone.Options`; the server uses its defaults for missing options. They raise
    InvalidRequestError, NotFoundError, OverloadedError or UnavailableError, and ValueError, TypeError or
    FileNotFoundError for a picture that cannot be used.

    If the server cannot be reached, for example during a restart, the client retries for `retry_for` seconds before a
    call or a job's stream raises UnavailableError; each received message restarts this time. Retries never submit a
    job twice. Pictures of more than 1 MB are uploaded before the request, and only once; see `upload`.

    Creating a client does not connect; the first call does. So a client can be created at module level. Threads share
    its connection. Each event loop gets its own connection, and so does a forked process, if it was forked while no
    stream of a job was open.

    Args:
        target: the server's address: a host and a port, such as "localhost:50051", or another kind of gRPC name, such
            as "unix:/run/gramophone.sock".
        token: token printed by `gramophone tokens add`, for a server that requires authentication.
        tls: whether to encrypt the connection; implied by the next three arguments.
        root_certificates: certificate authorities to trust; by default those that gRPC includes.
        certificate, private_key: certificate and key of this client, for a server that requires them.
        insecure: allow sending the token unencrypted to another machine, for example through an encrypted tunnel.
        timeout: maximum seconds for a call, including its retries; None for no limit. It does not apply to streams:
            submitting and watching jobs, uploads and downloads.
        retry_for: seconds to retry while the server cannot be reached; 0 for no retries.
        retry_overload: whether to retry calls that fail with OverloadedError too, after the delay that the server asks
            for.
        options: gRPC channel options, such as ("grpc.keepalive_time_ms", 30_000); they override the client's own.

    Certificates and the key are paths of PEM files, or the bytes of such files. If the server rejects them, or the
    client rejects the server's, the first call raises UnauthenticatedError or UnavailableError.

    Raises:
        ValueError: the target is not an address, the token would be sent unencrypted, or only one of certificate and
            private key is given.
        FileNotFoundError: a file does not exist.
    """

    _instead = "create another client with the same target and options there"
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
        self._connection = Connection(target, policy, lambda: named(credentials.channel(target, chosen), name))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Jobs continue, except those submitted with on_disconnect="cancel"."""
        self._connection.close()

    def style(
        self,
        styles: ImageLike | Style | Sequence[ImageLike | Style],
        *,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Submits a style reconstruction: a texture with the Gram matrices of one or more pictures.

        Args:
            styles: a picture, several pictures, or `Style` objects with weights, scales and masks.
            layers: a number (1 to 5: that many of the paper's style layers, from the first), names, or names with
                weights.
        """
        request = in_thread(style_request, styles, layers, options)
        return Job.submit(self._connection, self._connection.style.ReconstructStyle, request)

    def content(
        self,
        image: ImageLike,
        *,
        layer: str | None = None,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Submits a content reconstruction: a picture with the feature maps of `image` at `layer` or `layers`."""
        request = in_thread(content_request, image, layers if layer is None else layer, options)
        return Job.submit(self._connection, self._connection.style.ReconstructContent, request)

    def transfer(
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
        """Submits a style transfer: a picture with the content of one picture and the style of others.

        Args:
            content: the picture to take content from.
            styles: a picture, several pictures, or `Style` objects with weights, scales and masks.
            content_layers: names, or names with weights.
            style_layers: a number (1 to 5: that many of the paper's style layers, from the first), names, or names
                with weights.
            content_weight, style_weight: alpha and beta of the paper's equation 7.
        """
        request = in_thread(
            transfer_request, content, styles, content_layers, style_layers, content_weight, style_weight, options
        )
        return Job.submit(self._connection, self._connection.style.TransferStyle, request)

    @overload
    def map(
        self,
        pictures: Iterable[ImageLike],
        /,
        *,
        style: ImageLike | Style | Sequence[ImageLike | Style],
        at_once: int = 8,
        in_order: bool = True,
        **options: Any,
    ) -> Iterator[Outcome]: ...
    @overload
    def map(
        self,
        method: Callable[..., MaybeAwaitable[Job]],
        /,
        *iterables: Iterable[Any],
        at_once: int = 8,
        in_order: bool = True,
        **options: Any,
    ) -> Iterator[Outcome]: ...
    def map(
        self, first: Any, /, *iterables: Iterable[Any], at_once: int = 8, in_order: bool = True, **options: Any
    ) -> Iterator[Outcome]:
        """Runs many jobs, up to `at_once` at a time, and yields the outcome of each.

            for outcome in client.map(photos, style="night.jpg", size=512):
                print(photos[outcome.number], outcome.error or outcome.result().loss)

        A job that fails, or cannot be submitted, gives an outcome with an `error`; the other jobs continue. While the
        server has no room, the next submission waits as long as the server asks. Leaving the loop early cancels the
        jobs that have not ended.

        Args:
            first: the pictures to transfer the `style` to; or `style`, `content` or `transfer` of a client, or any
                function that returns a Job. The synchronous client calls it in other threads, one call at a time.
            iterables: positional arguments of the method, each job takes the next item of each iterable; the shortest
                iterable determines the number of jobs.
            at_once: maximum number of jobs that are submitted and have not ended. No further jobs are submitted while
                so many outcomes wait for those of older jobs.
            in_order: whether outcomes come in the order of the jobs, not in the order in which the jobs end.
            options: keyword arguments of the method for every job. With `reproducible=False` the server computes
                several of the jobs together, which gives more jobs an hour; the results then differ by rounding.
        """
        method, lists = method_and_lists(self.transfer, first, iterables, options)
        return self._map(Batch(arguments(lists, at_once), at_once, in_order), partial(method, **options))

    def _map(self, batch: Batch, method: Callable[..., MaybeAwaitable[Job]]) -> Iterator[Outcome]:
        messages = Mailbox()
        # Tasks that nothing refers to may be garbage-collected.
        running: dict[int, object] = {}
        try:
            while True:
                if (due := batch.due()) is not None:
                    running[due[0]] = in_background(_run, batch, messages, method, *due)
                if batch.finished:
                    return
                outcome = batch.ready()
                if outcome is None:
                    batch.take(messages.get(batch.pause()))
                    outcome = batch.ready()
                if outcome is not None:
                    running.pop(outcome.number, None)
                    yield outcome
        finally:
            _leave(batch, messages)

    def estimate(self, kind: JobKind, *pictures: Any, **options: Any) -> Estimate:
        """Estimates the memory and time of a job without running it.

        Args:
            kind: "style", "content" or "transfer".
            pictures, options: arguments of the method of that name.
        """
        request = in_thread(estimate_request, kind, pictures, **options)
        return Estimate.of(self._connection.call_with_pictures(self._connection.style.EstimateJob, request))

    def upload(self, image: ImageLike) -> str:
        """Uploads a picture, which the server keeps for some time; returns the SHA-256 of its file.

        Pass `Uploaded(sha256)` as the picture in later calls. This is optional: every call uploads its large pictures,
        unless the server already has them.
        """
        return self._connection.upload(in_thread(encode, image))

    def job(self, job_id: str, *, after: int = 0) -> Job:
        """Returns a job submitted earlier by this client, or by any client if the caller is an administrator.

        Args:
            after: sequence of the last frame that the caller has received; iterating the job starts after it. 0 gives
                the whole history.

        Raises:
            NotFoundError: the server has no such job.
            TypeError, ValueError: `after` is not an integer of at least 0.
        """
        after = integer("after", after) or 0
        if after < 0:
            raise ValueError(f"after must be at least 0, not {after}")
        job = Job(self._connection, job_id)
        job._history.skip(after, job.info())
        return job

    def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilters]) -> Iterator[JobInfo]:
        """Lists the jobs that the caller can access, by default the newest first.

        Args:
            limit: maximum number of jobs; None for all.
            filters: filters and order; see `gramophone.listing.JobFilters`.
        """
        pages = Pages(limit, filters)
        while (request := pages.next()) is not None:
            for job in pages.take(self._connection.call(self._connection.jobs.ListJobs, request)):
                yield job

    def models(self) -> list[ModelInfo]:
        """Lists the models of the server, its default model first."""
        models, request = [], model_service_pb2.ListModelsRequest()
        while True:
            page = self._connection.call(self._connection.models.ListModels, request)
            models += [ModelInfo.of(model) for model in page.models]
            if not page.next_page_token:
                return models
            request.page_token = page.next_page_token

    def features(
        self,
        image: ImageLike,
        *,
        layers: Sequence[str] = (),
        kind: FeatureKind | None = None,
        size: int | None = None,
        pooling: Pooling | None = None,
        model: str | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Extracts features of a picture; returns a float32 array for each layer.

        Args:
            layers: names of layers. Default: the model's style layers.
            kind: "gram", the default, for Gram matrices divided by the number of positions, shape (C, C); "map" for
                feature maps, shape (C, H, W).
            size: longest side in pixels to which the picture is resized before extraction. Default: its own size.
            pooling: pooling of the network. Default: the model's own.
            model: name of the model. Default: the server's default model.
        """
        request = in_thread(features_request, image, layers, kind, size, pooling, model)
        stream = self._connection.models.ExtractFeatures
        return arrays(self._connection.call_with_pictures(_all_of(stream), request))


def _all_of(method: Callable[..., Any]) -> Callable[..., MaybeAwaitable[list[Any]]]:
    """Turns a streaming method into a call that returns all its responses as a list."""

    def call(request: Any, timeout: float | None) -> list[Any]:
        return [response for response in method(request, timeout=timeout)]

    return call


def _run(
    batch: Batch,
    messages: Mailbox,
    method: Callable[..., MaybeAwaitable[Job]],
    number: int,
    given: tuple[Any, ...],
) -> None:
    """Submits a job of a batch and waits until it ends; sends messages about both."""
    try:
        job = method(*given)
    except OverloadedError as error:
        return messages.put(Refused(number, error))
    except Exception as error:
        return messages.put(Outcome(number, None, None, error))
    messages.put(Accepted(number, job))
    try:
        if batch.left:
            job.cancel()
        messages.put(Outcome(number, job.id, job.result(), None))
    except Exception as error:
        messages.put(Outcome(number, getattr(job, "id", None), None, error))


def _leave(batch: Batch, messages: Mailbox) -> None:
    """Cancels the jobs of a batch that have not ended; one that is being submitted is canceled when it is accepted."""
    batch.left = True
    while batch.submitting and (message := messages.get(LEAVING)) is not None:
        batch.take(message)
    for job in batch.jobs.values():
        try:
            job.cancel()
        except (UnavailableError, DeadlineError, RuntimeError):
            # The server cannot be reached, or the client is closed: the other calls would fail, too, and take long.
            return
        except GramophoneError:
            continue
