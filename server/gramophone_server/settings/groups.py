"""The settings of the server. Each field here becomes a flag, a variable, a key and a row of the reference page.

`make reference` writes the page. A component takes its own group of settings, or plain values.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..logs import Format
from ..models.store import BUILTIN_MODEL
from .checks import check_devices, check_files, check_host, check_http, check_origins, check_threads, split_address
from .table import group, setting


@dataclass(frozen=True)
class ConnectionSettings:
    """Address and limits of connections."""

    host: str = setting("127.0.0.1", "Address to listen on, or unix:PATH for a Unix socket.", check=check_host)
    port: int = setting(50051, "Port to listen on; 0 for a free port.", minimum=0, maximum=65535)
    max_connections: int = setting(
        8192, "Maximum number of open connections; fewer if the system has fewer descriptors.", minimum=1
    )
    idle_timeout: float = setting(
        20.0,
        "Seconds after which a connection without calls is closed.",
        minimum=1,
        # gRPC stores milliseconds in 32 bits.
        maximum=2_000_000,
        unit="seconds",
    )
    # Longer than the SDK's pause between two attempts plus the time to connect.
    disconnect_grace: float = setting(
        10.0,
        "Seconds a client has to reconnect after it has lost its stream, before a job submitted with "
        "on_disconnect=cancel is canceled.",
        minimum=0,
        maximum=86400,
        unit="seconds",
    )


@dataclass(frozen=True)
class HttpSettings:
    """HTTP beside gRPC: Connect, gRPC-Web, JSON, and the web page."""

    http: str | None = setting(
        None,
        "Address of HTTP, with JSON and the web page, such as 127.0.0.1:8080; port 0 for a free port.",
        metavar="HOST:PORT",
        check=check_http,
        default_text="no HTTP",
    )
    http_hosts: tuple[str, ...] = setting(
        (),
        "Name by which clients reach HTTP, beside its address and localhost. Repeat it for several names.",
        metavar="NAME",
        flag="--http-host",
    )
    http_origins: tuple[str, ...] = setting(
        (),
        "Origin of web pages that may call HTTP, such as https://pages.example. Repeat it for several origins.",
        metavar="ORIGIN",
        flag="--http-origin",
        check=check_origins,
    )

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of HTTP; None for no HTTP."""
        return None if self.http is None else split_address(self.http)


@dataclass(frozen=True)
class WorkerSettings:
    """Devices, memory and supervision of workers."""

    devices: tuple[str, ...] = setting(
        ("auto",),
        'Device of a worker: "cpu", "cuda:0", …, or "auto" for all GPUs, else the CPU. Repeat for more workers. Join '
        'several, such as "cuda:0+cuda:1", for a worker that divides each large picture among them.',
        check=check_devices,
        flag="--device",
    )
    threads: int = setting(
        0, "CPU threads of a worker; 0 for all cores.", minimum=0, default_text="all", check=check_threads
    )
    memory: int | None = setting(
        None,
        "Maximum memory of a worker, with all of its processes, such as 3GB.",
        minimum=64 << 20,
        below="is less than a worker needs without a job; give it 1GB or more",
        unit="bytes",
        default_text="all",
    )
    no_cuda_graphs: bool = setting(
        False, "Launch the work of each step on a GPU one by one, for debugging: slower, with the same results."
    )
    jobs_per_worker: int = setting(
        4,
        "Maximum number of jobs that a worker runs at a time, on a CPU at most one per thread; only jobs with "
        "reproducible=false.",
        minimum=1,
    )
    checkpoint_every: float = setting(
        10.0, "Minimum seconds between two checkpoints of a job.", minimum=0, unit="seconds"
    )
    hang_timeout: float = setting(
        30.0, "Seconds without a sign of life after which a worker is replaced.", minimum=3, unit="seconds"
    )
    attempts: int = setting(5, "Number of lost workers after which a job fails.", minimum=1)
    executor: Literal["local", "ray"] = setting(
        "local", "Where workers run: processes of this machine, or of the nodes of a Ray cluster."
    )
    ray_address: str = setting(
        "auto",
        "Address of the Ray cluster, such as 10.0.0.1:6379.",
        metavar="HOST:PORT",
        default_text="$RAY_ADDRESS, or the cluster of this machine's node",
    )
    ray_workers: int = setting(
        0, "Number of workers on Ray.", minimum=0, maximum=10_000, default_text="as many as the nodes have room for"
    )


@dataclass(frozen=True)
class ModelSettings:
    """Where models are, and which is the default."""

    models: Path | None = setting(
        None,
        "Folder of models.",
        path="folder",
        exists=True,
        default_text="gramophone/models in your data folder",
    )
    default_model: str = setting(BUILTIN_MODEL, "Model of requests that do not name a model.")


@dataclass(frozen=True)
class Limits:
    """Limits of requests, queues and streams.

    Attributes:
        max_features_bytes: maximum number of bytes of features that one call returns.
        max_upload_bytes: maximum number of bytes of an uploaded picture file.
        max_uploads: maximum number of concurrent uploads.
        max_calls: maximum number of open calls, streams included.
    """

    max_pixels: int = setting(
        8192 * 8192, "Maximum number of pixels of an input picture, and of a canvas.", minimum=16 * 16
    )
    decode_memory: int = setting(
        720 << 20,
        "Memory of all pictures together while they are being decoded.",
        minimum=64 << 20,
        below="is less than a camera's picture needs; give it 64MiB or more",
        unit="bytes",
    )
    max_queued: int = setting(64, "Maximum number of jobs in the queue.", minimum=1)
    max_queued_per_client: int | None = setting(
        None,
        "Maximum number of jobs of one client in the queue.",
        minimum=1,
        default_text="3/4 of --max-queued, or all without --tokens or --client-ca",
    )
    max_running_per_client: int | None = setting(
        None, "Maximum number of running jobs of one client.", minimum=1, default_text="no limit"
    )
    max_iterations: int = setting(1_000_000, "Maximum number of iterations of a job.", minimum=1)
    max_streams: int = setting(4096, "Maximum number of open streams of events and results.", minimum=1)
    max_reports: float = setting(
        200.0,
        "Maximum progress messages per second, over all streams. If more are due, streams skip all but the latest.",
        minimum=0,
        exclusive=True,
    )

    max_features_bytes: ClassVar[int] = 256 << 20
    max_upload_bytes: ClassVar[int] = 128 << 20
    max_uploads: ClassVar[int] = 16
    max_calls: ClassVar[int] = 8192

    def queued_per_client(self, *, authenticated: bool) -> int:
        """Returns the maximum number of queued jobs of one client.

        Args:
            authenticated: whether the server authenticates clients.
        """
        if self.max_queued_per_client is not None:
            return self.max_queued_per_client
        return max(1, 3 * self.max_queued // 4) if authenticated else self.max_queued

    @property
    def max_request_pixels(self) -> int:
        """Maximum pixels of a request's pictures without the last: all are in memory together, decompressed."""
        return 4 * self.max_pixels


@dataclass(frozen=True)
class StorageSettings:
    """Where jobs are stored, and for how long."""

    data: Path | None = setting(
        None,
        "Folder of the stored jobs; they survive a restart of the server.",
        path="folder",
        default_text="gramophone/jobs in your data folder, or with --until-stdin-closes a temporary one",
    )
    database: str | None = setting(
        None,
        "Database of the jobs, such as postgresql+psycopg://…. Give a password in the variable or the file: "
        "other users of the machine can see flags.",
        metavar="URL",
        secret=True,
        default_text="SQLite in --data",
    )
    files: str | None = setting(
        None,
        "Bucket and prefix of an S3-compatible object store for pictures, results and checkpoints, such as "
        "s3://bucket/gramophone. The AWS_* variables have the credentials and the endpoint.",
        metavar="URL",
        check=check_files,
        default_text="the folder --data",
    )
    files_cache: int = setting(
        4 << 30,
        "Size of the copies in --data of pictures and results that are in --files.",
        minimum=10**6,
        below="is too little for a job; give it 1MB or more",
        unit="bytes",
    )
    cluster: bool = setting(
        False,
        "Share --database (PostgreSQL) and --files, or --data without --files, with other servers that have this "
        "setting: any of them serves any job, and they continue the jobs of one that is lost.",
    )
    lease: float = setting(
        10.0,
        "Seconds after which the servers of a cluster continue the jobs of one that is not heard of.",
        minimum=1,
        maximum=3600,
        unit="seconds",
    )
    take_database: bool = setting(False, "Take over a database that belongs to another --data, permanently.")
    keep_days: float = setting(30.0, "Days for which ended jobs are kept.", minimum=0)
    keep: int = setting(
        20 << 30,
        "Maximum total size of all stored files of jobs and uploads.",
        minimum=10**6,
        below="is too little for a job; give it 1MB or more",
        unit="bytes",
        # $GRAMOPHONE_KEEP belongs to the commands: seconds for which they keep a server.
        variable="GRAMOPHONE_KEEP_BYTES",
    )
    keep_per_client: int | None = setting(
        None,
        "Maximum total size of the stored files of one client.",
        minimum=10**5,
        below="is too little for a job; give it 100kB or more",
        unit="bytes",
        default_text="half of --keep, or all without --tokens or --client-ca",
    )
    max_uploads_per_client: int = setting(1000, "Maximum number of stored uploads of one client.", minimum=1)


@dataclass(frozen=True)
class SecuritySettings:
    """Authentication of clients and encryption of connections."""

    tokens: Path | None = setting(
        None, "File of clients and their bearer tokens; see `gramophone tokens`.", path="file"
    )
    tls_certificate: Path | None = setting(None, "The server's certificate with its chain, PEM.", path="file")
    tls_key: Path | None = setting(None, "The private key of --tls-certificate, PEM.", path="file")
    client_ca: Path | None = setting(None, "Require client certificates from these authorities, PEM.", path="file")
    admins: tuple[str, ...] = setting(
        (), "A client that may see and change all jobs. Repeat it for several clients.", metavar="NAME", flag="--admin"
    )
    insecure: bool = setting(False, "Serve other machines without TLS or without authentication.")

    @property
    def authenticates(self) -> bool:
        """Whether the server authenticates clients."""
        return self.tokens is not None or self.client_ca is not None


@dataclass(frozen=True)
class ObservabilitySettings:
    """Metrics, event files and logs."""

    metrics_port: int | None = setting(
        None, "Port of the Prometheus metrics; 0 for a free port.", minimum=0, maximum=65535, default_text="none"
    )
    metrics_host: str = setting("127.0.0.1", "Address of the Prometheus metrics.")
    tensorboard: Path | None = setting(
        None, "Folder for TensorBoard event files of jobs.", path="folder", default_text="none"
    )
    log_format: Format = setting("text", "Format of the log on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Minimum level of log messages.")


@dataclass(frozen=True)
class LifetimeSettings:
    """When and how the server stops."""

    grace: float = setting(
        10.0, "Seconds that running jobs get when the server stops.", minimum=0, maximum=86400, unit="seconds"
    )
    leave_after: float | None = setting(
        None, "Stop after so many seconds without work.", minimum=1, unit="seconds", default_text="never"
    )
    until_stdin_closes: bool = setting(
        False, "Stop when standard input closes: for a server that a parent process starts.", flag_only=True
    )
    kept_for: str = setting("", "The environment of the commands that keep this server.", flag_only=True, hidden=True)


@dataclass(frozen=True)
class Settings:
    """All settings of a server, by group."""

    connection: ConnectionSettings = group(ConnectionSettings, "Connections")
    http: HttpSettings = group(HttpSettings, "HTTP")
    workers: WorkerSettings = group(WorkerSettings, "Devices and workers")
    models: ModelSettings = group(ModelSettings, "Models")
    limits: Limits = group(Limits, "Limits")
    storage: StorageSettings = group(StorageSettings, "Storage")
    security: SecuritySettings = group(SecuritySettings, "Security")
    observability: ObservabilitySettings = group(ObservabilitySettings, "Observability")
    lifetime: LifetimeSettings = group(LifetimeSettings, "Lifetime")
