"""Loses the device in one of several ways, and tells what the guard reports before the process ends."""

import json
import os
import sys
import threading
from typing import NoReturn

import torch

from gramophone_server.worker import device as devices
from gramophone_server.worker.guard import DeviceGuard
from tests.cuda.scripts.jobs import DEVICE
from tests.fake_cuda import fakecuda


def without_numbers(device: torch.device) -> None:
    """Replaces the device's test, whose numbers the fake device does not compute."""
    torch.ones(1, device=device).sum().item()


def end(device: str, reason: str) -> NoReturn:
    """Tells the lost device and the reason, and ends the process as a worker does."""
    print(json.dumps({"device": device, "reason": reason, "thread": threading.current_thread().name}), flush=True)
    os._exit(0)


def lose_in_block() -> None:
    """Raises an error in a block of the guard, which holds pinned memory that a stream has used."""
    with guard:
        pinned = torch.ones(64, pin_memory=True)
        there = pinned.to(DEVICE, non_blocking=True)
        fakecuda.fail("illegal_address", times=1)
        (there + 1).sum().item()


def lose_while_freeing() -> None:
    """Frees pinned memory on a device that is already lost: torch terminates the process."""
    pinned = torch.ones(64, pin_memory=True)
    there = pinned.to(DEVICE, non_blocking=True)
    fakecuda.fail("illegal_address", times=1)
    try:
        (there + 1).sum().item()
    except RuntimeError:
        del pinned


def lose_in_autograd() -> None:
    """Loses the device in a thread of torch's own, which may raise the error or terminate the process."""
    with guard:
        x = torch.ones(64, device=DEVICE, requires_grad=True)
        y = (x * x).sum()
        fakecuda.fail("illegal_address", times=1)
        y.backward()


def another_error() -> None:
    """Raises an error that has nothing to do with the device."""
    try:
        with guard:
            raise ValueError("the job's own")
    except ValueError as error:
        print(json.dumps({"error": str(error)}))


setattr(devices, "self_test", without_numbers)  # noqa: B010
guard = DeviceGuard([DEVICE], end)
guard.watch_terminate()
{
    "block": lose_in_block, "free": lose_while_freeing, "autograd": lose_in_autograd, "other": another_error
}[sys.argv[1]]()  # fmt: skip
