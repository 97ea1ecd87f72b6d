"""Makes CUDA fail in a worker process as soon as a file says so.

Python imports this module at its start if the folder is in PYTHONPATH. The file FAKECUDA_FAIL holds the kind of failure
how often it occurs and, optionally, how many calls succeed before; it is removed when the failure is armed.
"""

import os
import sys
import threading
import time
from pathlib import Path


def _watch(file: Path) -> None:
    from tests.fake_cuda import fakecuda

    while True:
        if file.exists():
            kind, times, *after = file.read_text().split()
            file.unlink()
            fakecuda.fail(kind, after=int(after[0]) if after else 0, times=int(times))
        time.sleep(0.01)


def _begin(file: Path) -> None:
    import torch

    from gramophone_server.engine import device as devices

    def without_numbers(device: torch.device) -> None:
        # The fake device computes nothing, but a lost context fails here too.
        torch.ones(1, device=device).sum().item()

    devices.self_test = without_numbers
    threading.Thread(target=_watch, args=(file,), daemon=True).start()


if "FAKECUDA_FAIL" in os.environ and "gramophone_server.worker" in sys.orig_argv:
    _begin(Path(os.environ["FAKECUDA_FAIL"]))
