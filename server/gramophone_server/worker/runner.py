"""Runs one job: prepare, optimize, report, finish."""

import itertools
import logging
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..blobs import BlobStore, DamagedBlobError
from ..engine.synthesis import Frame
from ..messages.events import Failure, Progress, Result
from ..messages.pipe import Outcome, Paused, Progressed, Run, StorageUnavailable
from ..messages.spec import JobSpec
from ..models.model import Model
from ..models.store import ModelStore
from .checkpoint import Checkpoint, Checkpoints, UnusableCheckpointError, fingerprint_of, load
from .encode import encode_preview, encode_result
from .estimator import Estimator
from .event_file import EventFile
from .failures import DivergedError, LargerThanDeviceError, failure_of
from .outbox import Outbox
from .pace import Speedometer, pause
from .prepared import PreparedJob, precision_of
from .remarks import remarks
from .targets import Targets

log = logging.getLogger(__name__)


class JobRunner:
    """Runs jobs on one device.

    Args:
        cancelled: ids of jobs that are to stop; filled by another thread.
        paused: ids of jobs that are to be left at a checkpoint, likewise.
        checkpoint_every: least seconds between checkpoints of a job.
        tensorboard: folder for event files of jobs; None for none.

    Attributes:
        moved: when the job at hand was last seen to move, by the monotonic clock.
    """

    def __init__(
        self,
        store: ModelStore,
        targets: Targets,
        estimator: Estimator,
        device: torch.device,
        outbox: Outbox,
        cancelled: set[str],
        paused: set[str],
        checkpoint_every: float,
        tensorboard: Path | None = None,
    ) -> None:
        self._store = store
        self._targets = targets
        self._estimator = estimator
        self._device = device
        self._outbox = outbox
        self._cancelled = cancelled
        self._paused = paused
        self._checkpoint_every = checkpoint_every
        self._tensorboard = tensorboard
        self.moved = time.monotonic()

    def run(self, job: Run) -> Outcome:
        """Runs a job to its end; raises nothing: what goes wrong is the job's failure."""
        self.moved = time.monotonic()
        try:
            try:
                with ExitStack() as stack:
                    return self._run(job, stack)
            except UnusableCheckpointError as error:
                log.warning("the checkpoint of job %s is of another version (%s): it begins anew", job.job_id, error)
            job.checkpoint.unlink(missing_ok=True)
            with ExitStack() as stack:
                return self._run(job, stack)
        except Exception as error:
            return failure_of(error)

    def _run(self, job: Run, stack: ExitStack) -> Outcome:
        begun = time.monotonic()
        spec = _with_pixels(job)
        if isinstance(spec, StorageUnavailable | Failure):
            return spec
        model = stack.enter_context(self._store.opened(spec.model, spec.layers))
        fingerprint = fingerprint_of(spec, model.manifest.sha256, precision_of(spec, self._device))
        before = load(job.checkpoint, fingerprint, patient=job.resumes)
        if before is not None:
            begun -= before.elapsed
        # One that had room before runs in the same tiles again, whose rounding its bytes depend on.
        again = before is not None and before.squeeze == job.squeeze
        planned = spec.with_options(tile_size=before.tile or 0) if again and before else spec
        way = self._estimator.plan(planned, model.manifest, job.squeeze)
        if not way.fits:
            # By the figures it fitted once, and then it did not.
            raise MemoryError if job.squeeze else LargerThanDeviceError(self._estimator.estimate(spec, timed=False))
        prepared = PreparedJob(spec, model, self._targets, self._device, tile=way.tile, host_history=way.host_history)
        stack.callback(prepared.close)
        resumed = None
        if before is not None:
            resumed = _resume(prepared, before)
            log.info("job %s goes on from iteration %d", job.job_id, resumed)
            # Its canvases are the synthesis's now, to let go of one by one.
            del before
        checkpoints = Checkpoints(job.checkpoint, fingerprint, self._checkpoint_every)

        def checkpoint() -> Checkpoint:
            return Checkpoint(prepared.synthesis.state(), way.tile, job.squeeze, time.monotonic() - begun)

        file = stack.enter_context(EventFile(self._tensorboard, job.job_id, resumed))
        optimizing = time.monotonic()
        speed = Speedometer(optimizing, resumed or 0)
        reports, reported = itertools.count(1), -math.inf
        for frame in prepared.synthesis:
            self.moved = time.monotonic()
            if not frame.best.loss.isfinite().all():
                raise DivergedError(frame.iteration, prepared.precision)
            due = spec.options.report_every or self.moved - reported >= pause(self.moved - begun)
            if due or frame.iteration == spec.options.iterations:
                reported = self.moved
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
                # Not kept beyond its writing: it holds what steps would have freed.
                checkpoints.begin(checkpoint())
            if spec.options.time_limit is not None and time.monotonic() - begun >= spec.options.time_limit:
                break
            # Two canvases, which the steps to the next one have no use for.
            del frame
        frame = prepared.synthesis.frame()
        optimized = time.monotonic()
        checkpoints.finish()
        # What the optimizer has learned would be held while the picture is judged.
        prepared.close()
        judged = prepared.finish(frame)
        recipe = self._recipe(spec, model, prepared, frame.iteration, way.tile)
        if warnings := remarks(judged, frame.iteration):
            recipe["warnings"] = [*recipe.get("warnings", []), *warnings]
            log.warning("job %s: %s", job.job_id, " ".join(warnings))
        image, recipe_json = encode_result(judged.picture, spec.options.result, recipe)
        result = Result(
            image, judged.loss, judged.terms, frame.iteration, spec.model, recipe_json,
            prepare=optimizing - begun, optimize=optimized - optimizing,
        )  # fmt: skip
        file.result(result)
        return result

    def _progress(
        self, spec: JobSpec, prepared: PreparedJob, frame: Frame, begun: float, speed: Speedometer
    ) -> Progress:
        # The one place where the host waits for the device.
        terms, loss = prepared.loss_terms(frame), prepared.loss(frame)
        now = time.monotonic()
        rate = speed.at(frame.iteration, now)
        remaining = (spec.options.iterations - frame.iteration) / rate
        if spec.options.time_limit is not None:
            remaining = max(0.0, min(remaining, begun + spec.options.time_limit - now))
        return Progress(frame.iteration, spec.options.iterations, loss, terms, rate, now - begun, remaining)

    def _send(self, job: Run, progress: Progress, picture: np.ndarray | None, file: EventFile) -> None:
        def make() -> Progressed:
            if picture is None:
                return Progressed(job.job_id, progress)
            preview = encode_preview(picture, job.spec.options.preview.size, job.spec.options.preview.format)
            file.preview(progress.iteration, preview)
            return Progressed(job.job_id, replace(progress, preview=preview))

        self._outbox.send_progress(make)

    def _recipe(
        self, spec: JobSpec, model: Model, prepared: PreparedJob, iterations: int, tile: int | None
    ) -> dict[str, Any]:
        recipe = spec.recipe()
        # What ran, where the clock or the device decided it.
        recipe["iterations"] = iterations
        recipe["precision"] = prepared.precision
        recipe["tile_size"] = tile or 0
        recipe["model"] = {"name": spec.model, "sha256": model.manifest.sha256}
        recipe["device"] = str(self._device)
        recipe["threads"] = torch.get_num_threads()
        packages = ("gramophone", "torch", "numpy")
        recipe["versions"] = {package: version(package) for package in packages}
        if spec.warnings:
            recipe["warnings"] = spec.warnings
        return recipe


def _resume(prepared: PreparedJob, checkpoint: Checkpoint) -> int:
    """Has a job go on from a checkpoint; the iteration at which it does.

    Raises:
        UnusableCheckpointError: its state has another form than this version's.
    """
    try:
        prepared.resume(checkpoint.state)
        return prepared.synthesis.frame().iteration
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnusableCheckpointError(repr(error)) from error


def _with_pixels(job: Run) -> JobSpec | StorageUnavailable | Failure:
    """The job's spec with its pixels; or that they cannot be read for now, or are lost."""
    try:
        return job.spec.with_pixels(BlobStore(job.blobs).get)
    except DamagedBlobError as error:
        log.error("job %s cannot be read: %s", job.job_id, error)
        reason = f"The job's pictures were lost or damaged on the server's disk: {error}"
        return Failure("DATA_LOSS", f"{reason}; submit the job again.")
    except OSError as error:
        log.warning("job %s cannot be read for now: %s", job.job_id, error)
        return StorageUnavailable(error.strerror or str(error))
