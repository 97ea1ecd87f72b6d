"""Chooses the parts in which the gradient of a canvas is computed, given the side of the tiles."""

from collections.abc import Iterator

from .architecture import Architecture
from .cost import Workload, gradient_bytes, partition_bytes, path_flops
from .tiling import FLAT, Partition, Wraps, cut

# Fewest pixels of each device for which several devices divide a canvas that one of them could compute whole: with
# fewer, launches and transfers take longer than what is saved.
_LEAST_PIXELS = 1 << 17
# By how much this must reduce the operations that come one after the other.
_LEAST_GAIN = 1.25


def partition(
    architecture: Architecture,
    height: int,
    width: int,
    side: int | None,
    *,
    wraps: Wraps = FLAT,
    summed: bool = True,
    devices: int = 1,
) -> Partition:
    """Returns the partition with the least operations that needs no more memory than a tile of the given side.

    The partition depends on nothing but the side and the number of devices, so that a job has the same result on each
    machine and in each state of its memory. With several devices, the operations of the busiest one count, and a canvas
    that fits into one tile is divided among them if that is much faster.

    Args:
        architecture: the network up to the deepest layer in use.
        height, width: size of the canvas in pixels.
        side: maximum side of a tile's interior in pixels; None for a single tile.
        wraps: the axes along which opposite edges of the canvas are neighbors.
        summed: whether a loss is a function of a statistic that is summed over the tiles.
        devices: number of devices that compute tiles at the same time.
    """
    alone = in_tiles(architecture, height, width, side, wraps=wraps)
    # Compare in float32 with max pooling: the choice must not depend on what else the memory is needed for.
    work = Workload(architecture, summed=summed)
    if side is None or len(alone.tiles) == 1:
        small = height * width < devices * _LEAST_PIXELS
        return alone if devices == 1 or small else _divided(work, alone, devices, wraps)
    reach = side + 2 * (-(-architecture.radius // architecture.grid) * architecture.grid)
    budget = gradient_bytes(work, min(height, reach), min(width, reach), cropped=True)
    fitting = [
        made for made in _with_cuts(architecture, height, width, side, wraps) if partition_bytes(work, made) <= budget
    ]
    return min([alone, *fitting], key=lambda made: path_flops(work, made, devices))


def _divided(work: Workload, alone: Partition, devices: int, wraps: Wraps) -> Partition:
    """Returns the fastest partition with one tile for each device, or `alone`, a single tile, if it is not much faster.

    Args:
        work: the network and its losses.
    """
    (height, width), grid = alone.size, work.architecture.grid
    sides = [
        (grid * -(-height // (grid * rows)), grid * -(-width // (grid * (devices // rows))))
        for rows in range(1, devices + 1)
        if devices % rows == 0
    ]
    made = [
        found
        for side in sides
        for found in (
            in_tiles(work.architecture, height, width, side, wraps=wraps),
            *_with_cuts(work.architecture, height, width, side, wraps),
        )
    ]
    best = min(made, key=lambda one: path_flops(work, one, devices))
    gain = path_flops(work, alone, 1) / path_flops(work, best, devices)
    return best if gain >= _LEAST_GAIN else alone


def _with_cuts(
    architecture: Architecture, height: int, width: int, side: int | tuple[int, int], wraps: Wraps
) -> Iterator[Partition]:
    """Yields the partitions with a cut, from the deepest cut to the first."""
    # Without tiles, circular padding makes the maps periodic only if the canvas's length is a multiple of the grid.
    if any(wrap and length % architecture.grid for wrap, length in zip(wraps, (height, width), strict=True)):
        return
    if any(wraps) and not architecture.makes_torus:
        return
    for name in reversed(architecture.cuts):
        front = architecture.through(name)
        # On the grid of the whole network, Winograd convolutions with blocks of 4x4 round as without tiles.
        grid, radius, least = architecture.grid, front.radius, front.least
        yield Partition(cut(height, width, side, stride=grid, radius=radius, least=least, wraps=wraps), name)


def in_tiles(
    architecture: Architecture, height: int, width: int, side: int | tuple[int, int] | None, *, wraps: Wraps = FLAT,
    always_halo: bool = False,
) -> Partition:  # fmt: skip
    """Returns the partition into tiles at all operations.

    Args:
        architecture, height, width, wraps: as for `partition`.
        side: as for `cut`.
        always_halo: whether a tile has a halo along each axis that wraps even if the network has circular padding.
    """
    return Partition(
        cut(
            height, width, side, stride=architecture.grid, radius=architecture.radius, least=architecture.least,
            wraps=wraps, always_halo=always_halo or not architecture.makes_torus,
        )
    )  # fmt: skip
