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
        max_queued_per_client: jobs of one client waiting.
        max_iterations: of a job.
        max_streams: streams of events and results open at once.
        max_reports: reports of progress a second, over all streams; whoever would get more gets the latest.
        max_features_bytes: of what one call for features returns.
        max_message_bytes: of one gRPC message received, and of an uploaded picture file.
    """

    max_pixels: int = 8192 * 8192
    decode_memory: int = MEMORY
    max_queued: int = 64
    max_queued_per_client: int = 64
    max_iterations: int = 1_000_000
    max_streams: int = 4096
    max_reports: float = 200.0
    max_features_bytes: int = 256 << 20
    max_message_bytes: int = 128 << 20

    @property
    def max_request_pixels(self) -> int:
        """Of all pictures of a request, but for the last of them: they are in memory together, and compress well."""
        return 4 * self.max_pixels
