"""ModelService: tells about models and lends their features."""

import asyncio

import grpc

from gramophone.v1 import model_service_pb2 as pb
from gramophone.v1.model_service_pb2_grpc import ModelServiceServicer

from ..messages.events import Failure
from ..models.store import ModelStore
from ..reading.requests import RequestReader
from ..reading.sources import MakeSources
from ..rpc.errors import Context, abort, rich_errors
from ..scheduling.scheduler import Scheduler
from ..security.caller import client_of
from .render import render_model


class ModelServicer(ModelServiceServicer):
    """Answers the calls about models."""

    def __init__(
        self,
        scheduler: Scheduler,
        reader: RequestReader,
        sources: MakeSources,
        models: ModelStore,
        default_model: str,
    ) -> None:
        self._scheduler = scheduler
        self._reader = reader
        self._sources = sources
        self._models = models
        self._default_model = default_model

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """The models, the default first."""
        manifests = [model.manifest for model in await asyncio.to_thread(self._models.list)]
        manifests.sort(key=lambda manifest: (manifest.name != self._default_model, manifest.name))
        return pb.ListModelsResponse(
            models=[render_model(m, is_default=m.name == self._default_model) for m in manifests]
        )

    async def ExtractFeatures(self, request: pb.ExtractFeaturesRequest, context: Context) -> pb.ExtractFeaturesResponse:
        """Features of a picture."""
        async with rich_errors(context):
            with self._sources(client_of(context), durable=False) as sources:
                asked = await self._reader.features(request, sources)
                answer = await self._scheduler.extract(
                    asked.model,
                    asked.picture,
                    sources.staging.path,
                    asked.layers,
                    gram=asked.gram,
                    pooling=asked.pooling,
                )
            if isinstance(answer, Failure):
                await abort(context, grpc.StatusCode[answer.code], answer.message)
            features = [pb.LayerFeatures(layer=name, shape=shape, data=data) for name, shape, data in answer]
            return pb.ExtractFeaturesResponse(features=features, model=asked.model)
        raise AssertionError("unreachable")
