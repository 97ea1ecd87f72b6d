"""The CPU threads of a job, whose number can change while the job runs."""

import torch
from torch import Tensor

from ..engine.graphs import Evaluator
from ..engine.objective import Evaluation, Objective


class Threads:
    """The number of CPU threads of this process's jobs. It is set in the thread that computes, so each must call `use`.

    Attributes:
        most: number of threads of a job that runs alone.
        shared: number of threads of a job that shares the CPU; another thread may change it.
    """

    def __init__(self, most: int) -> None:
        self.most = self.shared = most

    def use(self, *, shared: bool = False) -> None:
        """Sets the number of threads of the calling thread, for a job that runs alone or one that shares the CPU."""
        number = self.shared if shared else self.most
        if torch.get_num_threads() != number:
            torch.set_num_threads(number)

    def following(self, objective: Objective) -> Evaluator:
        """Returns an objective that adopts a new number of threads at each evaluation."""
        return _Following(self, objective)


class _Following:
    def __init__(self, threads: Threads, objective: Objective) -> None:
        self._threads = threads
        self._objective = objective

    def evaluate(self, canvas: Tensor) -> Evaluation:
        """Returns the loss and gradient at a canvas (1, 3, H, W)."""
        self._threads.use(shared=True)
        return self._objective.evaluate(canvas)
