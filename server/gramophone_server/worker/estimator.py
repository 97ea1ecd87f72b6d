"""Estimates the memory and the time that a job needs on this worker."""

from collections.abc import Mapping, Sequence

import torch

from ..engine.device import Memory
from ..engine.losses import GRAM
from ..messages.estimate import Estimate
from ..messages.spec import JobSpec
from ..models.loading import load_architecture
from ..models.model import Model
from ..models.store import ModelStore
from .device import device_names
from .loss_cost import iteration_operations, job_operations
from .margin import with_margin
from .opening import opened_models
from .plan import Plan, plan
from .prepared import precision_of
from .speed import Speeds


class Estimator:
    """Plans and estimates jobs on a device.

    Args:
        store: the models.
        devices: the worker's devices, of one kind.
        limit: maximum bytes that this worker may hold, on each GPU; None for all memory.
        graphs: whether steps on a GPU may be recorded as CUDA graphs.

    Attributes:
        memory: the memory of the device.
        idle: bytes that this process holds without a job.
    """

    def __init__(
        self, store: ModelStore, devices: Sequence[torch.device], limit: int | None, *, graphs: bool = True
    ) -> None:
        self._graphs = graphs
        self._store = store
        self._devices = devices
        self._device = device = devices[0]
        self.memory = Memory(device, limit, devices[1:])
        # Measured before the first job: memory that a job leaves behind can be reused by the next job.
        self.idle = self.memory.resident()
        self._speeds = Speeds(device)

    def plan(self, spec: JobSpec, model: Model, others: Mapping[str, Model], squeeze: int = 0) -> Plan:
        """Returns how to run the job.

        Args:
            spec: the job.
            model: its model.
            others: the models of levels that use another one, by name.
            squeeze: how often the job has run out of memory; the plan uses 1 / 2^squeeze of the available memory.

        Raises:
            ModelError: the model's file does not match its manifest.
        """
        early = {name: load_architecture(other) for name, other in others.items()}
        available = (self.memory.available() - self.idle) >> squeeze
        return plan(
            spec, load_architecture(model), self._device, available, early, graphs=self._graphs,
            devices=len(self._devices),
        )  # fmt: skip

    def available(self) -> int:
        """Returns the bytes that there are for all jobs of the device together, beside what idle processes hold."""
        return self.memory.available() - (1 + len(self.memory.beside)) * self.idle

    def estimate(self, spec: JobSpec, *, timed: bool) -> Estimate:
        """Returns the memory, operations and, if `timed`, the time that the job needs.

        The time is optional, because it can require a measurement of the device's speed first.

        Raises:
            UnknownModelError, ModelError: the job's model cannot be used.
        """
        with opened_models(self._store, spec) as (model, others):
            chosen_plan = self.plan(spec, model, others)
            manifests = {name: other.manifest for name, other in others.items()}
            losses = job_operations(spec, model.manifest, manifests)
            iteration = iteration_operations(spec, model.manifest, with_margin(spec).levels[-1])
            seconds = seconds_per_iteration = 0.0
            if timed:
                speeds = {
                    name: self._flops_per_second(spec, one, chosen_plan.devices)
                    for name, one in {"": model, **others}.items()
                }
                convolutions = sum(flops / speeds[name] for name, flops in chosen_plan.flops.items())
                seconds = convolutions + self._loss_seconds(losses)
                seconds_per_iteration = chosen_plan.iteration_flops / speeds[""] + self._loss_seconds(iteration)
        return Estimate(
            tile=chosen_plan.tile,
            peak=self.idle + chosen_plan.bytes,
            available=self.memory.available(),
            flops=chosen_plan.total_flops + sum(losses.values()),
            seconds=seconds,
            seconds_per_iteration=seconds_per_iteration,
            device=device_names(self._devices),
        )

    def learn(self, spec: JobSpec, model: Model, chosen_plan: Plan, iterations: int, seconds: float) -> None:
        """Corrects the stored speed by a job that has run alone on the device.

        Args:
            spec, model, chosen_plan: the job, its model and its plan.
            iterations: iterations at full size that were timed.
            seconds: their duration.
        """
        if not any(self._beside(iteration_operations(spec, model.manifest, with_margin(spec).levels[-1]))):
            precision = precision_of(spec, self._device)
            self._speeds.learn(
                model, precision, _pixels(spec), chosen_plan.iteration_flops, iterations, seconds, chosen_plan.devices
            )

    def _flops_per_second(self, spec: JobSpec, model: Model, devices: int) -> float:
        return self._speeds.flops_per_second(model, precision_of(spec, self._device), _pixels(spec), devices)

    def _loss_seconds(self, operations: dict[str, float]) -> float:
        """Returns the time of the style losses, given the operations of each."""
        others = self._beside(operations)
        return sum(count / self._speeds.loss_operations_per_second(name) for name, count in others.items())

    @staticmethod
    def _beside(operations: dict[str, float]) -> dict[str, float]:
        """Returns the operations of the style losses whose time the speed of the convolutions does not contain.

        That speed is measured with Gram matrices.
        """
        return {name: count for name, count in operations.items() if name != GRAM.name and count}


def _pixels(spec: JobSpec) -> int:
    """Returns the pixels of a job's canvas at full size, with its margin."""
    full = with_margin(spec).levels[-1]
    return full.width * full.height
