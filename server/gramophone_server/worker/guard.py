"""Ends a worker whose device is lost, before the memory of that device is freed."""

import contextlib
import ctypes
import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn

import torch

from .device import device_failure
from .failures import is_out_of_memory

log = logging.getLogger(__name__)

# A function that C++ calls instead of propagating an exception, in the thread of the exception.
_Handler = ctypes.CFUNCTYPE(None)


class DeviceGuard:
    """Ends the process if its device is lost; a context manager that checks the error of its block.

    After some errors of CUDA, each later call fails, also those with which torch frees pinned memory. There torch
    cannot raise an error, so C++ terminates the process, and nobody would learn the reason. So check an error while the
    frames that raised it still hold their tensors; `watch_terminate` covers what torch frees before that.

    Args:
        devices: the worker's devices, of one kind.
        end: reports the lost device and the reason from the calling thread, and ends the process without freeing
            anything.
    """

    def __init__(self, devices: Sequence[torch.device], end: Callable[[str, str], NoReturn]) -> None:
        self._devices = devices
        self._on_cpu = devices[0].type == "cpu"
        self._end = end
        # Reentrant, because the check itself may make C++ terminate the process.
        self._lock = threading.RLock()

    def __enter__(self) -> "DeviceGuard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.check(error)

    def check(self, error: BaseException) -> None:
        """Ends the process if the device no longer works; returns if the error has another cause."""
        if self._on_cpu or not isinstance(error, Exception) or is_out_of_memory(error):
            return
        self._check(error)

    def watch_terminate(self) -> None:
        """Makes C++ check the device before it terminates the process, where the C++ library is GNU's."""
        if self._on_cpu:
            return
        with contextlib.suppress(OSError, AttributeError):
            set_terminate = ctypes.CDLL("libstdc++.so.6")._ZSt13set_terminatePFvvE
            set_terminate.restype = _Handler
            self._terminate = _Handler(self._terminated)
            self._before = set_terminate(self._terminate)

    def _terminated(self) -> None:
        try:
            self._check(None)
        finally:
            self._before()

    def _check(self, error: Exception | None) -> None:
        # A second thread that meets the lost device waits here until the first one ends the process.
        with self._lock:
            for device in self._devices:
                if (reason := device_failure(device)) is not None:
                    log.error("%s is lost, so the worker ends: %s", device, reason, exc_info=error)
                    self._end(str(device), reason)
