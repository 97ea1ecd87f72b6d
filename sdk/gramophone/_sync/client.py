"""The client of a Gramophone server."""

from __future__ import annotations

import contextlib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

from ..arguments import integer
from ..batches import PATIENCE, Outcome, arguments
from ..brief import Rooted
from ..channel import channel_options, named
from ..credentials import Credentials, Pem
from ..errors import GramophoneError
from ..features import arrays
from ..images import encode
from ..listing import JobFilters, Pages
from ..options import FeatureKind, JobKind, Options, Pooling
from ..requests import content_request, estimate_request, features_request, style_request, transfer_request
from ..retry import RetryPolicy, patient
from ..targets import checked
from ..v1 import model_service_pb2
from ..values import Estimate, JobInfo, ModelInfo
from .connection import Connection
from .job import Job
from .waiting import Later, in_thread

if TYPE_CHECKING:
    import numpy as np

    from ..images import ImageLike
    from ..requests import Layers, Style


class Client(Rooted):
    """A connection to a server, used in a `with` block or closed with `close`.

    The three calls that paint return a Job as soon as the server has accepted it. They take the keyword options of
    `gramophone.Options`; what is left out is the server's default. They raise InvalidRequestError,
    NotFoundError, OverloadedError or UnavailableError; a picture that cannot be used is a ValueError, TypeError or
    FileNotFoundError.

    A server that is away, as while it is restarted, is tried again for `retry_for` seconds before a call or a job's
    stream raises UnavailableError; the time starts anew with everything that comes. No job is submitted twice by that.
    Pictures of more than a megabyte are sent ahead and once, see `upload`.

    Making a client connects to nothing: the first call does. So it may be made in a module. Threads share it, each
    event loop has a connection of its own, and a process that is forked off while no job is being watched connects by
    itself.

    Args:
        target: the server's address, such as "localhost:50051": a host and a port, or one of gRPC's other kinds of
            names, such as "unix:/run/gramophone.sock".
        token: what `gramophone tokens add` printed, for a server that asks who calls.
        tls: whether to encrypt the connection; implied by the three that follow.
        root_certificates: authorities that the server's certificate may be of; by default those that gRPC comes with.
        certificate, private_key: of this client, for a server that asks for one.
        insecure: let the token travel unencrypted to another machine, where something else protects it.
        timeout: seconds that a call may take with all its tries; None for as long as it takes. It does not bound
            streams: those of jobs, submitting one included, of uploads and of downloads.
        retry_for: seconds for which a server that is away is tried again; 0 for a single try.
        retry_overload: whether a server that has no room, which is OverloadedError, is tried again too, when it says it
            may have.
        options: gRPC channel options, such as ("grpc.keepalive_time_ms", 30_000), before the client's own.

    The certificates and the key are paths of PEM files or their bytes. A server that refuses them, or that is refused,
    shows in the first call: as UnauthenticatedError or UnavailableError.

    Raises:
        ValueError: the target is no address, a token would travel unencrypted, or a certificate comes without its key.
        FileNotFoundError: there is no such file.
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
        self._connection = Connection(target, policy, lambda: named(credentials.channel(target, chosen), name))

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Jobs go on, unless they were submitted with on_disconnect="cancel"."""
        self._connection.close()

    def style(
        self,
        styles: ImageLike | Style | Sequence[ImageLike | Style],
        *,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a texture with the Gram matrices of one or more pictures.

        Args:
            styles: a picture, or several, or several with their weights and scales as `Style`.
            layers: 1 to 5 for the first so many of the paper's layers, or names, or names with weights.
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
        """Makes a picture with the feature maps of another, at one `layer` or several `layers`."""
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
        """Makes a picture with the content of one picture and the style of others.

        Args:
            content_weight, style_weight: alpha and beta of the paper's equation 7.
        """
        request = in_thread(
            transfer_request, content, styles, content_layers, style_layers, content_weight, style_weight, options
        )
        return Job.submit(self._connection, self._connection.style.TransferStyle, request)

    def map(
        self, method: Callable[..., Later[Job]], *iterables: Iterable[Any], at_once: int = 8, **options: Any
    ) -> Iterator[Outcome]:
        """Runs many jobs, some at a time, and gives what became of each, in their order.

            for outcome in client.map(client.transfer, photos, repeat("night.jpg"), size=512):
                print(photos[outcome.number], outcome.error or outcome.result().loss)

        A job that fails, or cannot be submitted, is an outcome with an `error`, and the others go on. A server without
        room is asked again. Leaving the loop cancels what runs of it.

        Args:
            method: `style`, `content` or `transfer` of a client, or anything else that returns a Job.
            iterables: its arguments, one of each for a job; the shortest says how many there are.
            at_once: most jobs that are submitted and not yet given back. Jobs of one shape run together.
            options: of every job, as the method takes them.
        """
        return self._map(method, arguments(iterables, at_once), at_once, options)

    def _map(
        self,
        method: Callable[..., Later[Job]],
        each: Iterable[tuple[Any, ...]],
        at_once: int,
        options: dict[str, Any],
    ) -> Iterator[Outcome]:
        under_way: deque[tuple[int, Job | Exception]] = deque()
        try:
            for number, given in enumerate(each):
                if len(under_way) == at_once:
                    yield _outcome(*under_way.popleft())
                try:
                    with patient(PATIENCE):
                        under_way.append((number, method(*given, **options)))
                except Exception as error:
                    under_way.append((number, error))
            while under_way:
                yield _outcome(*under_way.popleft())
        finally:
            for _, job in under_way:
                if isinstance(job, Job):
                    with contextlib.suppress(GramophoneError, RuntimeError):
                        job.cancel()

    def estimate(self, kind: JobKind, *pictures: Any, **options: Any) -> Estimate:
        """What a job would take, without running it.

        Args:
            kind: "style", "content" or "transfer".
            pictures, options: what the method of that name takes.
        """
        request = in_thread(estimate_request, kind, pictures, **options)
        return Estimate.of(self._connection.call_with_pictures(self._connection.style.EstimateJob, request))

    def upload(self, image: ImageLike) -> str:
        """Has the server keep a picture for some time; returns the SHA-256 of its file.

        `Uploaded(sha256)` then stands for the picture in other calls. There is no need to: a large picture of any call
        is uploaded anyway, unless the server has it.
        """
        return self._connection.upload(in_thread(encode, image))

    def job(self, job_id: str, *, after: int = 0) -> Job:
        """A job submitted earlier, by this client or, for an administrator, by whomever.

        Args:
            after: sequence of the last frame that the caller has had; frames begin after it. 0 gives the whole history.

        Raises:
            NotFoundError: the server does not know it.
            TypeError, ValueError: `after` is not a whole number of at least 0.
        """
        after = integer("after", after) or 0
        if after < 0:
            raise ValueError(f"after must be at least 0, not {after}")
        job = Job(self._connection, job_id)
        job._history.skip(after, job.info())
        return job

    def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilters]) -> Iterator[JobInfo]:
        """Jobs that one may see, the newest first, at most `limit`; see gramophone.listing.JobFilters for which."""
        pages = Pages(limit, filters)
        while (request := pages.next()) is not None:
            for job in pages.take(self._connection.call(self._connection.jobs.ListJobs, request)):
                yield job

    def models(self) -> list[ModelInfo]:
        """The models of the server, its default first."""
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
        """Features of a picture by layer, float32.

        Args:
            layers: names; the paper's style layers if left out.
            kind: "gram" for Gram matrices divided by the number of positions (C, C), the default, or "map" for feature
                maps (C, H, W).
            size: longest side to which the picture is scaled first, in pixels.
        """
        request = in_thread(features_request, image, layers, kind, size, pooling, model)
        stream = self._connection.models.ExtractFeatures
        return arrays(self._connection.call_with_pictures(_all_of(stream), request))


def _all_of(method: Callable[..., Any]) -> Callable[..., Later[list[Any]]]:
    """The responses of a streaming method, together."""

    def call(request: Any, timeout: float | None) -> list[Any]:
        return [response for response in method(request, timeout=timeout)]

    return call


def _outcome(number: int, job: Job | Exception) -> Outcome:
    if isinstance(job, Exception):
        return Outcome(number, None, None, job)
    try:
        return Outcome(number, job.id, job.result(), None)
    except GramophoneError as error:
        return Outcome(number, job.id, None, error)
