"""Copies between the host and a GPU that neither side waits for."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

# Maximum number of buffers that are kept for later copies.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class _Copy:
    """A copy to the host that may be under way.

    Attributes:
        source: what is copied, and what it is computed from: their memory must not be used again before `done`.
        buffer: pinned memory of the host.
        done: the end of the copy.
    """

    source: Any
    buffer: Tensor
    done: torch.cuda.Event

    @property
    def is_done(self) -> bool:
        """Whether the copy has ended."""
        return self.done.query()  # type: ignore[no-untyped-call, no-any-return]


class _Copies:
    """All copies to the host, and the buffers for them.

    Neither a buffer nor the source of an unfinished copy is ever freed: on a GPU whose context is lost, torch would end
    the process when it frees pinned memory, or memory that another stream has used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: list[_Copy] = []
        self._free: list[Tensor] = []

    def begin(self, tensor: Tensor, source: Any) -> _Copy:
        """Begins to copy a tensor on the current stream of its device."""
        buffer = self._buffer(tensor)
        buffer.copy_(tensor, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(tensor.device))
        copy = _Copy((source, tensor), buffer, done)
        with self._lock:
            self._under_way.append(copy)
        return copy

    def end(self, copy: _Copy) -> Tensor:
        """Waits for a copy and returns its values."""
        copy.done.synchronize()
        values = copy.buffer.clone()
        with self._lock:
            self._under_way = [other for other in self._under_way if other is not copy]
            self._free = [*self._free, copy.buffer][-_KEPT:]
        return values

    def _buffer(self, like: Tensor) -> Tensor:
        """Returns pinned memory for a tensor; frees finished copies that nobody has waited for."""
        with self._lock:
            self._under_way = [copy for copy in self._under_way if not copy.is_done]
            for number, buffer in enumerate(self._free):
                if (buffer.shape, buffer.dtype) == (like.shape, like.dtype):
                    return self._free.pop(number)
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


_copies = _Copies()


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns a tensor of the host on a device. The host does not wait for the copy, and may free the tensor."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def download(tensor: Tensor, source: Any = None) -> Callable[[], Tensor]:
    """Begins to copy a tensor to the host, after all work that the current stream has been given so far.

    Args:
        tensor: the tensor.
        source: tensors of other streams whose memory must stay until the copy is done.

    Returns:
        A function that waits for the copy and returns the tensor on the host. Any thread may call it, once.
    """
    if not tensor.is_cuda:
        return lambda: tensor
    copy = _copies.begin(tensor, source)
    return lambda: _copies.end(copy)


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
        return download(work(tensor), tensor)


@lru_cache(maxsize=16)
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
