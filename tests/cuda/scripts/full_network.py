"""Counts the launches of a step of a VGG-19 of full size at 512x512 pixels."""

import json

from benchmarks.gpu.inputs import FULL_MODEL, device, prepared, spec, updates
from gramophone_server.engine.device import set_up_cuda
from tests.fake_cuda import fakecuda

fakecuda.configure(reads=0)
set_up_cuda(device())


def measured(optimizer: str, *, graphs: bool) -> dict[str, object]:
    """Returns the counts of a step, when the history of L-BFGS is full."""
    job = spec(FULL_MODEL, 512, iterations=10**4, optimizer=optimizer)
    with updates(prepared(job, device(), graphs=graphs)) as update:
        for _ in range(24):
            update()
        with fakecuda.counting(under="gramophone_server") as one:
            update()
    return {
        "optimizer": optimizer, "graphs": graphs, "launches": len(one.launches),
        "waits": one.sites("sync", "h2d", "d2h"),
    }  # fmt: skip


print(json.dumps([measured(optimizer, graphs=graphs) for optimizer in ("lbfgs", "adam") for graphs in (False, True)]))
