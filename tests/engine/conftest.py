"""A small network with random weights of a fixed seed, for comparisons in float64."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gramophone_server.engine.network import Network
from gramophone_server.models.vgg import vgg

CHANNELS = {"conv1_1": (3, 4), "conv1_2": (4, 4), "conv2_1": (4, 6), "conv2_2": (6, 6), "conv3_1": (6, 8)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Computes in one thread: on a busy machine, threads wait for each other longer than these small tensors take."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def weights() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return {
        name: (rng.normal(0, (2 / (9 * c_in)) ** 0.5, (c_out, c_in, 3, 3)), rng.normal(0, 0.1, c_out))
        for name, (c_in, c_out) in CHANNELS.items()
    }


@pytest.fixture(scope="session")
def folding_weights(weights) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The same weights, except that the first layer is 6x6 with a stride of 2."""
    rng = np.random.default_rng(2)
    return {**weights, "conv1_1": (rng.normal(0, (2 / 108) ** 0.5, (4, 3, 6, 6)), rng.normal(0, 0.1, 4))}


@pytest.fixture(scope="session")
def heads() -> dict[str, np.ndarray]:
    """The matrices (C, C) of a head for each layer except conv3_1."""
    rng = np.random.default_rng(1)
    return {name: rng.normal(0, c_out**-0.5, (c_out, c_out)) for name, (_, c_out) in CHANNELS.items() if c_out != 8}


@pytest.fixture
def network(weights) -> Network:
    return Network(vgg(weights), weights, list(CHANNELS), dtype=torch.float64)
