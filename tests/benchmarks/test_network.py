"""The network traffic of one picture over several machines, compared with counted pixels."""

import numpy as np
import pytest

from benchmarks.simulation.network import extra_work, traffic, vgg19


def counted(side: int, rows: int, reach: int) -> tuple[int, int]:
    """The largest halo in pixels and the largest number of pixels that the network sees, by marking them one by one."""
    length, halos, seen = side // rows, [], []
    for top in range(0, side, length):
        for left in range(0, side, length):
            marked = np.zeros((side, side), bool)
            for row in range(max(0, top - reach), min(side, top + length + reach)):
                marked[row, max(0, left - reach) : left + length + reach] = True
            seen.append(marked.sum())
            marked[top : top + length, left : left + length] = False
            halos.append(marked.sum())
    return max(halos), max(seen)


@pytest.mark.parametrize(("side", "rows"), [(512, 2), (1024, 4)])
def test_halos_and_extra_work_are_the_counted_pixels(side, rows):
    network = vgg19()
    reach = -(-network.radius // network.grid) * network.grid
    halo, seen = counted(side, rows, reach)
    sent = traffic(network, side, rows)
    # Three channels of four bytes, there and back.
    assert sent.halos == 2 * 3 * 4 * halo
    assert extra_work(network, side, rows) == pytest.approx(seen / (side / rows) ** 2)
    machines = rows**2
    assert sent.gradient == pytest.approx(2 * (machines - 1) / machines * 4 * 3 * side**2)
    matrices = 64**2 + 128**2 + 256**2 + 512**2 + 512**2
    assert sent.statistics == pytest.approx(2 * (machines - 1) / machines * 4 * matrices)
