import pytest
import torch

from gramophone_server.engine.canvas import noise
from gramophone_server.engine.losses import gram_matrix
from gramophone_server.engine.objective import Objective, Term
from gramophone_server.engine.optimizers import LBFGS, Adam
from gramophone_server.engine.synthesis import optimise
from gramophone_server.engine.vgg import TruncatedVGG


@pytest.fixture
def objective(weights):
    network = TruncatedVGG(weights, ["conv1_1", "conv2_1", "conv3_1"])
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    grams = {name: gram_matrix(f) for name, f in network(picture).items()}
    return Objective(network, [Term("style", name, g.expand(2, -1, -1), torch.ones(2)) for name, g in grams.items()])


def frames(objective, make, iterations=20, report_every=5, seeds=(0, 1)):
    canvas = noise(seeds, 32, 32)
    return list(optimise(objective, canvas, make(), iterations=iterations, report_every=report_every))


def test_frames_come_at_every_report_and_at_the_end(objective):
    assert [f.iteration for f in frames(objective, Adam, iterations=12)] == [5, 10, 12]
    assert [f.iteration for f in frames(objective, Adam, iterations=10)] == [5, 10]
    assert [f.iteration for f in frames(objective, Adam, iterations=2, report_every=100)] == [2]


@pytest.mark.parametrize("make", [Adam, LBFGS])
def test_the_loss_falls(objective, make):
    reports = frames(objective, make, iterations=60)
    assert (reports[-1].loss < 0.2 * reports[0].loss).all()


@pytest.mark.parametrize("make", [Adam, LBFGS])
def test_same_seed_same_canvas(objective, make):
    first, second = frames(objective, make)[-1], frames(objective, make)[-1]
    assert torch.equal(first.canvas, second.canvas)
    assert not torch.equal(first.canvas[0], first.canvas[1])


def test_reporting_does_not_change_the_result(objective):
    often, seldom = frames(objective, LBFGS, report_every=1)[-1], frames(objective, LBFGS, report_every=20)[-1]
    assert torch.equal(often.canvas, seldom.canvas)


def test_closing_ends_the_optimisation(objective):
    running = optimise(objective, noise([0, 1], 32, 32), Adam(), iterations=10**6, report_every=1)
    next(running)
    running.close()
    assert list(running) == []
