"""Tells how a preview, the losses and the targets travel between the host and the device."""

import json

import torch

from gramophone_server.engine.transfer import download, download_beside, upload
from tests.cuda.scripts.jobs import DEVICE, prepared, spec, warmed
from tests.fake_cuda import fakecuda

job = prepared(spec(96), graphs=True)
step = warmed(job, 12)
frame = job.synthesis.frame()
job.preview(frame)()
with fakecuda.counting(under="gramophone_server") as begun:
    picture = job.preview(frame)
    step()
with fakecuda.counting(under="gramophone_server") as finished:
    shown = picture()
with fakecuda.counting(under="gramophone_server") as losses:
    reported = job.synthesis.frame().numbers
with fakecuda.counting(under="gramophone_server") as targets:
    upload(torch.ones(64), DEVICE)

# The fake device copies at once: what arrives must be what was there.
values = torch.arange(1000.0)
there = values.to(DEVICE)
print(
    json.dumps(
        {
            "shape": shown.shape,
            "canvases": len(reported.loss),
            "begun": begun.counts(),
            "begun_sites": begun.sites("sync"),
            "copies": [event.name for event in begun.copies_out],
            "finished": finished.counts(),
            "losses": [losses.counts().get("sync", 0), [event.name for event in losses.copies_out]],
            "targets": [targets.counts().get("sync", 0), [event.name for event in targets.copies_in]],
            "same": torch.equal(download(there)(), values),
            "beside": torch.equal(download_beside(lambda x: x.view(10, 100), there)(), values.view(10, 100)),
        }
    )
)
