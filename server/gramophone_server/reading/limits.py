"""How much one request may ask for."""

from dataclasses import dataclass

from ..decoding.decoders import MEMORY


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Attributes:
        max_pixels: of a picture sent in, and of a canvas.
        decode_memory: bytes that all pictures that are being decoded may take together.
        max_queued: jobs waiting.
        max_queued_per_client: jobs of one client waiting; None for three quarters of `max_queued`, or for all of it
            where clients are not told apart.
        max_running_per_client: jobs of one client running at once; None for no bound.
        max_iterations: of a job.
        max_streams: streams of events and results open at once.
        max_reports: reports of progress a second, over all streams; whoever would get more gets the latest.
        max_features_bytes: of what one call for features returns.
        max_upload_bytes: of an uploaded picture file.
        max_uploads: uploads under way.
        max_connections: at once; fewer where the system gives fewer descriptors.
        idle_timeout: seconds after which a connection without calls is closed.
        max_calls: open at once, streams included.
    """

    max_pixels: int = 8192 * 8192
    decode_memory: int = MEMORY
    max_queued: int = 64
    max_queued_per_client: int | None = None
    max_running_per_client: int | None = None
    max_iterations: int = 1_000_000
    max_streams: int = 4096
    max_reports: float = 200.0
    max_features_bytes: int = 256 << 20
    max_upload_bytes: int = 128 << 20
    max_uploads: int = 16
    max_connections: int = 8192
    idle_timeout: float = 20.0
    max_calls: int = 8192

    def queued_per_client(self, *, told_apart: bool) -> int:
        """Jobs of one client that may wait, if clients are told apart or not."""
        if self.max_queued_per_client is not None:
            return self.max_queued_per_client
        return max(1, 3 * self.max_queued // 4) if told_apart else self.max_queued

    @property
    def max_request_pixels(self) -> int:
        """Of all pictures of a request, but for the last of them: they are in memory together, and compress well."""
        return 4 * self.max_pixels
