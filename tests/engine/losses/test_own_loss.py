"""A loss in one file of its own: it is found by name, and its gradient in tiles is that of the whole canvas."""

from pathlib import Path

import pytest
import torch

from gramophone_server.engine import losses
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Objective
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.engine.tiling import cut

OWN = '''
"""The mean of each channel."""

from gramophone_server.engine.losses import StyleLoss


class Mean(StyleLoss):
    """Squared difference of the means of the channels."""

    name = "own_mean"

    def describe(self, features, share):
        return (features * share).sum((2, 3))

    def compare(self, statistic, target):
        return (statistic - target).square().sum(1)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> losses.Loss:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    return losses.style_loss("own_mean")


def test_a_loss_in_a_file_of_its_own_runs_whole_and_in_tiles(own: losses.Loss, network: Network) -> None:
    generator = torch.Generator().manual_seed(0)
    canvas, style = torch.rand(2, 1, 3, 40, 36, dtype=torch.float64, generator=generator)
    features = network(style)
    terms = []
    for name in ("conv1_1", "conv3_1"):
        values = features[name][0].numpy()
        target = torch.from_numpy(own.target(values, 1 / values[0].size))[None]
        terms.append(WeightedTerm(own, name, target, torch.ones(1, dtype=torch.float64)))
    tiles = cut(40, 36, 16, stride=network.architecture.grid, radius=network.architecture.radius)
    whole, tiled = Objective(network, terms).evaluate(canvas), Objective(network, terms, tiles=tiles).evaluate(canvas)
    by_hand = [
        ((network(canvas)[name].mean((2, 3)) - features[name].mean((2, 3))) ** 2).sum()
        for name in ("conv1_1", "conv3_1")
    ]
    torch.testing.assert_close(whole.terms[0], torch.stack(by_hand))
    torch.testing.assert_close(tiled.terms, whole.terms, rtol=1e-9, atol=0)
    torch.testing.assert_close(tiled.gradient, whole.gradient, rtol=1e-9, atol=1e-15)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError, match="no_such_loss"):
        losses.style_loss("no_such_loss")
