"""Says what a job would take on this worker."""

import torch

from ..engine.device import Memory
from ..messages.estimate import Estimate
from ..messages.spec import JobSpec
from ..models.manifest import Manifest
from ..models.store import ModelStore
from .plan import Plan, plan
from .prepared import precision_of
from .speed import Speeds


class Estimator:
    """Plans jobs on a device.

    Args:
        limit: most bytes this worker may hold; None for what the device has.
    """

    def __init__(self, store: ModelStore, device: torch.device, limit: int | None) -> None:
        self._store = store
        self._device = device
        self._memory = Memory(device, limit)
        # Before the first job: what a job leaves behind is the next one's to use again.
        self._idle = self._memory.resident()
        self._speeds = Speeds(device)

    def plan(self, spec: JobSpec, manifest: Manifest, squeeze: int = 0) -> Plan:
        """How the job would run; with half of the memory there is, as often as `squeeze` says."""
        available = (self._available() - self._idle) >> squeeze
        return plan(spec, manifest, self._device, available)

    def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate:
        """What the job would take; its time only if asked for, because that may have to be measured first.

        Raises:
            UnknownModelError, ModelError: its model cannot be used.
        """
        with self._store.opened(spec.model, spec.layers) as model:
            way = self.plan(spec, model.manifest)
            speed = self._speeds.flops_per_second(model, precision_of(spec, self._device)) if timed else 0.0
        return Estimate(
            tile=way.tile,
            peak=self._idle + way.bytes,
            available=self._available(),
            flops=way.flops,
            seconds=way.flops / speed if speed else 0.0,
            seconds_per_iteration=way.iteration_flops / speed if speed else 0.0,
            device=str(self._device),
        )

    def _available(self) -> int:
        return self._memory.available()
