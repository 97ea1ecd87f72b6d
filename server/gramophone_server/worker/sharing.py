"""Evaluates the losses of jobs that share a GPU, in batches.

Each job has a thread with its own synthesis and optimizer. Only the evaluation of the loss is shared: the threads post
their canvases, and one of them evaluates those of equal structure as one batch.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..engine.device import release_free_memory
from ..engine.graphs import CapturedObjective, Evaluator, GraphRecorder
from ..engine.objective import Evaluation, Objective
from .failures import is_out_of_memory

log = logging.getLogger(__name__)

# Maximum seconds that a posted canvas waits for the canvases of jobs that are between two evaluations.
_GATHER = 0.1
# Maximum number of evaluators of batches that are kept.
_KEPT = 4


@dataclass(eq=False)
class _Request:
    """A canvas to evaluate, then its evaluation or the error."""

    member: "Member"
    objective: Objective
    canvas: Tensor
    done: bool = False
    evaluation: Evaluation | None = None
    error: Exception | None = None

    def result(self) -> Evaluation:
        if self.error is not None:
            raise self.error
        assert self.evaluation is not None
        return self.evaluation


@dataclass(eq=False)
class Member:
    """A running job that shares the GPU; a context manager, which leaves at its end.

    Attributes:
        graphs: whether to record the evaluations of the job as CUDA graphs.
        key: what the job evaluates; jobs of equal keys can be a batch. None before its first evaluation.
        stepping: whether the job is between two evaluations, so that others wait for its next canvas.
    """

    sharing: "Sharing"
    number: int
    graphs: bool
    key: Hashable = None
    stepping: bool = field(default=False)

    def __enter__(self) -> "Member":
        return self

    def __exit__(self, *_: object) -> None:
        self.sharing.leave(self)

    def shared(self, objective: Objective) -> "SharedObjective":
        """Returns the objective of a level of the job, whose evaluations are shared."""
        self.pause()
        return SharedObjective(self, objective)

    def pause(self) -> None:
        """Lets the others go on without this job until its next evaluation; call it before work other than steps."""
        self.sharing.pause(self)


class SharedObjective:
    """The objective of one job, evaluated together with those of other jobs."""

    def __init__(self, member: Member, objective: Objective) -> None:
        self._member = member
        self._objective = objective

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Returns the loss and gradient at a canvas (1, 3, H, W)."""
        return self._member.sharing.evaluate(self._member, self._objective, canvas)


class Sharing:
    """The jobs that share a GPU; one batch is evaluated at a time.

    Args:
        device: the GPU.
        check: is called with an error of an evaluation before anything of it is freed.
    """

    def __init__(self, device: torch.device, check: Callable[[Exception], None] = lambda error: None) -> None:
        self._device = device
        self._check = check
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._members: list[Member] = []
        self._posted: list[_Request] = []
        self._evaluating = False
        # By what they evaluate, whether they are recorded, and the ids of their objectives; these are kept alive too.
        self._evaluators: dict[tuple[Hashable, ...], tuple[Sequence[Objective], Evaluator]] = {}

    def join(self, *, graphs: bool = False) -> Member:
        """Adds a job; `graphs` says whether to record its evaluations as CUDA graphs."""
        with self._changed:
            member = Member(self, next(self._numbers), graphs)
            self._members.append(member)
            self._changed.notify_all()
        return member

    def leave(self, member: Member) -> None:
        """Removes a job."""
        with self._changed:
            self._members.remove(member)
            self._evaluators.clear()
            self._changed.notify_all()

    def pause(self, member: Member) -> None:
        """Lets the others go on without a job until its next evaluation."""
        with self._changed:
            member.stepping = False
            self._changed.notify_all()

    def evaluate(self, member: Member, objective: Objective, canvas: Tensor) -> Evaluation:
        """Returns the evaluation of a job's canvas; the calling thread may evaluate canvases of others with it."""
        request, structure = _Request(member, objective, canvas), objective.structure
        with self._changed:
            member.key = (member,) if structure is None else (structure, canvas.shape[1:])
            member.stepping = False
            self._posted.append(request)
            self._changed.notify_all()
            # If the jobs between two evaluations take too long, do not wait for them.
            self._changed.wait_for(lambda: request.done or bool(self._batch(request)), _GATHER)
            self._changed.wait_for(lambda: request.done or bool(self._batch(request, waits=False)))
            if request.done:
                return request.result()
            batch = self._batch(request, waits=False)
            self._posted = [other for other in self._posted if other not in batch]
            self._evaluating = True
        try:
            self._evaluate(batch)
        finally:
            with self._changed:
                self._evaluating = False
                for other in batch:
                    other.done = True
                    other.member.stepping = True
                self._changed.notify_all()
        return request.result()

    def _batch(self, request: _Request, *, waits: bool = True) -> list[_Request]:
        """Returns the canvases to evaluate with that of a request; none if it has to wait.

        Args:
            waits: whether to wait for jobs that are between two evaluations.
        """
        if self._evaluating or request not in self._posted:
            return []
        alike = [member for member in self._members if member.key == request.member.key]
        posted = [other for other in self._posted if other.member.key == request.member.key]
        if waits and len(posted) < len(alike) and any(member.stepping for member in alike):
            return []
        return sorted(posted, key=lambda other: other.member.number)

    def _evaluate(self, batch: list[_Request]) -> None:
        """Evaluates the canvases of requests as one batch; one by one if that fails, to find the one that fails."""
        try:
            at = self._evaluator(batch).evaluate(torch.cat([request.canvas for request in batch]))
        except Exception as error:
            self._check(error)
            with self._changed:
                self._evaluators.clear()
            if len(batch) == 1:
                batch[0].error = error
                return
            log.warning("a batch of %d jobs failed and is computed job by job: %r", len(batch), error)
            if is_out_of_memory(error):
                release_free_memory()
            for request in batch:
                self._evaluate([request])
        else:
            for number, request in enumerate(batch):
                request.evaluation = at if len(batch) == 1 else _row(at, number)

    def _evaluator(self, batch: list[_Request]) -> Evaluator:
        """Returns what evaluates the canvases of requests as one batch; the latest ones are kept."""
        objectives = [request.objective for request in batch]
        with self._changed:
            what = batch[0].member.key
            alike = [member for member in self._members if member.key == what]
            # Record only the batch of all jobs: a recording takes some steps, and has memory of its own.
            recorded = len(batch) == len(alike) and all(member.graphs for member in alike)
            key = what, recorded, *map(id, objectives)
            if key not in self._evaluators:
                outdated = [old for old in self._evaluators if recorded and old[:2] == key[:2]]
                for old in outdated or list(self._evaluators)[: len(self._evaluators) - _KEPT + 1]:
                    del self._evaluators[old]
                evaluator: Evaluator = objectives[0] if len(batch) == 1 else Objective.merged(objectives)
                if recorded:
                    evaluator = CapturedObjective(evaluator, GraphRecorder(self._device))
                self._evaluators[key] = objectives, evaluator
            return self._evaluators[key][1]


def _row(at: Evaluation, number: int) -> Evaluation:
    """Returns the evaluation of one canvas of a batch, as a copy: a view would keep the whole batch alive."""
    row = slice(number, number + 1)
    return Evaluation(at.terms[row].clone(), at.loss[row].clone(), at.gradient[row].clone())
