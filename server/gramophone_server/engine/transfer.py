"""Copies between the host and a GPU that neither side waits for."""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the host on a device. The host does not wait for the copy, and may free the tensor."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def download(tensor: Tensor) -> Callable[[], Tensor]:
    """Begins to copy a tensor to the host, after all work that its device has been given so far.

    Returns:
        A function that waits for the copy and returns the tensor on the host. Any thread may call it.
    """
    if not tensor.is_cuda:
        return lambda: tensor
    # Memory that is not pinned would be copied piece by piece, and the host would wait for each.
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]
    done.record(torch.cuda.current_stream(tensor.device))

    def finished() -> Tensor:
        done.synchronize()
        return copy

    return finished


def download_beside(work: Callable[[Tensor], Tensor], tensor: Tensor) -> Callable[[], Tensor]:
    """Begins some work on a tensor, and to copy its result to the host, beside all later work of the device.

    Args:
        work: function of `tensor`, which must not change it.
        tensor: the tensor; later work must not change it.

    Returns:
        A function that waits for the result and returns it on the host, as for `download`.
    """
    if not tensor.is_cuda:
        return download(work(tensor))
    side = _side_stream(tensor.device)
    side.wait_stream(torch.cuda.current_stream(tensor.device))
    with torch.cuda.stream(side):
        finished = download(work(tensor))
    # The allocator must not give the memory to later work before the work beside it is done.
    tensor.record_stream(side)
    return finished


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
