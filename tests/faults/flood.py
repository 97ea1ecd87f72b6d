"""A client that submits far more jobs than a server queues: `python -m tests.faults.flood ADDRESS COUNT AT_ONCE`.

It runs in a separate process, so that it does not slow down the test that measures. It prints one line of JSON.
"""

import asyncio
import collections
import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from gramophone.v1 import options_pb2
from gramophone.v1.style_transfer_service_pb2_grpc import StyleTransferServiceStub
from tests.faults.checks import check_error
from tests.harness import style_request


@dataclass
class Flood:
    """Outcomes of the submissions.

    Attributes:
        job_ids: ids of the accepted jobs, in the order of the responses.
        refused: number of refused submissions by status code.
        seconds: duration of each refused submission, in the order of the responses.
    """

    job_ids: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Returns the seconds within which the given share (0 to 1) of the refusals came."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def flood(address: str, count: int, at_once: int) -> Flood:
    """Submits `count` jobs from a separate process, at most `at_once` at a time."""
    command = [sys.executable, "-m", "tests.faults.flood", address, str(count), str(at_once)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return Flood(**json.loads(done.stdout))


async def submit_all(address: str, count: int, at_once: int) -> Flood:
    """Submits `count` jobs, one per call, and closes the stream of each accepted job after its first event."""
    found = Flood()
    request = style_request()
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    slots = asyncio.Semaphore(at_once)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = StyleTransferServiceStub(channel)

        async def one() -> None:
            async with slots:
                begun = time.perf_counter()
                call = stub.ReconstructStyle(request, timeout=60)
                try:
                    async for response in call:
                        found.job_ids.append(response.event.job_id)
                        call.cancel()
                        break
                except grpc.aio.AioRpcError as error:
                    found.seconds.append(time.perf_counter() - begun)
                    found.refused[check_error(error, request).name] += 1

        await channel.channel_ready()
        await asyncio.gather(*(one() for _ in range(count)))
    return found


if __name__ == "__main__":
    print(json.dumps(vars(asyncio.run(submit_all(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))))
