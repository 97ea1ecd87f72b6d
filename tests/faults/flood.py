"""A client that submits far more than a server lets wait: `python -m tests.faults.flood ADDRESS COUNT AT_ONCE`.

In a process of its own, so that it neither slows what it measures nor dies with it. Writes one JSON line.
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
    """What became of the submissions.

    Attributes:
        job_ids: of those accepted, in order of their answers.
        refused: how many got each code.
        seconds: until each refusal, in the order of the answers.
    """

    job_ids: list[str] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=collections.Counter)
    seconds: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Seconds within which that share of the refusals came."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))]


def flood(address: str, count: int, at_once: int) -> Flood:
    """Has a process of its own submit so many jobs, that many of them at once."""
    command = [sys.executable, "-m", "tests.faults.flood", address, str(count), str(at_once)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return Flood(**json.loads(done.stdout))


async def submit_all(address: str, count: int, at_once: int) -> Flood:
    """Submits so many jobs, each by a call of its own, and does not stay for those that are accepted."""
    found = Flood()
    request = style_request()
    request.submission.on_disconnect = options_pb2.ON_DISCONNECT_CONTINUE
    turns = asyncio.Semaphore(at_once)

    async with grpc.aio.insecure_channel(address) as channel:
        stub = StyleTransferServiceStub(channel)

        async def one() -> None:
            async with turns:
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
