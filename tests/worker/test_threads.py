"""The number of threads of a job that shares the CPU follows its share; that of a job that runs alone does not."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.objective import Evaluation
from gramophone_server.worker.threads import Threads


@pytest.fixture
def threads() -> Iterator[Threads]:
    before = torch.get_num_threads()
    yield Threads(3)
    torch.set_num_threads(before)


class Counting:
    """An objective that returns the number of threads as its loss."""

    def evaluate(self, canvas: Tensor) -> Evaluation:
        loss = torch.full((1,), float(torch.get_num_threads()))
        return Evaluation(loss[:, None], loss, canvas)


def test_a_shared_job_adopts_its_share_at_its_next_evaluation(threads):
    objective, canvas = threads.following(Counting()), torch.zeros(1, 3, 4, 4)  # type: ignore[arg-type]
    found = []
    for share in (3, 1, 2):
        threads.shared = share
        found.append(objective.evaluate(canvas).loss.item())
    assert found == [3, 1, 2]


def test_a_job_that_runs_alone_uses_all_threads(threads):
    threads.shared = 1
    threads.use(shared=True)
    assert torch.get_num_threads() == 1
    threads.use()
    assert torch.get_num_threads() == 3
