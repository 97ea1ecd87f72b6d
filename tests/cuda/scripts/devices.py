"""Counts what a step of a job on two GPUs asks of CUDA, and what becomes of it when one of them fails."""

import gc
import json
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, TypeVar

import torch

from gramophone_server.engine.device import set_up_cuda
from gramophone_server.engine.devices import Devices
from gramophone_server.worker.failures import failure_of
from tests.cuda.scripts.jobs import DEVICE, prepared, spec, warmed
from tests.fake_cuda import fakecuda

_Result = TypeVar("_Result")


class RecordedDevices(Devices):
    """Devices of which only one works at a time while CUDA's calls are recorded.

    Recording takes Python's lock inside torch's locks: threads that also hold Python's lock there would stand still.
    """

    recorded = False

    def submit(self, number: int, work: Callable[[], _Result]) -> "Future[_Result]":
        """Runs work on a device; while calls are recorded, waits for its end."""
        future = super().submit(number, work)
        if self.recorded:
            wait([future])
        return future


UPDATES = 2
BOTH = DEVICE, torch.device("cuda:1")
set_up_cuda(BOTH[1])
# The statistics of the allocator exist once a device has been used.
_ones = [torch.ones(1, device=device) for device in BOTH]
devices = RecordedDevices(BOTH)
# One tile for each.
DIVIDED: list[dict[str, Any]] = [{"optimizer": "lbfgs"}, {"kind": "transfer", "transparent": True}, {"masked": True}]
# Several tiles for each.
TILED: list[dict[str, Any]] = [
    {"optimizer": "adam"}, {"kind": "transfer"}, {"masked": True, "losses": ("mean_covariance",)},
    {"losses": ("nearest_neighbor",)}, {"losses": ("gram", "spectrum"), "tv_weight": 1e-3}, {"precision": "float32"},
    {"padding": "replicate"}, {"color": "luminance", "kind": "transfer"}, {"wrap": "both"},
]  # fmt: skip
JOBS = [{"side": 512, "tile": None, **job} for job in DIVIDED] + [{"side": 192, "tile": 96, **job} for job in TILED]


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """Returns the waits of a step of a job, and the peak of what it needs on each GPU."""
    options = dict(job)
    side, tile = options.pop("side"), options.pop("tile")
    # A thread drops its last work, and the memory of that, only when it is given other work.
    gc.collect()
    wait([devices.submit(number, lambda: None) for number in range(len(BOTH))])
    for device in BOTH:
        torch.cuda.reset_peak_memory_stats(device)
    before = [torch.cuda.memory_allocated(device) for device in BOTH]
    step = warmed(prepared(spec(side, **options), tile=tile, devices=devices), 3)
    devices.recorded = True
    with fakecuda.counting(under="gramophone_server") as steps:
        for _ in range(UPDATES):
            step()
    devices.recorded = False
    peaks = [torch.cuda.max_memory_allocated(device) for device in BOTH]
    return {
        "job": job,
        "waits": steps.sites("sync", "h2d", "d2h"),
        "launches": len(steps.launches) / UPDATES,
        "needed": [peak - held for peak, held in zip(peaks, before, strict=True)],
    }


def outcome(kind: str) -> str:
    """Returns the code of the failure of a job in which CUDA fails in a thread of a device."""
    step = warmed(prepared(spec(192), tile=96, devices=devices), 3)
    try:
        with fakecuda.fail(kind, after=40, times=1):
            step()
            torch.cuda.synchronize()
    except Exception as error:
        found = failure_of(error)
        return found.code
    return ""


found: dict[str, Any] = {"jobs": [measured(job) for job in JOBS], "out_of_memory": outcome("launch_out_of_memory")}
step = warmed(prepared(spec(192), tile=96, devices=devices), 3)
step()
found["after"] = True
devices.close()
print(json.dumps(found))
