"""Compares the memory of L-BFGS with its history in the host's memory with the plan, and the copies of a resume."""

import io
import json

import torch

from gramophone_server.models.loading import load_architecture
from gramophone_server.models.store import ModelStore
from gramophone_server.worker.plan import plan
from tests.cuda.scripts.jobs import DEVICE, prepared, spec, warmed
from tests.fake_cuda import fakecuda

SIDE, PAIRS = 1024, 12

job = spec(SIDE, optimizer="lbfgs", lbfgs_history=PAIRS, model="vgg19-slim")
architecture = load_architecture(ModelStore().get("vgg19-slim"))
# As little memory as makes the plan keep the history in the host's memory.
planned = plan(job, architecture, DEVICE, 1 << 62)
for share in range(90, 0, -10):
    planned = plan(job, architecture, DEVICE, planned.bytes * share // 100)
    if planned.host_history:
        break
torch.cuda.reset_peak_memory_stats()
run = prepared(job, tile=planned.tile, host_history=True)
step = warmed(run, PAIRS + 2)
peak = torch.cuda.max_memory_allocated()
with fakecuda.counting() as one:
    step()
saved = io.BytesIO()
torch.save(run.synthesis.state(), saved)
saved.seek(0)
canvas = 12 * SIDE * SIDE
again = prepared(job, tile=planned.tile, host_history=True)
before = torch.cuda.memory_allocated()
with fakecuda.counting() as resumed:
    again.resume(torch.load(saved, map_location="cpu", weights_only=True))
print(
    json.dumps(
        {
            "host_history": planned.host_history,
            "planned": planned.bytes,
            "peak": peak,
            "waits": one.sites("sync"),
            "copied": sum(event.amount for event in one.copies_in) / canvas,
            "resumed": sum(event.amount for event in resumed.copies_in) / canvas,
            "held": (torch.cuda.memory_allocated() - before) / canvas,
            "pairs": PAIRS,
        }
    )
)
