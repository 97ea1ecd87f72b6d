"""Counts the launches of jobs that share the device, each in a thread of its own."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor

import torch

from gramophone_server.worker.sharing import Sharing
from tests.cuda.scripts.jobs import DEVICE, prepared, spec
from tests.fake_cuda import fakecuda

JOBS, STEPS = 3, 60
told: list[str] = []


class Told(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a message."""
        told.append(record.getMessage())


logging.getLogger("gramophone_server").addHandler(Told())


def painted(sharing: Sharing, number: int, *, graphs: bool) -> int:
    """Runs a job and returns its number of updates."""
    with sharing.join(graphs=graphs) as member:
        job = prepared(spec(iterations=STEPS, optimizer="lbfgs", seed=number), graphs=graphs, share=member.shared)
        *_, last = job.synthesis
        torch.cuda.synchronize()
        return last.iteration


def together(*, graphs: bool) -> dict[str, object]:
    """Runs the jobs at once."""
    sharing = Sharing(DEVICE)
    with fakecuda.counting() as seen, ThreadPoolExecutor(JOBS) as pool:
        done = list(pool.map(lambda number: painted(sharing, number, graphs=graphs), range(JOBS)))
    return {
        "updates": done,
        "launches": len(seen.launches) / (JOBS * STEPS),
        "graphs": sum(event.name == "cudaGraphLaunch" for event in seen.launches) / (JOBS * STEPS),
    }


print(json.dumps({"eager": together(graphs=False), "recorded": together(graphs=True), "told": told}))
