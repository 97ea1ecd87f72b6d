"""The optimization: reports, levels, averaging, plateaus, resuming, and independence of the batch."""

from functools import partial

import pytest
import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.kernels.gram import gram_matrix
from gramophone_server.engine.losses import GRAM
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Evaluation, Objective
from gramophone_server.engine.optimizers.adam import Adam
from gramophone_server.engine.optimizers.lbfgs import LBFGS
from gramophone_server.engine.synthesis import Level, Plateau, Synthesis
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.models.vgg import vgg

MAKERS = [Adam, LBFGS]


@pytest.fixture
def network(weights):
    return Network(vgg(weights), weights, ["conv1_1", "conv2_1", "conv3_1"])


def objective(network: Network, n: int = 2) -> Objective:
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grams = {name: gram_matrix(f) for name, f in network(picture).items()}
    return Objective(
        network, [WeightedTerm(GRAM, name, g.expand(n, -1, -1), torch.ones(n)) for name, g in grams.items()]
    )


def synthesis(network, make, iterations=20, report_every=5, seeds=(0, 1), sizes=(32,), **options) -> Synthesis:
    levels = [Level(size, size, iterations, partial(objective, network, len(seeds))) for size in sizes]
    return Synthesis(levels, noise(seeds, sizes[0], sizes[0]), make(), report_every=report_every, **options)


def frames(network, make, **options):
    return list(synthesis(network, make, **options))


def test_frames_come_at_every_report_and_at_the_end(network):
    assert [f.iteration for f in frames(network, Adam, iterations=12)] == [5, 10, 12]
    assert [f.iteration for f in frames(network, Adam, iterations=10)] == [5, 10]
    assert [f.iteration for f in frames(network, Adam, iterations=2, report_every=100)] == [2]


def test_frames_that_attention_asks_for_come_besides(network):
    answers = iter([True, True, False, False, False, False, True, False, False, False])
    reports = frames(network, Adam, iterations=12, attention=lambda: next(answers))
    seen = [(f.iteration, f.scheduled) for f in reports]
    assert seen == [(1, False), (2, False), (5, True), (8, False), (10, True), (12, True)]


def test_frames_that_attention_asks_for_change_neither_the_result_nor_the_end_at_a_plateau(network):
    options = {"iterations": 60, "plateau": Plateau(tolerance=0.99, window=10)}
    usual, attended = frames(network, LBFGS, **options), frames(network, LBFGS, attention=lambda: True, **options)
    assert usual[-1].iteration == attended[-1].iteration < 60
    assert torch.equal(usual[-1].canvas, attended[-1].canvas)
    assert len(attended) == attended[-1].iteration > len(usual)


@pytest.mark.parametrize("make", MAKERS)
def test_the_loss_falls(network, make):
    reports = frames(network, make, iterations=60)
    assert (reports[-1].loss < 0.2 * reports[0].loss).all()


@pytest.mark.parametrize("make", MAKERS)
def test_same_seed_same_canvas(network, make):
    first, second = frames(network, make)[-1], frames(network, make)[-1]
    assert torch.equal(first.canvas, second.canvas)
    assert not torch.equal(first.canvas[0], first.canvas[1])


@pytest.mark.parametrize("make", MAKERS)
def test_a_canvas_does_not_depend_on_its_batch(network, make):
    # Few steps: rounding differs between batch sizes, and each step amplifies the difference.
    options = {"iterations": 6, "sizes": (16, 32), "averaging": 0.5, "plateau": Plateau(0.02, 5)}
    together = frames(network, make, seeds=(3, 1, 4, 5), **options)[-1]
    for n, seed in enumerate((3, 1, 4, 5)):
        alone = frames(network, make, seeds=(seed,), **options)[-1]
        torch.testing.assert_close(alone.best.canvas[0], together.best.canvas[n], rtol=1e-3, atol=1e-3)


def test_reporting_does_not_change_the_result(network):
    often, seldom = frames(network, LBFGS, report_every=1)[-1], frames(network, LBFGS, report_every=20)[-1]
    assert torch.equal(often.canvas, seldom.canvas)


def test_closing_the_iterator_ends_the_optimization(network):
    running = iter(synthesis(network, Adam, iterations=10**6, report_every=1))
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert list(running) == []


def test_a_level_but_the_last_can_be_ended_early(network):
    running = synthesis(network, LBFGS, iterations=20, sizes=(16, 32), report_every=2)
    seen = []
    for frame in running:
        seen.append((frame.level, frame.iteration, frame.canvas.shape[2]))
        running.end_level()
    assert seen[0] == (0, 2, 16)
    assert [entry[1:] for entry in seen[1:]] == [(iteration, 32) for iteration in range(4, 23, 2)]


@pytest.mark.parametrize(("attended", "count"), [(False, 6), (True, 30)])
@pytest.mark.parametrize("make", MAKERS)
def test_resuming_at_any_frame_gives_the_same_bytes(network, make, attended, count, tmp_path):
    """The state is saved to a file and loaded with `weights_only=True`."""
    options = {"iterations": 15, "sizes": (16, 32), "averaging": 0.9, "plateau": Plateau(0.001, 5)}
    options["attention"] = lambda: attended
    undisturbed = synthesis(network, make, **options)
    saved = []
    for number, frame in enumerate(undisturbed):
        torch.save(undisturbed.state(), tmp_path / f"{number}.pt")
        saved.append(frame)
    assert len(saved) == count
    for number in range(len(saved) - 1):
        resumed = synthesis(network, make, **options)
        resumed.load(torch.load(tmp_path / f"{number}.pt", weights_only=True))
        last = list(resumed)[-1]
        assert last.iteration == saved[-1].iteration
        assert torch.equal(last.canvas, saved[-1].canvas), f"resumed at frame {number}"
        assert torch.equal(last.best.canvas, saved[-1].best.canvas)
        assert last.average is not None and saved[-1].average is not None
        assert torch.equal(last.average, saved[-1].average)


def test_the_pyramid_runs_from_coarse_to_fine(network):
    reports = frames(network, Adam, iterations=10, sizes=(16, 32), report_every=4)
    assert [(f.iteration, f.level, f.canvas.shape[-1]) for f in reports] == [
        (4, 0, 16), (8, 0, 16), (10, 0, 16), (12, 1, 32), (16, 1, 32), (20, 1, 32),
    ]  # fmt: skip
    # The fine level starts from the result of the coarse level, not from noise.
    from_noise = frames(network, Adam, iterations=2, report_every=1)[-1].loss
    assert (reports[3].loss < 0.7 * from_noise).all()


def test_detail_is_added_at_the_start_of_a_finer_level(network):
    detail = torch.full((2, 3, 32, 32), 0.25)
    levels = [
        Level(16, 16, 1, partial(objective, network)),
        Level(32, 32, 1, partial(objective, network), detail=detail),
    ]
    plain = [Level(level.height, level.width, level.iterations, level.open) for level in levels]
    start = torch.full((2, 3, 16, 16), 0.25)
    with_detail, without = (list(Synthesis(some, start, LBFGS(), report_every=1))[-1] for some in (levels, plain))
    assert abs((with_detail.canvas - without.canvas).mean().item() - 0.25) < 0.1


def test_the_average_is_the_weighted_mean_of_the_iterates(network):
    reports = frames(network, Adam, iterations=6, report_every=1, averaging=0.8)
    weights = torch.tensor([0.8 ** (6 - k) for k in range(1, 7)])
    expected = sum(w * f.canvas for w, f in zip(weights / weights.sum(), reports, strict=True))
    torch.testing.assert_close(reports[-1].average, expected, rtol=0, atol=1e-6)


def test_a_plateau_ends_a_level_when_all_canvases_have_had_one(network):
    tolerance, window = 0.3, 20
    losses = [f.best.loss for f in frames(network, LBFGS, iterations=400, report_every=5)]
    flat = torch.stack(
        [before - now < tolerance * before for before, now in zip(losses, losses[window // 5 :], strict=False)]
    )
    stopped = frames(network, LBFGS, iterations=400, report_every=5, plateau=Plateau(tolerance, window))[-1]
    # The level ends when each canvas has had a flat window at least once.
    assert stopped.iteration == 5 * (1 + max(canvas.tolist().index(True) for canvas in flat.T)) + window < 400


class ObjectiveWithNaN:
    """An objective whose loss is NaN at the evaluations `when`, counted from 1."""

    def __init__(self, objective: Objective, when: range) -> None:
        self._objective = objective
        self._when = when
        self._count = 0

    def evaluate(self, canvas: torch.Tensor) -> Evaluation:
        at = self._objective.evaluate(canvas)
        self._count += 1
        if self._count in self._when:
            return Evaluation(at.terms * torch.nan, at.loss * torch.nan, at.gradient * torch.nan)
        return at


@pytest.mark.parametrize("make", MAKERS)
def test_the_optimization_recovers_from_nan_losses(network, make):
    level = Level(32, 32, 40, lambda: ObjectiveWithNaN(objective(network), range(10, 13)))  # type: ignore[arg-type, return-value]
    reports = list(Synthesis([level], noise((0, 1), 32, 32), make(), report_every=1))
    assert all(frame.canvas.isfinite().all() for frame in reports)
    assert (reports[-1].best.loss < 0.5 * reports[8].best.loss).all()
