"""The asynchronous client: `Client` and `Job` with the methods of their synchronous namesakes, to be awaited."""

from ._async.client import Client
from ._async.job import Job

__all__ = ["Client", "Job"]
