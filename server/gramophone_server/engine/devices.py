"""Several devices of one machine that compute the tiles of one picture at the same time."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

_Result = TypeVar("_Result")


class Devices:
    """The devices of one picture, each with a thread of the host that gives it work.

    A part of a CPU is a device as well: its thread computes with as many CPU threads as it is given.

    Args:
        devices: the devices; the first one has the canvas. Only the CPU may be there several times.
        threads: CPU threads of each device.
    """

    def __init__(self, devices: Sequence[torch.device], threads: int = 1) -> None:
        self.all = tuple(devices)
        # Threads that are used again keep their OpenMP threads and their part of the heap.
        self._hosts = [
            ThreadPoolExecutor(1, f"device {number}", partial(_set_up, device, threads))
            for number, device in enumerate(self.all)
        ]

    def __len__(self) -> int:
        return len(self.all)

    def submit(self, number: int, work: Callable[[], _Result]) -> "Future[_Result]":
        """Runs work on a device, after what it was given before; its error is raised by the future's `result`."""
        return self._hosts[number].submit(work)

    def close(self) -> None:
        """Ends the threads when their work is done."""
        for host in self._hosts:
            host.shutdown()


def _set_up(device: torch.device, threads: int) -> None:
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
