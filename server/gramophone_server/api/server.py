"""The gRPC server: builds all parts, serves the services, health and reflection, and shuts down in order."""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gramophone.v1 import job_service_pb2, model_service_pb2, style_transfer_service_pb2
from gramophone.v1.job_service_pb2_grpc import add_JobServiceServicer_to_server
from gramophone.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from gramophone.v1.style_transfer_service_pb2_grpc import add_StyleTransferServiceServicer_to_server

from ..decoding.decoders import Decoders
from ..decoding.staging import Staging
from ..messages.pipe import WorkerConfig
from ..models.store import ModelStore
from ..observability.instruments import Instruments
from ..observability.readiness import Readiness
from ..reading.interceptor import MAX_REQUEST_BYTES, ReadingInterceptor
from ..reading.request_images import RequestImages
from ..reading.request_reader import RequestReader
from ..rpc.methods import MethodTable
from ..rpc.reflection import add_reflection
from ..scheduling.device import DeviceExecutor
from ..scheduling.ray_cluster import RayCluster
from ..scheduling.scheduler import Bounds, Scheduler
from ..security.auth import Authenticator
from ..security.tls import check_security, is_unix, open_certificates
from ..security.tokens import TokenFile
from ..settings import Settings, StorageSettings
from ..storage.errors import Trouble
from ..storage.folder import DataFolder, DataFolderError
from ..storage.job import Job
from ..storage.quotas import Retention
from ..storage.store import JobStore
from .connections import connection_options, max_connections
from .idleness import IdleMonitor
from .inputs import Inputs
from .job_service import JobServicer
from .memory import trim_memory_regularly
from .model_service import ModelServicer
from .presence import ClientPresence
from .previews import Previews
from .streams import Streams
from .style_transfer import StyleTransferServicer

if TYPE_CHECKING:
    from ..storage.objects.files import RemoteFiles

log = logging.getLogger(__name__)

# Methods whose requests may carry pictures.
_WITH_PICTURES = (
    *(f"/{method.containing_service.full_name}/{method.name}"
      for method in style_transfer_service_pb2.DESCRIPTOR.services_by_name["StyleTransferService"].methods),
    "/gramophone.v1.ModelService/ExtractFeatures",
)  # fmt: skip

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
_DESCRIPTORS = tuple(
    module.DESCRIPTOR.services_by_name[name]
    for module, name in (
        (style_transfer_service_pb2, "StyleTransferService"),
        (job_service_pb2, "JobService"),
        (model_service_pb2, "ModelService"),
    )
)
SERVICES = tuple(service.full_name for service in _DESCRIPTORS)


class GramophoneServer:
    """The front process: serves gRPC on one event loop; worker processes run the jobs.

    Attributes:
        address: address that it listens on; empty before `start`.
        url: URL of HTTP; empty before `start`, and without HTTP.
        failure: why the server must stop, such as a device that cannot be opened; None if there is no such reason.

    Raises:
        UnknownModelError: the default model does not exist.
        SecurityError, TokenFileError: the server would listen without authentication, or a key or token file cannot be
            used.
        ObservabilityError: metrics or event files need a package that is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._connection = connection = settings.connection
        security, limits = settings.security, settings.limits
        check_security(security, connection.host)
        if settings.http.address is not None:
            check_security(security, settings.http.address[0])
        self._certificates = open_certificates(security)
        self._credentials = None if self._certificates is None else self._certificates.credentials()
        self._tokens = TokenFile(security.tokens) if security.tokens else None
        authenticator = Authenticator(
            self._tokens,
            certificates=self._certificates.client_certificates() if self._certificates else None,
            admins=security.admins,
        )
        default_model = settings.models.default_model
        self._models = models = ModelStore(settings.models.models)
        models.get(default_model)  # Fail at the start if the default model is missing.
        # The workers of GPUs that were found by "auto", by the name of the GPU.
        self._added: dict[str, DeviceExecutor] = {}
        self._starting: list[asyncio.Task[None]] = []
        storage = settings.storage
        retention = _retention(storage, authenticated=security.authenticates)
        store = _store(storage, retention)
        self._ray = _ray_cluster(settings, store.folder, self._add_ray_workers)
        self._executors = executors = (
            [DeviceExecutor(_worker(settings, name), self._workers_changed) for name in settings.workers.devices]
            if self._ray is None
            else [self._ray_executor(self._ray) for _ in range(settings.workers.ray_workers or 1)]
        )
        bounds = Bounds(
            limits.max_queued,
            limits.queued_per_client(authenticated=security.authenticates),
            settings.workers.attempts,
            limits.max_running_per_client,
        )
        has_http = settings.http.http is not None
        self._instruments = Instruments(settings.observability, executors, store, http=has_http)
        self._scheduler = Scheduler(executors, store, bounds, self._instruments.observer)
        reader = RequestReader(models, default_model, limits)
        self._decoders = Decoders(limits.max_pixels, limits.decode_memory)

        def images(client: str, *, durable: bool) -> RequestImages:
            staging = Staging(store.folder.staging)
            return RequestImages(self._decoders, limits, store.uploads.file, staging, client, durable=durable)

        presence = ClientPresence(self._cancel_without_client, connection.disconnect_grace)
        self._streams = streams = Streams(store, limits.max_streams, limits.max_reports)
        self._idle_monitor = IdleMonitor(lambda: self._scheduler.busy)
        authenticators = [authenticator] if security.authenticates else []
        interceptors: list[grpc.aio.ServerInterceptor] = [
            self._instruments.interceptor,
            self._idle_monitor,
            *authenticators,
            ReadingInterceptor(_WITH_PICTURES),
        ]
        # HTTP takes half of the file descriptors.
        max_open = max_connections(connection.max_connections, shares=2 if has_http else 1)
        self._server = grpc.aio.server(
            interceptors=interceptors,
            maximum_concurrent_rpcs=limits.max_calls,
            options=[
                *connection_options(max_open, connection.idle_timeout),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                # Fail when another server already uses the port.
                ("grpc.so_reuseport", 0),
                # Clients may send keepalive pings on idle connections, at most every 5 s.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
                # Close a half-open connection within a minute.
                ("grpc.keepalive_time_ms", 40_000),
                ("grpc.keepalive_timeout_ms", 15_000),
            ],
        )
        self._health = Readiness(SERVICES)
        self._failed = asyncio.Event()
        self._trimming: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_due = False
        self.address = self.url = ""
        self.failure: str | None = None
        store.condition.listen(lambda trouble: self._health.set_reason("storage", _storage_reason(trouble)))
        style = StyleTransferServicer(self._scheduler, reader, images, streams, presence)
        previews, inputs = Previews(self._decoders, store.folder.staging), Inputs(store, self._decoders)
        jobs = JobServicer(self._scheduler, streams, presence, previews, inputs, limits)
        model_service = ModelServicer(self._scheduler, reader, images, models, default_model)
        methods = MethodTable()
        # The generated functions only register handlers; their types ask for a server.
        for server in (self._server, cast(grpc.aio.Server, methods)):
            add_StyleTransferServiceServicer_to_server(style, server)
            add_JobServiceServicer_to_server(jobs, server)
            add_ModelServiceServicer_to_server(model_service, server)
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        add_reflection((*SERVICES, _HEALTH.full_name), self._server)
        self._http = None
        if has_http:
            # Import on demand: a server without HTTP needs neither the time nor the memory.
            from .http_side import http_server

            self._http = http_server(
                settings, [*_DESCRIPTORS, _HEALTH], methods, interceptors, authenticators,
                certificates=self._certificates, max_connections=max_open, readiness=self._health,
                instruments=self._instruments,
            )  # fmt: skip

    async def start(self) -> str:
        """Starts the server, queues the unfinished jobs of an earlier server, and returns the address.

        Returns before the workers have opened their devices.

        Raises:
            RuntimeError: the port, or the port of the metrics, cannot be bound.
            DataFolderError: the data folder or its database cannot be used.
        """
        host = self._connection.host
        is_socket = is_unix(host)
        if not is_socket and re.fullmatch("[^[].*:.*", host):
            # Put an IPv6 address in brackets.
            host = f"[{host}]"
        address = host if is_socket else f"{host}:{self._connection.port}"
        if self._credentials is not None:
            port = self._server.add_secure_port(address, self._credentials)
        else:
            port = self._server.add_insecure_port(address)
        if self._ray is not None:
            await self._ray.start()
        await self._scheduler.start()
        await self._instruments.serve(self._scheduler, lambda: self._streams.open, self._health)
        await self._server.start()
        self._workers_changed()
        await self._health.start()
        self._trimming = asyncio.create_task(trim_memory_regularly())
        self.address = address if is_socket else f"{host}:{port}"
        if self._http is not None:
            self.url = await self._http.start()
        return self.address

    async def idle(self, seconds: float) -> None:
        """Waits until the server has had neither a call nor a job for `seconds`."""
        await self._idle_monitor.wait(seconds)

    async def failed(self) -> None:
        """Waits until `failure` is set."""
        await self._failed.wait()

    def reload_soon(self) -> None:
        """Reads certificates, tokens and the models folder again, in the background."""
        self._reload_due = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        # Several requests during a reload cause only one more reload.
        while self._reload_due:
            self._reload_due = False
            for files in (self._certificates, self._tokens):
                if files is not None:
                    await asyncio.to_thread(files.reload)
            models = [model.manifest.name for model in await asyncio.to_thread(self._models.list)]
            log.info("models read again: %s", ", ".join(models))

    def _cancel_without_client(self, job: Job) -> None:
        # During a shutdown the server itself closes the streams: the job must not be canceled for that.
        if self._scheduler.admission.open:
            log.info("job %s is canceled: its client has disconnected", job.id, extra=job.marks)
            self._scheduler.cancel_soon(job)

    def _workers_changed(self) -> None:
        """Updates health and `failure` from the states of the workers, and starts a worker for each further GPU."""
        self._add_workers()
        named = self._executors[: len(self._settings.workers.devices)]
        if unopened := [executor.unopened for executor in named if executor.unopened is not None]:
            self.failure = f"{'; '.join(unopened)}; use --device cpu, or omit --device to use the best device found"
            self._failed.set()
        troubles = [executor.trouble for executor in self._executors if executor.trouble is not None]
        lost = "no worker can be used: " + "; ".join(dict.fromkeys(troubles))
        self._health.set_reason("workers", lost if len(troubles) == len(self._executors) else None)

    def _add_workers(self) -> None:
        """Starts a worker for each GPU that the setting "auto" means beside the one that its worker has opened."""
        for name in [name for executor in self._executors for name in executor.others if name not in self._added]:
            log.info("%s gets a worker of its own", name)
            self._added[name] = executor = DeviceExecutor(_worker(self._settings, name), self._workers_changed)
            self._start_executor(executor)

    def _start_executor(self, executor: DeviceExecutor) -> None:
        self._executors.append(executor)
        self._starting.append(asyncio.create_task(self._scheduler.add(executor)))

    def _ray_executor(self, cluster: RayCluster) -> DeviceExecutor:
        # The bridge names the device.
        return DeviceExecutor(_worker(self._settings, "auto"), self._workers_changed, cluster)

    def _add_ray_workers(self, places: int) -> None:
        """Starts a worker for each place of the cluster, unless --ray-workers gives their number."""
        assert self._ray is not None
        if self._settings.workers.ray_workers == 0:
            for _ in range(places - len(self._executors)):
                self._start_executor(self._ray_executor(self._ray))

    async def stop(self, grace: float) -> None:
        """Shuts down: health to NOT_SERVING, running jobs to a checkpoint, then streams, workers and the server.

        Takes about `grace` seconds at most. `Scheduler.stop` describes what happens to the jobs.
        """
        log.info("stopping; running jobs have %g s to save a checkpoint or finish", grace)
        await self._health.enter_graceful_shutdown()
        if self._trimming is not None:
            self._trimming.cancel()
        self._instruments.stop_serving()
        await self._decoders.close()
        await self._scheduler.stop(grace)
        if self._ray is not None:
            await self._ray.stop()
        # Give streams a second to send their last event or status.
        await asyncio.gather(self._server.stop(1.0), *([self._http.stop(1.0)] if self._http else []))
        await asyncio.to_thread(self._instruments.close)


def _storage_reason(trouble: Trouble | None) -> str | None:
    return None if trouble is None else f"the storage cannot be used: {trouble.reason}"


def _store(storage: StorageSettings, retention: Retention) -> JobStore:
    """Returns the store of the jobs: one of its own, or one that it shares with other servers."""
    folder = DataFolder(storage.data, shared=storage.cluster, files=storage.files)
    remote = _remote_files(folder, storage)
    if not storage.cluster:
        return JobStore(folder, storage.database, retention, take_database=storage.take_database, remote=remote)
    # Import on demand: a server without a cluster needs neither the time nor the memory.
    from ..storage.cluster.store import ClusterStore

    return ClusterStore(
        folder, storage.database, retention, take_database=storage.take_database, remote=remote, lease=storage.lease
    )


def _remote_files(folder: DataFolder, storage: StorageSettings) -> "RemoteFiles | None":
    """Returns the files of jobs in an object store; None without --files.

    Raises:
        DataFolderError: the packages are not installed, or nothing would remember the files.
    """
    if storage.files is None:
        return None
    try:
        if not folder.permanent:
            raise DataFolderError("--files needs --data, a folder for the database or for copies of the files")
        # Import on demand: a server without an object store needs neither the time nor the memory.
        from ..storage.objects.files import RemoteFiles

        return RemoteFiles(storage.files, storage.files_cache)
    except DataFolderError:
        folder.close()
        raise


def _retention(storage: StorageSettings, *, authenticated: bool) -> Retention:
    """Returns the storage limits. With authentication, one client has half of the space unless a setting differs."""
    per_client = storage.keep_per_client
    if per_client is None and authenticated:
        per_client = storage.keep // 2
    return Retention(storage.keep_days * 24 * 3600, storage.keep, per_client, storage.max_uploads_per_client)


def _ray_cluster(settings: Settings, folder: DataFolder, on_room: Callable[[int], None]) -> RayCluster | None:
    if settings.workers.executor == "local":
        return None
    return RayCluster(settings.workers, folder.path, settings.observability.log_format, on_room)


def _worker(settings: Settings, device: str) -> WorkerConfig:
    return WorkerConfig(device, settings.workers, settings.models.models, settings.observability)
