"""The client for asyncio: `gramophone.Client` and `gramophone.Job` with `await`."""

from ._async.client import Client
from ._async.job import Job

__all__ = ["Client", "Job"]
