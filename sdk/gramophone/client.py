"""The client of a Gramophone server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack

import grpc

from .channel import CALL_TIMEOUT, OPTIONS
from .credentials import Credentials, Pem
from .errors import from_rpc
from .job import Job
from .requests import (
    Options,
    content_request,
    estimate_request,
    features_request,
    list_request,
    style_request,
    transfer_request,
)
from .v1 import model_service_pb2
from .v1.job_service_pb2_grpc import JobServiceStub
from .v1.model_service_pb2_grpc import ModelServiceStub
from .v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from .values import Estimate, JobInfo, ModelInfo

if TYPE_CHECKING:
    import numpy as np

    from .images import ImageLike
    from .requests import Layers, Style


class Client:
    """A connection to a server, used in a `with` block or closed with `close`.

    The three calls that paint return a Job as soon as the server has accepted it. They take the keyword options of
    `gramophone.requests.Options`; what is left out is the server's default. They raise InvalidRequestError,
    NotFoundError, OverloadedError or UnavailableError; a picture that cannot be used is a ValueError, TypeError or
    FileNotFoundError.

    Args:
        target: the server's address, such as "localhost:50051".
        token: what `gramophone tokens add` printed, for a server that asks who calls.
        tls: whether to encrypt the connection; implied by the three that follow.
        root_certificates: authorities that the server's certificate may be of; by default those that gRPC comes with.
        certificate, private_key: of this client, for a server that asks for one.
        insecure: let the token travel unencrypted to another machine, where something else protects it.

    The certificates and the key are paths of PEM files or their bytes. A server that refuses them, or that is refused,
    shows in the first call: as UnauthenticatedError or UnavailableError.

    Raises:
        ValueError: a token would travel unencrypted, or a certificate comes without its key.
        FileNotFoundError: there is no such file.
    """

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
        self._channel = credentials.channel(target, OPTIONS)
        self._style = StyleTransferServiceStub(self._channel)
        self._jobs = JobServiceStub(self._channel)
        self._models = ModelServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Jobs go on, unless they were submitted with on_disconnect="cancel"."""
        self._channel.close()

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
        request = style_request(styles, layers, options)
        return Job.submit(self._jobs, self.target, lambda: self._style.ReconstructStyle(request))

    def content(
        self,
        image: ImageLike,
        *,
        layer: str | None = None,
        layers: Layers | None = None,
        **options: Unpack[Options],
    ) -> Job:
        """Makes a picture with the feature maps of another, at one `layer` or several `layers`."""
        request = content_request(image, layers if layer is None else layer, options)
        return Job.submit(self._jobs, self.target, lambda: self._style.ReconstructContent(request))

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
        request = transfer_request(content, styles, content_layers, style_layers, content_weight, style_weight, options)
        return Job.submit(self._jobs, self.target, lambda: self._style.TransferStyle(request))

    def estimate(self, kind: str, *pictures: Any, **options: Any) -> Estimate:
        """What a job would take, without running it.

        Args:
            kind: "style", "content" or "transfer".
            pictures, options: what the method of that name takes.
        """
        return Estimate.of(self._call(self._style.EstimateJob, estimate_request(kind, pictures, **options)))

    def job(self, job_id: str) -> Job:
        """A job submitted earlier, by this client or, for an administrator, by whomever.

        Raises:
            NotFoundError: the server does not know it.
        """
        job = Job(self._jobs, self.target, job_id)
        job.info()
        return job

    def jobs(self, *, states: Iterable[str] = (), limit: int | None = None) -> Iterator[JobInfo]:
        """Jobs that one may see, the newest first, at most `limit`, only in `states` such as "running" if given."""
        token, left, chosen = "", limit, tuple(states)
        while left is None or left > 0:
            request = list_request(chosen, min(left or 100, 100), token)
            page = self._call(self._jobs.ListJobs, request)
            yield from map(JobInfo.of, page.jobs)
            token = page.next_page_token
            left = None if left is None else left - len(page.jobs)
            if not token:
                return

    def models(self) -> list[ModelInfo]:
        """The models of the server, its default first."""
        reply = self._call(self._models.ListModels, model_service_pb2.ListModelsRequest())
        return [ModelInfo.of(model) for model in reply.models]

    def features(
        self,
        image: ImageLike,
        *,
        layers: Sequence[str] = (),
        kind: str | None = None,
        size: int | None = None,
        pooling: str | None = None,
        model: str | None = None,
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Features of a picture by layer, float32.

        Args:
            layers: names; the paper's style layers if left out.
            kind: "gram" for Gram matrices divided by the number of positions (C, C), the default, or "map" for feature
                maps (C, H, W).
            size: longest side to which the picture is scaled first, in pixels.
        """
        request = features_request(image, layers, kind, size, pooling, model)
        return arrays(self._call(self._models.ExtractFeatures, request))

    def _call(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=CALL_TIMEOUT)
        except grpc.RpcError as error:
            raise from_rpc(error, self.target) from error


def arrays(reply: model_service_pb2.ExtractFeaturesResponse) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a reply to ExtractFeatures, by layer."""
    import numpy as np

    return {f.layer: np.frombuffer(f.data, "<f4").reshape(tuple(f.shape)).copy() for f in reply.features}
