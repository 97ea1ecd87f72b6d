"""Tiles that several devices compute: the same sums as on one device, and the gradient of the whole picture."""

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gramophone_server.engine.devices import Devices
from gramophone_server.engine.kernels.padding import ZEROS
from gramophone_server.engine.losses import CONTENT, TOTAL_VARIATION, style_loss
from gramophone_server.engine.network import Network
from gramophone_server.engine.objective import Evaluation, Objective
from gramophone_server.engine.term import WeightedTerm
from gramophone_server.engine.tiling import Tile, cut, deal
from gramophone_server.models.vgg import vgg

CPU = torch.device("cpu")
SIDE = 96
LAYERS = ["conv1_1", "conv2_1", "conv3_1"]


@pytest.fixture(params=[2, 3])
def devices(request) -> Iterator[Devices]:
    several = Devices([CPU] * request.param)
    yield several
    several.close()


def network_of(weights, dtype: torch.dtype) -> Network:
    return Network(vgg(weights), weights, LAYERS, paddings=ZEROS, dtype=dtype)


def objective(network: Network, loss: str, tiles: list[Tile], at: str | None = None, devices: Devices | None = None):
    """Returns an objective with style, content and total variation; `devices` share its tiles."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, SIDE, SIDE, generator=generator, dtype=torch.float64).to(network.dtype)
    style, one = style_loss(loss), torch.ones(1, dtype=network.dtype)
    features = {name: values.detach() for name, values in network(picture / 2).items()}
    terms = [
        WeightedTerm(style, n, torch.from_numpy(style.target(f[0].numpy(), 1 / f[0, 0].numel()))[None], one)
        for n, f in features.items()
    ]
    terms.append(WeightedTerm(CONTENT, LAYERS[-1], features[LAYERS[-1]], one / features[LAYERS[-1]].numel()))
    terms.append(WeightedTerm(TOTAL_VARIATION, "", None, 1e-6 * one))
    copies = [network] * (len(devices) - 1) if devices else []
    return Objective(network, terms, tiles=tiles, cut=at, devices=devices, copies=copies)


def tiles_of(network: Network, side: int | tuple[int, int] | None, at: str | None) -> list[Tile]:
    radius = network.architecture.through(at).radius if at else network.architecture.radius
    return cut(SIDE, SIDE, side, stride=network.architecture.grid, radius=radius)


def canvas(dtype: torch.dtype) -> Tensor:
    return torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


# With two or three tiles, each of three devices keeps what it has computed in the first pass.
@pytest.mark.parametrize("side", [(48, SIDE), (32, SIDE), 32])
@pytest.mark.parametrize("at", [None, "pool2"])
@pytest.mark.parametrize("loss", ["gram", "mean_covariance"])
def test_the_sum_over_devices_is_the_gradient_of_the_whole_picture(weights, devices, side, at, loss):
    network = network_of(weights, torch.float64)
    whole = objective(network, loss, tiles_of(network, None, None)).evaluate(canvas(torch.float64))
    got = objective(network, loss, tiles_of(network, side, at), at, devices).evaluate(canvas(torch.float64))
    torch.testing.assert_close(got.terms, whole.terms, rtol=1e-9, atol=0)
    least = 1e-12 * whole.gradient.abs().max().item()
    torch.testing.assert_close(got.gradient, whole.gradient, rtol=1e-9, atol=least)


@pytest.mark.parametrize("side", [(48, SIDE), (32, SIDE), 32])
@pytest.mark.parametrize("at", [None, "pool2"])
@pytest.mark.parametrize("loss", ["gram", "mean_covariance"])
def test_several_devices_give_the_bytes_of_one_at_each_run(weights, devices, side, at, loss):
    network = network_of(weights, torch.float32)
    tiles = tiles_of(network, side, at)
    one, several = objective(network, loss, tiles, at), objective(network, loss, tiles, at, devices)
    expected = one.evaluate(canvas(torch.float32))
    for _ in range(5):
        got = several.evaluate(canvas(torch.float32))
        for name in Evaluation.__dataclass_fields__:
            assert torch.equal(getattr(got, name), getattr(expected, name)), name


def test_each_device_computes_its_tiles_in_a_thread_of_its_own(weights, devices, monkeypatch):
    network = network_of(weights, torch.float32)
    tiles = tiles_of(network, 32, None)
    seen: list[str] = []
    visit = network.visit

    def observed(*given, **more):
        seen.append(threading.current_thread().name)
        return visit(*given, **more)

    monkeypatch.setattr(network, "visit", observed)
    several = objective(network, "gram", tiles, None, devices)
    seen.clear()
    several.evaluate(canvas(torch.float32))
    counts = [sum(name.startswith(f"device {number}") for name in seen) for number in range(len(devices))]
    # Two passes over each tile.
    assert sum(counts) == 2 * len(tiles)
    assert max(counts) - min(counts) <= 2


def test_an_error_on_one_device_is_raised_when_all_have_stopped_and_the_next_evaluation_works(
    weights, devices, monkeypatch
):
    network = network_of(weights, torch.float32)
    several = objective(network, "gram", tiles_of(network, 16, None), None, devices)
    expected = several.evaluate(canvas(torch.float32))
    visit, calls = network.visit, iter(range(1000))

    def fail(*given, **more):
        if next(calls) == 3:
            raise MemoryError("the third tile")
        return visit(*given, **more)

    monkeypatch.setattr(network, "visit", fail)
    with pytest.raises(MemoryError, match="the third tile"):
        several.evaluate(canvas(torch.float32))
    begun = next(calls)
    assert begun < len(tiles_of(network, 16, None)), "no tile is begun after the error"
    for number in range(len(devices)):
        devices.submit(number, lambda: None).result()
    assert next(calls) == begun + 1, "nothing went on beside what comes next"
    monkeypatch.undo()
    assert torch.equal(several.evaluate(canvas(torch.float32)).gradient, expected.gradient)


def test_tiles_are_dealt_by_their_pixels():
    tiles = cut(64, 96, (64, 32), stride=16, radius=16)
    # The tile in the middle has two halos: 32 + 16, 16 + 32 + 16 and 16 + 32 columns.
    assert [tile.seen_pixels for tile in tiles] == [64 * 48, 64 * 64, 64 * 48]
    assert deal(tiles, 2) == [0, 1, 0]
    assert deal(tiles, 1) == [0, 0, 0]
    assert deal(tiles, 4) == [0, 1, 2]
