"""What is installed, which device it is, and how torch is set up for it."""

import importlib
import os
import platform
import shutil
from importlib.metadata import version

import onnxruntime
import torch

from gramophone_server.engine import device as devices

from .inputs import device
from .report import Report

_NEEDED = (
    "sqlalchemy cattrs png tifffile onnx prometheus_client grpc grpc_health grpc_reflection google.rpc click psutil"
)


def check(report: Report) -> None:
    """Checks the device and torch's settings."""
    with report.case("the distribution's metadata is installed"):
        version("gramophone")
    missing = [name for name in _NEEDED.split() if not _is_there(name)]
    report.note(
        "versions", python=platform.python_version(), torch=torch.__version__, cuda=torch.version.cuda,
        cudnn=torch.backends.cudnn.version(), onnxruntime=onnxruntime.__version__,
        providers=onnxruntime.get_available_providers(), missing=missing,
        compiler=shutil.which("cc"), cpus=len(os.sched_getaffinity(0)),
    )  # fmt: skip
    on = device()
    devices.set_up_cuda(on)
    report.note("device", name=devices.device_name(on), capability=torch.cuda.get_device_capability(on))
    memory, (free, total) = devices.Memory(on), torch.cuda.mem_get_info(on)
    report.note("memory", resident=memory.resident(), available=memory.available(), total=total, in_use=total - free)
    report.check(devices.has_native_bfloat16(on), "bfloat16 is native")
    report.check(not torch.backends.cudnn.allow_tf32, "convolutions in float32 do not round to TF32")
    report.check(torch.backends.cudnn.deterministic, "cuDNN is deterministic")


def _is_there(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
