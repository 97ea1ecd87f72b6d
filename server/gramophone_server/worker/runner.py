"""Runs one job: prepare, optimise, report, finish."""

import time
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import torch

from ..engine.synthesis import Frame
from ..jobs.events import Failure, Progress, Result
from ..jobs.pipe import Progressed, Run
from ..jobs.spec import JobSpec
from ..models.store import Model, ModelStore
from .encode import encode_preview, encode_result
from .estimator import Estimator
from .failures import DivergedError, DoesNotFitError, failure_of
from .outbox import Outbox
from .studio import Studio
from .targets import Targets


class JobRunner:
    """Runs jobs on one device.

    Args:
        cancelled: ids of jobs that are to stop; filled by another thread.
    """

    def __init__(
        self,
        store: ModelStore,
        targets: Targets,
        estimator: Estimator,
        device: torch.device,
        outbox: Outbox,
        cancelled: set[str],
    ) -> None:
        self._store = store
        self._targets = targets
        self._estimator = estimator
        self._device = device
        self._outbox = outbox
        self._cancelled = cancelled

    def run(self, job: Run) -> Result | Failure | None:
        """Runs a job to its end; None if it was cancelled. Raises nothing: what goes wrong is the job's failure."""
        try:
            return self._run(job)
        except Exception as error:
            return failure_of(error)

    def _run(self, job: Run) -> Result | None:
        spec, begun = job.spec, time.monotonic()
        model = self._store.get(spec.model)
        way = self._estimator.plan(spec)
        if not way.fits:
            raise DoesNotFitError(self._estimator.estimate(spec, timed=False))
        studio = Studio(spec, model, self._targets, self._device, tile=way.tile, host_history=way.host_history)
        optimizing = time.monotonic()
        frame = None
        speed = Speedometer(optimizing)
        for report, frame in enumerate(studio.synthesis, start=1):
            if not frame.best.loss.isfinite().all():
                raise DivergedError(frame.iteration, studio.precision)
            progress = self._progress(spec, studio, frame, begun, speed)
            preview = studio.preview(frame) if spec.preview.every and report % spec.preview.every == 0 else None
            self._send(job, progress, preview)
            if job.job_id in self._cancelled:
                return None
            if spec.time_limit is not None and time.monotonic() - begun >= spec.time_limit:
                break
        assert frame is not None, "a spec has at least one iteration"
        optimized = time.monotonic()
        judged = studio.finish(frame)
        recipe = self._recipe(spec, model, studio, frame.iteration, way.tile)
        image, recipe_json = encode_result(judged.picture, spec.result, recipe)
        return Result(
            image, judged.loss, judged.terms, frame.iteration, spec.model, recipe_json,
            prepare=optimizing - begun, optimize=optimized - optimizing,
        )  # fmt: skip

    def _progress(self, spec: JobSpec, studio: Studio, frame: Frame, begun: float, speed: "Speedometer") -> Progress:
        # The one place where the host waits for the device.
        terms, loss = studio.loss_terms(frame), frame.loss.item()
        now = time.monotonic()
        rate = speed.at(frame.iteration, now)
        remaining = (spec.iterations - frame.iteration) / rate
        if spec.time_limit is not None:
            remaining = max(0.0, min(remaining, begun + spec.time_limit - now))
        return Progress(frame.iteration, spec.iterations, loss, terms, rate, now - begun, remaining)

    def _send(self, job: Run, progress: Progress, picture: np.ndarray | None) -> None:
        def make() -> Progressed:
            if picture is None:
                return Progressed(job.job_id, progress)
            preview = encode_preview(picture, job.spec.preview.size, job.spec.preview.format)
            return Progressed(job.job_id, replace(progress, preview=preview))

        self._outbox.send_progress(make)

    def _recipe(
        self, spec: JobSpec, model: Model, studio: Studio, iterations: int, tile: int | None
    ) -> dict[str, object]:
        recipe = spec.recipe()
        # What ran, where the clock or the device decided it.
        recipe["iterations"] = iterations
        recipe["precision"] = studio.precision
        recipe["tile_size"] = tile
        recipe["model"] = {"name": spec.model, "sha256": model.manifest.sha256}
        recipe["device"] = str(self._device)
        recipe["threads"] = torch.get_num_threads()
        packages = ("gramophone", "torch", "numpy")
        recipe["versions"] = {package: version(package) for package in packages}
        return recipe


class Speedometer:
    """Iterations a second over the latest report intervals, the newer counting more."""

    def __init__(self, start: float) -> None:
        self._iteration = 0
        self._time = start
        self._rate = 0.0

    def at(self, iteration: int, now: float) -> float:
        """The speed, on passing `iteration` at time `now` in seconds."""
        rate = (iteration - self._iteration) / max(now - self._time, 1e-9)
        self._rate = 0.7 * self._rate + 0.3 * rate if self._rate else rate
        self._iteration, self._time = iteration, now
        return self._rate
