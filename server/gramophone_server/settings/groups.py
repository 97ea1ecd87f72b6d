"""The settings of the server. One that is added here is a flag, a variable, a key and a row of the reference at once.

`make reference` writes the reference anew. A component takes the group that it is about, or plain values.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..logs import Format
from ..models.store import BUILTIN_MODEL
from .checks import check_devices, check_host, check_threads
from .table import group, setting


@dataclass(frozen=True)
class ConnectionSettings:
    """Where the server listens."""

    host: str = setting("127.0.0.1", "Address to listen on, or unix:PATH.", check=check_host)
    port: int = setting(50051, "Port to listen on; 0 takes a free one.", minimum=0, maximum=65535)
    max_connections: int = setting(
        8192, "Connections open at once; fewer where the system gives fewer descriptors.", minimum=1
    )
    idle_timeout: float = setting(
        20.0,
        "Seconds after which a connection without calls is closed.",
        minimum=1,
        # gRPC counts milliseconds in 32 bits.
        maximum=2_000_000,
        unit="seconds",
    )


@dataclass(frozen=True)
class WorkerSettings:
    """What jobs run on."""

    devices: tuple[str, ...] = setting(
        ("auto",),
        'Device of a worker: "cpu", "cuda:0", …, or "auto" for the best there is. Several times for several workers.',
        check=check_devices,
        flag="--device",
    )
    threads: int = setting(0, "CPU threads of a worker; 0 for all.", minimum=0, default_text="all", check=check_threads)
    memory: int | None = setting(
        None,
        "Most bytes that a worker may hold, such as 3GB.",
        minimum=64 << 20,
        below="is less than a worker alone takes; give it 1GB or more",
        unit="bytes",
        default_text="all",
    )
    checkpoint_every: float = setting(10.0, "Least seconds between checkpoints of a job.", minimum=0, unit="seconds")
    hang_timeout: float = setting(
        30.0, "Seconds of a worker's silence after which it is replaced.", minimum=3, unit="seconds"
    )
    attempts: int = setting(5, "Workers that one job may lose before it has failed.", minimum=1)


@dataclass(frozen=True)
class ModelSettings:
    """Which networks there are."""

    models: Path | None = setting(
        None,
        "Folder of models.",
        path="folder",
        exists=True,
        default_text="gramophone/models in your data folder",
    )
    default_model: str = setting(BUILTIN_MODEL, "Model of requests that name none.")


@dataclass(frozen=True)
class Limits:
    """How much may be asked for.

    Attributes:
        max_features_bytes: of what one call for features returns.
        max_upload_bytes: of an uploaded picture file.
        max_uploads: uploads under way.
        max_calls: open at once, streams included.
    """

    max_pixels: int = setting(8192 * 8192, "Pixels of a picture that is sent in, and of a canvas.", minimum=16 * 16)
    decode_memory: int = setting(
        720 << 20,
        "Bytes that all pictures may take together while they are being decoded.",
        minimum=64 << 20,
        below="is less than a picture from a camera takes; give it 64MiB or more",
        unit="bytes",
    )
    max_queued: int = setting(64, "Jobs waiting.", minimum=1)
    max_queued_per_client: int | None = setting(
        None,
        "Jobs of one client waiting.",
        minimum=1,
        default_text="3/4 of --max-queued, or all without --tokens or --client-ca",
    )
    max_running_per_client: int | None = setting(
        None, "Jobs of one client running at once.", minimum=1, default_text="no bound"
    )
    max_iterations: int = setting(1_000_000, "Iterations of a job.", minimum=1)
    max_streams: int = setting(4096, "Streams of events and results open at once.", minimum=1)
    max_reports: float = setting(
        200.0,
        "Reports of progress a second, over all streams. Where more are due, watchers see fewer, always the latest.",
        minimum=0,
        exclusive=True,
    )

    max_features_bytes: ClassVar[int] = 256 << 20
    max_upload_bytes: ClassVar[int] = 128 << 20
    max_uploads: ClassVar[int] = 16
    max_calls: ClassVar[int] = 8192

    def queued_per_client(self, *, told_apart: bool) -> int:
        """Jobs of one client that may wait, if clients are told apart or not."""
        if self.max_queued_per_client is not None:
            return self.max_queued_per_client
        return max(1, 3 * self.max_queued // 4) if told_apart else self.max_queued

    @property
    def max_request_pixels(self) -> int:
        """Of all pictures of a request, but for the last of them: they are in memory together, and compress well."""
        return 4 * self.max_pixels


@dataclass(frozen=True)
class StorageSettings:
    """Where jobs are kept, and how much of them."""

    data: Path | None = setting(
        None,
        "Folder of the jobs, in which they survive the server.",
        path="folder",
        default_text="gramophone/jobs in your data folder, or with --until-stdin-closes a temporary one",
    )
    database: str | None = setting(
        None,
        "Database of the jobs, such as postgresql+psycopg://…; other users see a password in a flag, so give it by the "
        "variable or the file.",
        metavar="URL",
        secret=True,
        default_text="SQLite in --data",
    )
    take_database: bool = setting(False, "Take a database that belongs to another --data, for good.")
    keep_days: float = setting(30.0, "Days for which ended jobs are kept.", minimum=0)
    keep: int = setting(
        20 << 30,
        "Bytes of all files of jobs and uploads that are kept.",
        minimum=10**6,
        below="is too little for a job; give it 1MB or more",
        unit="bytes",
        # $GRAMOPHONE_KEEP is the command line's, in seconds.
        variable="GRAMOPHONE_KEEP_BYTES",
    )
    keep_per_client: int | None = setting(
        None,
        "Bytes of the files of one client that are kept.",
        minimum=10**5,
        below="is too little for a job; give it 100kB or more",
        unit="bytes",
        default_text="half of --keep, or all without --tokens or --client-ca",
    )
    max_uploads_per_client: int = setting(1000, "Uploaded pictures of one client that are kept.", minimum=1)


@dataclass(frozen=True)
class SecuritySettings:
    """How clients are told apart, and connections encrypted."""

    tokens: Path | None = setting(None, "Clients with bearer tokens; see `gramophone tokens`.", path="file")
    tls_certificate: Path | None = setting(None, "The server's certificate and its chain, PEM.", path="file")
    tls_key: Path | None = setting(None, "Its private key, PEM.", path="file")
    client_ca: Path | None = setting(None, "Ask clients for certificates of these authorities, PEM.", path="file")
    admins: tuple[str, ...] = setting((), "A client that sees everybody's jobs.", metavar="NAME", flag="--admin")
    insecure: bool = setting(False, "Let others in without TLS or without asking who they are.")

    @property
    def authenticates(self) -> bool:
        """Whether the server asks clients who they are."""
        return self.tokens is not None or self.client_ca is not None


@dataclass(frozen=True)
class ObservabilitySettings:
    """What the server shows of itself."""

    metrics_port: int | None = setting(
        None, "Serve Prometheus metrics here; 0 takes a free port.", minimum=0, maximum=65535, default_text="none"
    )
    metrics_host: str = setting("127.0.0.1", "Address of the metrics.")
    tensorboard: Path | None = setting(None, "Folder for event files of jobs.", path="folder", default_text="none")
    log_format: Format = setting("text", "Form of the log on standard error.")
    log_level: Literal["debug", "info", "warning", "error"] = setting("info", "Least level of what is logged.")


@dataclass(frozen=True)
class LifetimeSettings:
    """How the server ends."""

    grace: float = setting(
        10.0, "Seconds that running jobs get when the server stops.", minimum=0, maximum=86400, unit="seconds"
    )
    leave_after: float | None = setting(
        None, "Stop when there was no work for so long.", minimum=1, unit="seconds", default_text="never"
    )
    until_stdin_closes: bool = setting(False, "Stop when standard input closes: for a parent's child.", flag_only=True)
    kept_for: str = setting("", "The environment of the commands that it is kept for.", flag_only=True, hidden=True)


@dataclass(frozen=True)
class Settings:
    """All settings of a server, by group."""

    connection: ConnectionSettings = group(ConnectionSettings, "Connections")
    workers: WorkerSettings = group(WorkerSettings, "Devices and workers")
    models: ModelSettings = group(ModelSettings, "Models")
    limits: Limits = group(Limits, "Limits")
    storage: StorageSettings = group(StorageSettings, "Storage")
    security: SecuritySettings = group(SecuritySettings, "Security")
    observability: ObservabilitySettings = group(ObservabilitySettings, "Observability")
    lifetime: LifetimeSettings = group(LifetimeSettings, "Lifetime")
