"""Jobs that share a GPU: each gets the evaluations that it gets alone, and none waits for or fails with another."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.graphs import Evaluator
from gramophone_server.engine.objective import Evaluation, Objective
from gramophone_server.worker.prepared import PreparedJob
from gramophone_server.worker.sharing import Sharing
from tests.harness import png

from .painting import one_thread, prepare

# The canvases stay on the CPU.
GPU = torch.device("cuda")


class Squares(Objective):
    """An objective without a network: the loss of a canvas is its sum of squares. It counts the sizes of batches."""

    batches: list[int]
    fails: Callable[[Tensor], None]

    def __init__(self, batches: list[int], fails: Callable[[Tensor], None] = lambda canvas: None) -> None:
        self.batches, self.fails = batches, fails

    @classmethod
    def merged(cls, objectives):
        return objectives[0]

    @property
    def structure(self):
        return "squares"

    def evaluate(self, canvas: Tensor) -> Evaluation:
        self.fails(canvas)
        self.batches.append(len(canvas))
        # Let the threads of the other jobs run.
        time.sleep(0.002)
        loss = canvas.square().sum((1, 2, 3))
        return Evaluation(loss[:, None], loss, 2 * canvas)


@pytest.fixture
def merged_squares(monkeypatch):
    monkeypatch.setattr(Objective, "merged", Squares.merged)


def paint(sharing: Sharing, objective: Objective, value: float, steps: int, meet: threading.Barrier) -> list[float]:
    """Runs a job of some steps; returns the losses."""
    with sharing.join() as member:
        meet.wait(10)
        shared, canvas, losses = member.shared(objective), torch.full((1, 3, 4, 4), value), []
        for _ in range(steps):
            at = shared.evaluate(canvas)
            assert torch.equal(at.gradient, 2 * canvas)
            assert at.gradient.untyped_storage().nbytes() == 4 * canvas.numel()
            losses.append(at.loss.item())
            canvas = canvas / 2
        return losses


def together(jobs: int, objective: Callable[[int], Objective], *, steps: int = 20) -> list[list[float] | Exception]:
    sharing, meet = Sharing(GPU), threading.Barrier(jobs)
    with ThreadPoolExecutor(jobs) as pool:
        running = [
            pool.submit(paint, sharing, objective(number), 2.0 * number + 1, steps, meet) for number in range(jobs)
        ]
    return [one.exception() or one.result() for one in running]  # type: ignore[misc]


def expected(number: int, steps: int = 20) -> list[float]:
    return [48 * (2 * number + 1) ** 2 / 4**step for step in range(steps)]


def test_jobs_that_share_a_device_get_their_own_evaluations_from_common_batches(merged_squares):
    batches: list[int] = []
    found = together(3, lambda number: Squares(batches))
    assert found == [expected(number) for number in range(3)]
    assert batches.count(3) > 10, batches
    assert sum(batches) == 60


def test_a_batch_that_does_not_fit_into_memory_is_evaluated_one_by_one(merged_squares):
    def fails(canvas: Tensor) -> None:
        if len(canvas) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    batches: list[int] = []
    assert together(3, lambda number: Squares(batches, fails)) == [expected(number) for number in range(3)]
    assert batches == [1] * 60


def test_a_job_that_fails_leaves_the_others_unharmed(merged_squares):
    def fails(canvas: Tensor) -> None:
        if (canvas == 3.0 / 2**5).any():
            raise ValueError("this canvas fails")

    found = together(3, lambda number: Squares([], fails))
    assert isinstance(found[1], ValueError)
    assert (found[0], found[2]) == (expected(0), expected(2))


def test_jobs_of_another_structure_are_evaluated_apart(merged_squares):
    class Others(Squares):
        @property
        def structure(self):
            return "others"

    first: list[int] = []
    second: list[int] = []
    found = together(4, lambda number: Squares(first) if number % 2 else Others(second))
    assert found == [expected(number) for number in range(4)]
    assert max(*first, *second) == 2


def test_a_job_that_is_busy_with_something_else_does_not_stop_the_others():
    sharing = Sharing(GPU)
    batches: list[int] = []
    with sharing.join() as busy, sharing.join() as working:
        for member in (busy, working):
            member.shared(Squares(batches)).evaluate(torch.ones(1, 3, 4, 4))
        shared = working.shared(Squares(batches))
        # `busy` was evaluated and does not come back; paused or not, `working` continues.
        for _ in range(3):
            shared.evaluate(torch.ones(1, 3, 4, 4))
        busy.pause()
        begun = time.monotonic()
        for _ in range(100):
            shared.evaluate(torch.ones(1, 3, 4, 4))
        assert time.monotonic() - begun < 5
    assert batches == [1] * 105


def test_jobs_in_a_batch_end_within_two_percent_of_their_loss_alone(caplog):
    """Real jobs, with other pictures, seeds and iterations; the jobs that end earlier leave the batch."""

    def prepared(number: int, share: Callable[[Objective], Evaluator] | None = None) -> PreparedJob:
        job = prepare(
            "style", content=png(seed=number), seed=number, size=48, optimizer="adam", iterations=20 + 10 * number,
            report_every=5,
        )  # fmt: skip
        job._share = share
        return job

    def run(job: PreparedJob) -> float:
        for _ in job.synthesis:
            pass
        return job.finish(job.synthesis.frame()).loss

    def shared(number: int) -> float:
        with sharing.join() as member:
            job = jobs[number]
            job._share = member.shared
            meet.wait(30)
            return run(job)

    with one_thread():
        alone = [run(prepared(number)) for number in range(3)]
        sharing, meet, jobs = Sharing(GPU), threading.Barrier(3), [prepared(number) for number in range(3)]
        with ThreadPoolExecutor(3) as pool, caplog.at_level(logging.WARNING):
            found = list(pool.map(shared, range(3)))
    assert found == pytest.approx(alone, rel=0.02)
    assert not caplog.records
