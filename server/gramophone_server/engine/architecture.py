"""The architecture of a convolutional network as data, and the sizes and receptive fields that follow from it.

A network is a sequence of convolutions, poolings and sums. No torch import.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from .tiling import FLAT, Wraps, positions

INPUT = "input"
"""Name of the network's input, a picture of three channels."""
MAX_SIDE = 1 << 16
"""Largest side of a picture in pixels that an architecture is asked about."""
# Sizes of pictures for which an architecture keeps the sizes of its feature maps.
_KEPT_SIZES = 64


@dataclass(frozen=True)
class Window:
    """The square window that a convolution or a pooling moves over a feature map.

    Attributes:
        side: positions along each axis.
        stride: step of the window.
        before, after: padding in positions, at the top and left, and at the bottom and right.
        dilation: distance of neighboring positions of the window.
        ceil: whether a last window that is only partly on the padded map counts.
    """

    side: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def extent(self) -> int:
        """Positions from the first to the last that the window covers, along each axis."""
        return self.dilation * (self.side - 1) + 1

    @property
    def has_empty_places(self) -> bool:
        """Whether, with `ceil`, a last window can begin in the padding after the map; there libraries differ."""
        return self.ceil and self.after > max(0, self.extent - self.stride)

    def count(self, length: int) -> int:
        """Returns the number of places of the window along an axis of `length` positions."""
        slack = length + self.before + self.after - self.extent
        if not self.ceil:
            return max(0, slack // self.stride + 1)
        places = -(-slack // self.stride) + 1
        # A window that begins behind the map, in the padding, does not count.
        return max(0, places - ((places - 1) * self.stride >= length + self.before))


@dataclass(frozen=True)
class Convolution:
    """A convolution, followed by ReLU if `relu` is true.

    Attributes:
        name: name of its output, which is a layer of the network.
        source: name of its input.
        inputs, outputs: numbers of channels.
        groups: number of groups of channels; each group has its own kernel.
        head: whether the layer's features are a matrix times the output at each position; later operations read the
            output without it.
    """

    name: str
    source: str
    inputs: int
    outputs: int
    window: Window
    groups: int = 1
    relu: bool = True
    head: bool = False

    @property
    def taps(self) -> int:
        """Multiplications for one number of the output."""
        return self.window.side**2 * self.inputs // self.groups

    @property
    def is_plain(self) -> bool:
        """Whether it is a 3x3 convolution of stride 1 that keeps the size of the map, the only kind of VGG-19."""
        return self.window == Window(3, 1, 1, 1) and self.groups == 1


@dataclass(frozen=True)
class Pooling:
    """A pooling: the maximum or the average of each window, without its padding.

    Attributes:
        name: name of its output.
        source: name of its input.
        outputs: number of channels.
    """

    name: str
    source: str
    outputs: int
    window: Window


@dataclass(frozen=True)
class Sum:
    """The sum of two feature maps, as in a residual network (He et al. 2016), followed by ReLU if `relu` is true.

    Attributes:
        name: name of its output, which is a layer of the network.
        sources: names of its inputs.
        outputs: number of channels.
    """

    name: str
    sources: tuple[str, str]
    outputs: int
    relu: bool = True


Operation = Convolution | Pooling | Sum


def sources(operation: Operation) -> tuple[str, ...]:
    """Returns the names of an operation's inputs."""
    return operation.sources if isinstance(operation, Sum) else (operation.source,)


@dataclass(frozen=True)
class Field:
    """The receptive field of the positions of a feature map, along each axis.

    Position p depends on the pixels from p · stride − before up to and including (p + 1) · stride − 1 + after.
    """

    stride: int = 1
    before: int = 0
    after: int = 0

    @property
    def radius(self) -> int:
        """How far the receptive field extends beyond the position's own pixels, in pixels."""
        return max(self.before, self.after, 0)

    def through(self, window: Window) -> "Field":
        """Returns the receptive field after a window."""
        after = self.after + (window.extent - window.before - window.stride) * self.stride
        return Field(self.stride * window.stride, self.before + window.before * self.stride, after)


@dataclass(frozen=True)
class Architecture:
    """A convolutional network: operations in an order in which each follows its inputs.

    Raises:
        ValueError: an operation has an unknown or repeated name, channels that do not fit, or sums maps of different
            strides; or an operation other than a convolution reads the input.
    """

    operations: tuple[Operation, ...]
    _index: dict[str, int] = field(init=False, repr=False, compare=False)
    _sizes: dict[tuple[int, int], dict[str, tuple[int, int]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        index = {operation.name: number for number, operation in enumerate(self.operations)}
        object.__setattr__(self, "_index", index)
        channels = {INPUT: 3}
        for operation in self.operations:
            _check(operation, channels)
            channels[operation.name] = operation.outputs
        for operation in self.operations:
            if isinstance(operation, Sum):
                first, second = (self._fields[name].stride for name in operation.sources)
                if first != second:
                    raise ValueError(f"{operation.name} adds feature maps of strides {first} and {second}")

    def __getitem__(self, name: str) -> Operation:
        """Returns the operation with that name; raises KeyError if there is none."""
        return self.operations[self._index[name]]

    @property
    def convolutions(self) -> list[Convolution]:
        """The convolutions, in order."""
        return [operation for operation in self.operations if isinstance(operation, Convolution)]

    @property
    def layers(self) -> list[str]:
        """The names of all layers (convolutions and sums), in order."""
        return [operation.name for operation in self.operations if not isinstance(operation, Pooling)]

    def upto(self, layers: Iterable[str]) -> "Architecture":
        """Returns the part of the network that some layers need.

        Raises:
            KeyError: the network has no such layer.
        """
        needed = set(layers)
        if missing := sorted(needed - set(self.layers)):
            raise KeyError(f"the model has no layer {', '.join(missing)}")
        for operation in reversed(self.operations):
            if operation.name in needed:
                needed.update(sources(operation))
        return Architecture(tuple(operation for operation in self.operations if operation.name in needed))

    def through(self, name: str) -> "Architecture":
        """Returns the operations up to and including one of `cuts`."""
        return Architecture(self.operations[: self._index[name] + 1])

    @cached_property
    def cuts(self) -> tuple[str, ...]:
        """The names of operations after which the network can continue from their output alone, in order.

        These are operations with a stride, except the last one; no later operation reads anything from before them.
        """
        found = []
        for number, operation in enumerate(self.operations[:-1]):
            later = self.operations[number + 1 :]
            known = {each.name for each in (operation, *later)}
            alone = all(source in known for each in later for source in sources(each))
            if alone and not isinstance(operation, Sum) and operation.window.stride > 1:
                found.append(operation.name)
        return tuple(found)

    def consumers(self, name: str) -> list[Operation]:
        """Returns the operations that read an output."""
        return [operation for operation in self.operations if name in sources(operation)]

    def stride(self, layer: str) -> int:
        """Returns the stride of a layer's feature map: pixels per position, along each axis."""
        return self._fields[layer].stride

    @property
    def grid(self) -> int:
        """The least common multiple of the strides of all feature maps, in pixels; in a chain the largest stride."""
        return math.lcm(*(field.stride for field in self._fields.values()))

    @property
    def radius(self) -> int:
        """How far any receptive field extends beyond the position's own pixels, in pixels, in each direction."""
        return max(field.radius for field in self._fields.values())

    def size(self, layer: str, height: int, width: int, wraps: Wraps = FLAT) -> tuple[int, int]:
        """Returns height and width of a layer's feature map of a picture of height x width pixels.

        Args:
            wraps: the axes along which the map has the positions that cover the picture, because opposite edges of the
                picture are neighbors.
        """
        size, stride = self.sizes(height, width)[layer], self.stride(layer)
        if not any(wraps):
            return size
        rows, columns = (
            positions(length, stride) if wrap else count
            for length, count, wrap in zip((height, width), size, wraps, strict=True)
        )
        return rows, columns

    @property
    def makes_torus(self) -> bool:
        """Whether circular padding makes each map a torus: each window fits in the padded map once per step."""
        windows = [operation.window for operation in self.operations if not isinstance(operation, Sum)]
        return all(w.before + w.after == w.extent - w.stride for w in windows)

    def sizes(self, height: int, width: int) -> Mapping[str, tuple[int, int]]:
        """Returns height and width of each feature map and of the input."""
        if (height, width) not in self._sizes:
            # Every step of an optimization asks for the same size.
            if len(self._sizes) >= _KEPT_SIZES:
                self._sizes.clear()
            self._sizes[height, width] = self._find_sizes(height, width)
        return self._sizes[height, width]

    def _find_sizes(self, height: int, width: int) -> dict[str, tuple[int, int]]:
        found = {INPUT: (height, width)}
        for operation in self.operations:
            if isinstance(operation, Sum):
                found[operation.name] = found[operation.sources[0]]
            else:
                rows, columns = found[operation.source]
                found[operation.name] = operation.window.count(rows), operation.window.count(columns)
        return found

    def min_side(self, layer: str) -> int:
        """Returns the smallest side in pixels of a square picture for which a layer has at least one position.

        Raises:
            ValueError: the side is larger than MAX_SIDE.
        """
        return self.upto([layer]).least

    @cached_property
    def least(self) -> int:
        """The smallest side in pixels of a square picture for which each feature map has at least one position.

        Raises:
            ValueError: the side is larger than MAX_SIDE.
        """
        side = 1 + bisect_left(range(1, MAX_SIDE + 1), True, key=self._has_positions)
        if side > MAX_SIDE:
            last = self.operations[-1].name
            raise ValueError(f"{last} needs pictures of more than {MAX_SIDE:,} pixels a side")
        return side

    def _has_positions(self, side: int) -> bool:
        """Returns whether each feature map of a square picture has a position; monotonic in the side."""
        return all(rows > 0 for rows, _ in self._find_sizes(side, side).values())

    def check_sums(self) -> None:
        """Checks that the inputs of each sum have equal sizes for pictures of all sizes.

        Raises:
            ValueError: they differ at some size.
        """
        for operation in self.operations:
            if not isinstance(operation, Sum):
                continue
            first, second = operation.sources
            least = self.min_side(operation.name)
            # Each size grows by a constant when the picture grows by a cell of the grid.
            for side in range(least, least + self.grid):
                sizes = self._find_sizes(side, side)
                if sizes[first] != sizes[second]:
                    raise ValueError(
                        f"{operation.name} adds feature maps of different sizes, {sizes[first][0]} and "
                        f"{sizes[second][0]} positions a side, for a picture of {side} pixels a side"
                    )

    def is_rectified(self, name: str) -> bool:
        """Returns whether no value of an output is negative, because it follows a ReLU."""
        operation = self[name]
        return self.is_rectified(operation.source) if isinstance(operation, Pooling) else operation.relu

    def walk(self, height: int, width: int, *, after: str | None = None) -> Iterator[tuple[Operation, int, int]]:
        """Yields each operation with the numbers of positions of its (first) input and of its output.

        Args:
            height, width: size of the picture in pixels.
            after: the operation after which to begin; None for the first.
        """
        sizes = self.sizes(height, width)
        for operation in self.operations[0 if after is None else self._index[after] + 1 :]:
            (rows, columns), (into_rows, into_columns) = sizes[operation.name], sizes[sources(operation)[0]]
            yield operation, into_rows * into_columns, rows * columns

    @cached_property
    def _fields(self) -> dict[str, Field]:
        fields = {INPUT: Field()}
        for operation in self.operations:
            if isinstance(operation, Sum):
                first, second = (fields[name] for name in operation.sources)
                fields[operation.name] = Field(
                    first.stride, max(first.before, second.before), max(first.after, second.after)
                )
            else:
                fields[operation.name] = fields[operation.source].through(operation.window)
        return fields


def _check(operation: Operation, channels: dict[str, int]) -> None:
    """Raises ValueError if an operation does not fit those before it, which have the given numbers of channels."""
    name = operation.name
    if name in channels:
        raise ValueError(f"two operations have the name {name!r}")
    for source in sources(operation):
        if source not in channels:
            raise ValueError(f"{name} reads {source!r}, which is not computed before it")
        if source == INPUT and not isinstance(operation, Convolution):
            raise ValueError(f"{name} reads the picture, but only convolutions may")
        expected = operation.inputs if isinstance(operation, Convolution) else operation.outputs
        if channels[source] != expected:
            raise ValueError(f"{name} expects {expected} channels, but {source} has {channels[source]}")
