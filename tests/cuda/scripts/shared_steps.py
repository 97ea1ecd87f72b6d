"""Counts what the steps of jobs that share a device ask of CUDA without a graph."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gramophone_server.worker.sharing import Sharing
from tests.cuda.scripts.jobs import DEVICE, prepared, spec, warmed
from tests.fake_cuda import fakecuda

UPDATES = 4


def measured(jobs: int, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the counts of the steps of some jobs, per step of one job."""
    sharing, meet = Sharing(DEVICE), threading.Barrier(jobs + 1)

    def run(seed: int) -> None:
        with sharing.join() as member:
            job = prepared(spec(seed=seed, **options), share=member.shared)
            meet.wait(60)
            step = warmed(job, 12)
            meet.wait(60)
            # The counting begins.
            meet.wait(60)
            for _ in range(UPDATES):
                step()
            meet.wait(60)

    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(run, seed) for seed in range(jobs)]
        meet.wait(60)
        meet.wait(60)
        with fakecuda.counting(under="gramophone_server") as steps:
            meet.wait(60)
            meet.wait(60)
        for one in running:
            one.result()
    return {
        "jobs": jobs,
        "options": options,
        "launches": len(steps.launches) / UPDATES / jobs,
        "waits": steps.sites("sync", "h2d", "d2h"),
    }


OPTIONS: list[dict[str, Any]] = [
    {"optimizer": "lbfgs"}, {"optimizer": "adam"}, {"optimizer": "adam", "kind": "transfer"},
    {"optimizer": "adam", "masked": True}, {"optimizer": "adam", "losses": ("sliced_wasserstein",)},
    {"optimizer": "adam", "tile_size": 64},
]  # fmt: skip
print(json.dumps([measured(jobs, options) for options in OPTIONS for jobs in (1, 3)]))
