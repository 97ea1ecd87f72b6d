"""ModelService: lists models and extracts features of pictures."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from gramophone.v1 import model_service_pb2 as pb
from gramophone.v1.model_service_pb2_grpc import ModelServiceServicer

from ..messages.events import Failure
from ..models.store import ModelStore
from ..reading.request_images import MakeRequestImages
from ..reading.request_reader import RequestReader
from ..reading.rules import read_field
from ..rpc.errors import Context, abort, rich_errors
from ..rpc.violations import Checker
from ..scheduling.scheduler import Scheduler
from ..security.caller import client_of
from .pieces import feature_pieces, fill_page
from .render import render_model


class ModelServicer(ModelServiceServicer):
    """Implements ModelService."""

    def __init__(
        self,
        scheduler: Scheduler,
        reader: RequestReader,
        images: MakeRequestImages,
        models: ModelStore,
        default_model: str,
    ) -> None:
        self._scheduler = scheduler
        self._reader = reader
        self._images = images
        self._models = models
        self._default_model = default_model

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Returns one page of models: the default model first, the others by name. The page token is a name."""
        async with rich_errors(context):
            check = Checker()
            size = read_field(request, "page_size", check)
            after = check.text(request, "page_token")
            check.stop_if_wrong()
            manifests = [model.manifest for model in await asyncio.to_thread(self._models.list)]
            manifests.sort(key=lambda manifest: self._rank(manifest.name))
            left = [m for m in manifests if not after or self._rank(m.name) > self._rank(after)]
            page = fill_page(render_model(m, is_default=m.name == self._default_model) for m in left[:size])
            return pb.ListModelsResponse(models=page, next_page_token=page[-1].name if len(left) > len(page) else "")
        raise AssertionError("unreachable")

    def _rank(self, name: str) -> tuple[bool, str]:
        return name != self._default_model, name

    async def ExtractFeatures(
        self, request: pb.ExtractFeaturesRequest, context: Context
    ) -> AsyncIterator[pb.ExtractFeaturesResponse]:
        """Streams the features of a picture in pieces of at most `PIECE` bytes."""
        async with rich_errors(context):
            with self._images(client_of(context), durable=False) as images:
                asked = await self._reader.features(request, images)
                answer = await self._scheduler.extract(
                    asked.model,
                    asked.picture,
                    images.staging.path,
                    asked.layers,
                    gram=asked.gram,
                    pooling=asked.pooling,
                )
            if isinstance(answer, Failure):
                await abort(context, grpc.StatusCode[answer.code], answer.message)
            for response in feature_pieces(asked.model, answer):
                yield response
