"""Chooses the parts in which the gradient of a canvas is computed, given the side of the tiles."""

from collections.abc import Iterator

from .architecture import Architecture
from .cost import Workload, gradient_bytes, partition_bytes, step_flops
from .tiling import FLAT, Partition, Wraps, cut


def partition(
    architecture: Architecture, height: int, width: int, side: int | None, *, wraps: Wraps = FLAT, summed: bool = True
) -> Partition:
    """Returns the partition with the least operations that needs no more memory than a tile of the given side.

    The partition depends on nothing else, so that a job with the same side has the same result on each machine and in
    each state of its memory.

    Args:
        architecture: the network up to the deepest layer in use.
        height, width: size of the canvas in pixels.
        side: maximum side of a tile's interior in pixels; None for a single tile.
        wraps: the axes along which opposite edges of the canvas are neighbors.
        summed: whether a loss is a function of a statistic that is summed over the tiles.
    """
    alone = in_tiles(architecture, height, width, side, wraps=wraps)
    if side is None or len(alone.tiles) == 1:
        return alone
    # Compare in float32 with max pooling: the choice must not depend on what else the memory is needed for.
    work = Workload(architecture, summed=summed)
    reach = side + 2 * (-(-architecture.radius // architecture.grid) * architecture.grid)
    budget = gradient_bytes(work, min(height, reach), min(width, reach), cropped=True)
    fitting = [
        made for made in _with_cuts(architecture, height, width, side, wraps) if partition_bytes(work, made) <= budget
    ]
    return min([alone, *fitting], key=lambda made: step_flops(work, made))


def _with_cuts(architecture: Architecture, height: int, width: int, side: int, wraps: Wraps) -> Iterator[Partition]:
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
    architecture: Architecture, height: int, width: int, side: int | None, *, wraps: Wraps = FLAT,
    always_halo: bool = False,
) -> Partition:  # fmt: skip
    """Returns the partition into tiles at all operations.

    Args:
        architecture, height, width, side, wraps: as for `partition`.
        always_halo: whether a tile has a halo along each axis that wraps even if the network has circular padding.
    """
    return Partition(
        cut(
            height, width, side, stride=architecture.grid, radius=architecture.radius, least=architecture.least,
            wraps=wraps, always_halo=always_halo or not architecture.makes_torus,
        )
    )  # fmt: skip
