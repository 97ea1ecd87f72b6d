"""Runs a job: prepares it, optimizes, reports, and finishes it."""

import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..blobs import BlobStore, DamagedBlobError
from ..engine.device import device_name
from ..engine.devices import Devices
from ..engine.synthesis import Frame
from ..messages.events import Failure, Progress, Result
from ..messages.pipe import Outcome, Paused, Progressed, Run, StorageUnavailable
from ..messages.pyramid import end_of
from ..messages.spec import JobSpec
from ..models.model import Model
from ..models.store import ModelStore
from .checkpoint import Checkpoint, Checkpoints, UnusableCheckpointError, fingerprint_of, load
from .device import device_names
from .encode import encode_preview, encode_result
from .estimator import Estimator
from .event_file import EventFile
from .failures import DivergedError, LargerThanDeviceError, failure_of
from .guard import DeviceGuard
from .opening import opened_models
from .outbox import Outbox
from .pace import Attention, Speedometer, Stopwatch, is_due
from .prepared import PreparedJob, precision_of
from .result_warnings import result_warnings
from .room import Room
from .sharing import Member, Sharing
from .targets import Targets
from .threads import Threads

log = logging.getLogger(__name__)


class JobRunner:
    """Runs jobs on one device: one at a time, or on a GPU those that share it in one thread each.

    Args:
        store: the models.
        targets: extracts and caches the targets.
        estimator: plans how each job runs.
        device: the worker's device.
        threads: the CPU threads of the jobs.
        room: asks for memory beside the other jobs of the device.
        outbox: sends progress to the front.
        guard: ends the process if the device is lost.
        cancelled: ids of jobs to cancel; another thread adds to it.
        paused: ids of jobs to stop after a checkpoint; another thread adds to it.
        checkpoint_every: minimum seconds between checkpoints of a job.
        tensorboard: folder for event files of jobs; None for no event files.
        devices: the devices among which a large picture is divided, of which `device` is the first; None for one.

    Attributes:
        last_progress: time of the last progress of each running job, in seconds of the monotonic clock.
    """

    def __init__(
        self,
        store: ModelStore,
        targets: Targets,
        estimator: Estimator,
        device: torch.device,
        threads: Threads,
        room: Room,
        outbox: Outbox,
        guard: DeviceGuard,
        cancelled: set[str],
        paused: set[str],
        checkpoint_every: float,
        tensorboard: Path | None = None,
        devices: Devices | None = None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._estimator = estimator
        self._device = device
        self._devices = devices
        self._outbox = outbox
        self._guard = guard
        self._cancelled = cancelled
        self._paused = paused
        self._checkpoint_every = checkpoint_every
        self._tensorboard = tensorboard
        self._threads = threads
        self._room = room
        self._sharing = Sharing(device, guard.check)
        self.last_progress: dict[str, float] = {}

    def run(self, job: Run) -> Outcome:
        """Runs a job and returns its outcome; an exception is returned as the job's failure."""
        self.last_progress[job.job_id] = time.monotonic()
        try:
            # The job before may have left another number of threads.
            self._threads.use(shared=job.shared)
            try:
                with ExitStack() as stack, self._guard:
                    return self._run(job, stack)
            except UnusableCheckpointError as error:
                log.warning(
                    "the checkpoint of job %s is from another version (%s): the job starts over", job.job_id, error
                )
            job.checkpoint.unlink(missing_ok=True)
            with ExitStack() as stack, self._guard:
                return self._run(job, stack)
        except Exception as error:
            return failure_of(error)
        finally:
            del self.last_progress[job.job_id]

    def _run(self, job: Run, stack: ExitStack) -> Outcome:
        begun = time.monotonic()
        spec = _with_pixels(job)
        if isinstance(spec, StorageUnavailable | Failure):
            return spec
        model, others = stack.enter_context(opened_models(self._store, spec))
        gpu = device_name(self._device) if self._device.type == "cuda" else ""
        hashes = [one.manifest.sha256 for one in (model, *others.values())]
        fingerprint = fingerprint_of(spec, hashes, precision_of(spec, self._device), gpu)
        before = load(job.checkpoint, fingerprint, retry=job.resumes)
        if before is not None:
            begun -= before.elapsed
        # Reuse the tiles of the first attempt: rounding, and so the result's bytes, depend on them.
        again = before is not None and before.squeeze == job.squeeze
        planned = spec.with_options(tile_size=before.tile or 0) if again and before else spec
        chosen_plan = self._estimator.plan(planned, model, others, job.squeeze)
        if not chosen_plan.fits:
            # After a first attempt that ran out of memory, the estimate is known to be wrong: do not report it.
            raise MemoryError if job.squeeze else LargerThanDeviceError(self._estimator.estimate(spec, timed=False))
        waiting = time.monotonic()
        if not self._enter(job, chosen_plan.bytes):
            return Paused() if job.job_id in self._paused else None
        begun += time.monotonic() - waiting
        attention = Attention(lambda: self._stops(job))
        member: Member | None = None
        if job.shared and self._device.type == "cuda":
            member = stack.enter_context(self._sharing.join(graphs=chosen_plan.graphs))
        prepared = PreparedJob(
            spec, model, self._targets, self._device, others=others, tile=chosen_plan.tile,
            host_history=chosen_plan.host_history, graphs=chosen_plan.graphs,
            share=member.shared if member is not None else self._threads.following if job.shared else None,
            attention=attention, devices=self._devices,
        )  # fmt: skip
        stack.callback(prepared.close)
        resumed = None
        if before is not None:
            resumed = _resume(prepared, before)
            log.info("job %s resumes at iteration %d", job.job_id, resumed)
            # Drop the checkpoint, so that the synthesis can free the tensors one by one.
            del before
        checkpoints = Checkpoints(job.checkpoint, fingerprint, self._checkpoint_every)

        def checkpoint() -> Checkpoint:
            return Checkpoint(prepared.synthesis.state(), chosen_plan.tile, job.squeeze, time.monotonic() - begun)

        file = stack.enter_context(EventFile(self._tensorboard, job.job_id, resumed))
        optimizing = time.monotonic()
        speed = Speedometer(optimizing, resumed or 0)
        watch = Stopwatch()
        if not job.shared:
            stack.callback(lambda: self._estimator.learn(spec, model, chosen_plan, watch.iterations, watch.seconds))
        reports = itertools.count(1)
        reported: float | None = None
        for frame in prepared.synthesis:
            self.last_progress[job.job_id] = now = time.monotonic()
            attention.paid()
            if not all(map(math.isfinite, frame.numbers.best)):
                raise DivergedError(frame.iteration, prepared.precision)
            watch.at(frame.iteration, now, full_size=frame.level == len(spec.levels) - 1)
            since = None if reported is None else now - reported
            due = frame.scheduled if spec.options.report_every else is_due(frame.iteration, now - begun, since)
            if member is not None and (due or checkpoints.due):
                member.pause()
            if due or frame.iteration == spec.options.iterations:
                reported = now
                progress = self._progress(spec, prepared, frame, begun, speed)
                shown = spec.options.preview.every and next(reports) % spec.options.preview.every == 0
                file.progress(progress)
                self._send(job, progress, prepared.preview(frame) if shown else None, file)
            if job.job_id in self._cancelled:
                checkpoints.finish()
                return None
            if job.job_id in self._paused:
                checkpoints.finish(checkpoint())
                return Paused()
            if checkpoints.due:
                # Drop the snapshot as soon as it is written: it keeps tensors alive that the next steps need freed.
                checkpoints.begin(checkpoint())
            if spec.options.time_limit is not None:
                elapsed = time.monotonic() - begun
                if elapsed >= spec.options.time_limit:
                    break
                if elapsed >= spec.options.time_limit * end_of(spec.levels, frame.level):
                    prepared.synthesis.end_level()
            # The frame keeps two canvases alive that the next steps do not need.
            del frame
        frame = prepared.synthesis.frame()
        optimized = time.monotonic()
        if member is not None:
            member.pause()
        checkpoints.finish()
        # Free the optimizer's state before the loss of the picture is computed.
        prepared.close()
        finished = prepared.finish(frame)
        recipe = self._recipe(spec, model, others, prepared, frame.iteration, chosen_plan.tile)
        if warnings := result_warnings(finished, frame.iteration):
            recipe["warnings"] = [*recipe.get("warnings", []), *warnings]
            log.warning("job %s: %s", job.job_id, " ".join(warnings))
        image, recipe_json = encode_result(finished.picture, spec.options.result, recipe)
        result = Result(
            image, finished.loss, finished.terms, frame.iteration, spec.model, recipe_json,
            prepare=optimizing - begun, optimize=optimized - optimizing,
        )  # fmt: skip
        file.result(result)
        return result

    def _stops(self, job: Run) -> bool:
        """Whether a job is canceled or paused."""
        return job.job_id in self._cancelled or job.job_id in self._paused

    def _enter(self, job: Run, needed: int) -> bool:
        """Waits until there is memory for a job beside the others; returns whether it may run, or was stopped."""
        if not job.shared and not self._estimator.memory.beside:
            return True  # No other process or job is there.

        def stopped() -> bool:
            self.last_progress[job.job_id] = time.monotonic()
            return self._stops(job)

        return self._room.enter(job.job_id, needed, self._estimator.available, stopped)

    def _progress(
        self, spec: JobSpec, prepared: PreparedJob, frame: Frame, begun: float, speed: Speedometer
    ) -> Progress:
        # Reading the losses makes the host wait for the device.
        terms, loss = prepared.loss_terms(frame), prepared.loss(frame)
        now = time.monotonic()
        rate = speed.at(frame.iteration, now)
        remaining = (spec.options.iterations - frame.iteration) / rate
        if spec.options.time_limit is not None:
            remaining = max(0.0, min(remaining, begun + spec.options.time_limit - now))
        return Progress(frame.iteration, spec.options.iterations, loss, terms, rate, now - begun, remaining)

    def _send(self, job: Run, progress: Progress, picture: Callable[[], np.ndarray] | None, file: EventFile) -> None:
        def make() -> Progressed:
            if picture is None:
                return Progressed(job.job_id, progress)
            try:
                pixels = picture()
            except RuntimeError as error:
                self._guard.check(error)
                # The optimization meets the same error, and ends the job.
                log.warning("a preview of job %s is lost: %s", job.job_id, str(error).splitlines()[0])
                return Progressed(job.job_id, progress)
            preview = encode_preview(pixels, job.spec.options.preview.size, job.spec.options.preview.format)
            file.preview(progress.iteration, preview)
            return Progressed(job.job_id, replace(progress, preview=preview))

        self._outbox.send_progress(job.job_id, make)

    def _recipe(
        self,
        spec: JobSpec,
        model: Model,
        others: Mapping[str, Model],
        prepared: PreparedJob,
        iterations: int,
        tile: int | None,
    ) -> dict[str, Any]:
        recipe = spec.recipe()
        # Record the values that the time limit or the device has determined.
        recipe["iterations"] = iterations
        recipe["precision"] = prepared.precision
        recipe["tile_size"] = tile or 0
        recipe["model"] = {"name": spec.model, "sha256": model.manifest.sha256}
        if others:
            recipe["level_models"] = {name: other.manifest.sha256 for name, other in others.items()}
        recipe["device"] = device_names(self._devices.all if self._devices else [self._device])
        recipe["threads"] = torch.get_num_threads()
        packages = ("gramophone", "torch", "numpy")
        recipe["versions"] = {package: version(package) for package in packages}
        if spec.warnings:
            recipe["warnings"] = spec.warnings
        return recipe


def _resume(prepared: PreparedJob, checkpoint: Checkpoint) -> int:
    """Resumes a job from a checkpoint and returns the iteration at which it resumes.

    Raises:
        UnusableCheckpointError: the state has another form than that of this version.
    """
    try:
        prepared.resume(checkpoint.state)
        return prepared.synthesis.frame().iteration
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnusableCheckpointError(repr(error)) from error


def _with_pixels(job: Run) -> JobSpec | StorageUnavailable | Failure:
    """Returns the job's spec with its pixels, or why they cannot be read now, or a failure if they are lost."""
    try:
        return job.spec.with_pixels(BlobStore(job.blobs).get)
    except DamagedBlobError as error:
        log.error("the pictures of job %s are lost or damaged: %s", job.job_id, error)
        reason = f"The job's pictures were lost or damaged on the server's disk: {error}"
        return Failure("DATA_LOSS", f"{reason}; submit the job again.")
    except OSError as error:
        log.warning("the pictures of job %s cannot be read now: %s", job.job_id, error)
        return StorageUnavailable(error.strerror or str(error))
