"""What the engine runs on."""

import os

import torch


def open_device(name: str) -> torch.device:
    """The device of that name: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is one.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def available_threads() -> int:
    """CPU cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device computes convolutions in bfloat16 natively, that is, faster than in float32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(supported and supported()) or bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
