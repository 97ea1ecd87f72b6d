"""The kind of CPU that the benchmarks run on, by its instruction set: results are kept for each kind."""

import os
import platform
from typing import Any, Literal

import torch

from gramophone_server.engine.device import has_native_bfloat16, processor

Kind = Literal["amx", "avx512", "avx2", "other"]

TITLES: dict[str, str] = {
    "amx": "CPU with matrix units (AMX)",
    "avx512": "CPU with AVX-512, without matrix units",
    "avx2": "CPU with AVX2 only",
    "other": "Other CPU",
}
"""The kinds, in the order of the results, with their titles."""

# Variables that hide every instruction set above AVX2 from torch, oneDNN and MKL, for all programs that are compared.
AVX2_ONLY = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
# Read now, because benchmarks change the number of threads.
_CORES = torch.get_num_threads()


def kind() -> Kind:
    """Returns the kind of this CPU, as torch uses it."""
    if has_native_bfloat16(torch.device("cpu")):
        return "amx"
    kinds: dict[str, Kind] = {"AVX512": "avx512", "AVX2": "avx2"}
    return kinds.get(torch.backends.cpu.get_cpu_capability(), "other")


def is_limited() -> bool:
    """Returns whether this process uses AVX2 only, although its CPU may have more."""
    return AVX2_ONLY.items() <= os.environ.items()


def description() -> dict[str, Any]:
    """Returns the CPU, its cores, and the versions that were measured."""
    return {
        "cpu": processor() + (", limited to AVX2" if is_limited() else ""),
        "cores": _CORES,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
