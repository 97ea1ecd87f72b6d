"""Predicts the memory (bytes) and the operations of an optimization before anything is allocated. No torch import."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .architecture import Architecture, Convolution, Operation, Pooling, Sum
from .tiling import Partition, deal

# Bytes of one strip of Winograd tiles, and the fewest tiles of a strip. Measured with two threads: strips of 2 or 4 MiB
# take 1 to 5 % more time.
WINOGRAD_STRIP, WINOGRAD_TILES = 6 << 20, 84
# Below this number of Winograd tiles, transposing the kernel takes longer than it saves, so that the copy is kept.
_KEPT_TILES = 120
# Below this number of Winograd tiles for each point of their transforms, smaller tiles are faster: to read the
# transformed kernel, which has a matrix for each point, then takes longer than to multiply with it.
_TILES_A_POINT = 0.4
# Below this number of multiplications, a direct convolution is faster than the many calls of Winograd's algorithm.
_FEW_MULTIPLICATIONS = 100_000_000
# Bytes of one strip of features that is copied for a Gram matrix: it stays in the cache as well.
GRAM_STRIP = 2 << 20
# Bytes of a block of curvature pairs. Pairs of small canvases share a block, which saves calls in a short step.
PAIRS_BLOCK = 16 << 20
# The C library keeps freed blocks smaller than this many bytes and returns larger ones to the system.
KEPT_BLOCK = 64 << 20


@dataclass(frozen=True)
class Copies:
    """Memory of a loss beyond that of a Gram matrix, in float32 feature maps of its layer.

    Attributes:
        saved: allocated in the forward pass and freed after the layer's backward pass.
        forward, backward: allocated during the layer's forward or backward pass only.
        comparison: allocated when the forward pass has ended, to compare the statistics with the targets, and for the
            gradient of that.
        target: the target of a style picture of the canvas's size, held for the whole job.
    """

    saved: int = 0
    forward: int = 0
    backward: int = 0
    comparison: int = 0
    target: int = 0


@dataclass(frozen=True)
class Use:
    """What the losses of a job read of a layer.

    Attributes:
        style: whether a style loss uses the layer.
        content: whether a content loss uses the layer.
        copies: memory of the style loss beyond that of a Gram matrix.
    """

    style: bool = False
    content: bool = False
    copies: Copies = Copies()


_UNUSED = Use()


@dataclass(frozen=True)
class Workload:
    """A batch of canvases and the settings of its optimization that determine its cost.

    Attributes:
        architecture: the network up to the deepest layer needed.
        uses: what the losses read, by layer. Of a layer with a head, style multiplies the Gram matrix with the head;
            only content and extraction pay for the product at each position.
        batch: number of canvases N.
        itemsize: bytes per number in the network's precision.
        max_pooling: whether the network uses max pooling, which stores the index of each maximum.
        copied: whether feature maps are padded with copies of their edges, which copies the feature maps. A Winograd
            convolution copies them anyway.
        masked: whether styles have masks.
        variation: whether the loss includes total variation.
        pairs: maximum number of curvature pairs that L-BFGS holds at a time; None for Adam.
        averaging: whether the iterates are averaged.
        winograd: fewest channels with which float32 convolutions use the Winograd algorithm; 0 for never.
        cpu: whether the optimization runs on a CPU. There, copies are made strip by strip, and kernels with less than
            float32 precision are stored twice, packed for the forward and for the backward pass.
        gaps: memory per byte of blocks that the C library keeps, including the gaps between them; >= 1.
        summed: whether a loss is a function of a statistic that is summed over the tiles of the canvas: the gradient in
            tiles then takes two passes.
    """

    architecture: Architecture
    uses: Mapping[str, Use] = field(default_factory=dict)
    batch: int = 1
    itemsize: int = 4
    max_pooling: bool = True
    copied: bool = False
    masked: bool = False
    variation: bool = False
    pairs: int | None = None
    averaging: bool = False
    winograd: int = 0
    cpu: bool = False
    gaps: float = 1.0
    summed: bool = True

    def block(self, size: int) -> int:
        """Returns the memory in bytes that a block of `size` bytes occupies, gaps included."""
        return size if size >= KEPT_BLOCK else int(size * self.gaps)

    def use(self, layer: str) -> Use:
        """Returns what the losses read of a layer."""
        return self.uses.get(layer, _UNUSED)

    def has_head(self, operation: Operation) -> bool:
        """Returns whether an operation has a head that the losses need."""
        use = self.use(operation.name)
        return isinstance(operation, Convolution) and operation.head and (use.style or use.content)

    def has_product(self, operation: Operation) -> bool:
        """Returns whether a step multiplies the activation at each position with a head."""
        return self.has_head(operation) and self.use(operation.name).content

    def tile(self, operation: Operation) -> int:
        """Returns the side of an operation's largest Winograd tiles; 0 if it does not use the algorithm."""
        if not isinstance(operation, Convolution) or not self.winograd or self.itemsize != 4:
            return 0
        plain = operation.is_plain and operation.relu
        return winograd_tile(operation.inputs, operation.outputs, self.winograd) if plain else 0

    def tile_on(self, operation: Operation, height: int, width: int) -> int:
        """Returns the side of an operation's Winograd tiles on a map of height x width positions; 0 for none."""
        tile = self.tile(operation)
        if not tile or not isinstance(operation, Convolution):
            return 0
        return winograd_fitting(tile, operation.inputs, operation.outputs, height, width)

    @property
    def network_bytes(self) -> int:
        """Bytes of the network's parameters as the computation stores them.

        A Winograd kernel has 36 or 64 numbers instead of 9, and is held beside the other one.
        """
        if self.cpu and self.itemsize < 4:
            return self.weights_bytes * self.itemsize // 2
        size = 0
        for convolution in self.architecture.convolutions:
            tile, parameters = self.tile(convolution), self._parameters(convolution)
            size += parameters + (parameters * (tile + 2) ** 2 // 9 if tile else 0)
        return size * self.itemsize

    @property
    def weights_bytes(self) -> int:
        """Bytes of the network's parameters in float32."""
        return 4 * sum(map(self._parameters, self.architecture.convolutions))

    @property
    def content_weights_bytes(self) -> int:
        """Bytes of the float32 parameters up to the deepest content layer."""
        content = [layer for layer, use in self.uses.items() if use.content]
        return 4 * sum(map(self._parameters, self.architecture.upto(content).convolutions))

    def _parameters(self, convolution: Convolution) -> int:
        head = convolution.outputs if self.has_head(convolution) else 0
        return (convolution.taps + 1 + head) * convolution.outputs


def pairs_at_once(size: int) -> int:
    """Returns how many curvature pairs one block holds, for a canvas of `size` numbers; a block is freed as a whole."""
    return max(1, PAIRS_BLOCK // (4 * size))


def winograd_tile(inputs: int, outputs: int, narrowest: int) -> int:
    """Returns the side of the Winograd tiles that are fastest on large maps with these channels; 0 for none.

    The rule follows from the benchmark `convolutions`. With few channels the transforms cost more time than the
    products save. With many channels the feature maps are small: larger tiles would only take more memory.

    Args:
        inputs, outputs: numbers of channels.
        narrowest: fewest channels for which the algorithm pays on this CPU, see `device.narrowest_winograd`.
    """
    if min(inputs, outputs) < narrowest:
        return 0
    return 6 if max(inputs, outputs) <= 256 else 4


def winograd_fitting(tile: int, inputs: int, outputs: int, height: int, width: int) -> int:
    """Returns the side of the Winograd tiles that are fastest on a feature map; 0 if a direct convolution is faster.

    Args:
        tile: side of the tiles on large maps, 4 or 6, which is the most; 0 for a direct convolution on all maps.
        inputs, outputs: numbers of channels.
        height, width: positions of the output.
    """
    if 9 * inputs * outputs * height * width < _FEW_MULTIPLICATIONS:
        return 0
    while tile > 2 and -(-height // tile) * -(-width // tile) < _TILES_A_POINT * (tile + 2) ** 2:
        tile -= 2
    return tile


def winograd_rows(tile: int, rows: int, columns: int, channels: int) -> int:
    """Returns how many of the `rows` rows of Winograd tiles one strip has.

    Args:
        tile: side of a tile.
        columns: tiles of a row.
        channels: the larger number of channels, of the input or of the output.
    """
    tiles = max(WINOGRAD_TILES, WINOGRAD_STRIP // (4 * (tile + 2) ** 2 * channels))
    strips = -(-rows // max(1, tiles // columns))
    return -(-rows // strips)


def winograd_keeps_transposed(tile: int, height: int, width: int) -> bool:
    """Returns whether a Winograd convolution keeps the transposed kernel of its backward pass.

    Args:
        tile: side of a tile.
        height, width: positions of the output.
    """
    return -(-height // tile) * -(-width // tile) < _KEPT_TILES


def parameter_bytes(architecture: Architecture) -> int:
    """Returns the bytes of all kernels, biases and heads in float32."""
    return sum(4 * (c.taps + 1 + (c.outputs if c.head else 0)) * c.outputs for c in architecture.convolutions)


def partition_bytes(work: Workload, partition: Partition, devices: int = 1) -> int:
    """Returns the peak memory in bytes of one gradient evaluation, without the canvas and the parameters.

    Args:
        devices: number of devices that compute tiles at the same time. The result is then that of the first one, or of
            all if they are parts of a CPU.
    """
    cropped = not partition.tiles[0].is_whole
    at_once = min(devices, len(partition.tiles)) if work.cpu else 1
    if partition.cut is None:
        return at_once * gradient_bytes(work, *partition.largest, cropped=cropped)
    cut, (rows, columns) = work.architecture[partition.cut], work.architecture.sizes(*partition.size)[partition.cut]
    # The output of the cut, and later its gradient.
    middle = work.itemsize * cut.outputs * rows * columns * work.batch
    front = replace(work, architecture=work.architecture.through(partition.cut))
    back_bytes = gradient_bytes(work, *partition.size, after=partition.cut)
    front_bytes = at_once * gradient_bytes(front, *partition.largest, cropped=cropped)
    return middle + (back_bytes + front_bytes if keeps_tiles(partition, devices) else max(back_bytes, front_bytes))


def gradient_bytes(work: Workload, height: int, width: int, *, cropped: bool = False, after: str | None = None) -> int:
    """Returns the peak memory in bytes of a forward and backward pass, without the canvas and the parameters.

    The function adds up the tensors that torch holds at each operation: in the forward pass the saved tensors
    accumulate; in the backward pass each operation's saved tensors are freed after the operation.

    Args:
        height, width: size in pixels of what the network sees, the picture or a tile with its halo.
        cropped: whether the network sees a tile rather than the whole picture.
        after: the operation after which the passes begin, whose output is not counted; None to begin with the picture.
    """
    pixels = height * width * work.batch if after is None else 0
    # The network's input, and the differences of neighboring pixels.
    start = pixels * 3 * (4 + work.itemsize) + (pixels * 3 * 4 * 6 if work.variation else 0)
    sizes = work.architecture.sizes(height, width)
    start += sum(_kept_bytes(work, operation, *sizes[operation.name]) for operation in work.architecture.operations)
    tally = _Tally(saved=start, peak=start)
    last = work.architecture.operations[-1] if work.architecture.operations else None
    for operation, inputs, outputs in work.architecture.walk(height, width, after=after):
        before, positions = inputs * work.batch, outputs * work.batch
        match operation:
            case Pooling():
                slopes = _add_pooling(tally, work, operation, before, positions)
            case Convolution():
                extra = _winograd_bytes(work, operation, *sizes[operation.name])
                slopes = _add_convolution(tally, work, operation, before, positions, work.block(extra))
            case Sum():
                slopes = _add_sum(tally, work, operation, positions)
        kept = tally.saved
        _add_losses(tally, work, operation, positions, cropped=cropped, deepest=operation is last)
        # The backward pass of the losses of a layer comes first, and frees what they saved.
        tally.backwards.append(kept + slopes)
    return max(tally.peak, tally.saved + tally.comparison, *tally.backwards)


@dataclass
class _Tally:
    """The memory of a forward and backward pass so far, in bytes.

    Attributes:
        saved: tensors that the backward pass needs.
        peak: peak of the forward pass.
        comparison: memory that the comparison with the targets needs beyond the saved tensors.
        backwards: memory during the backward pass of each operation.
    """

    saved: int
    peak: int
    comparison: int = 0
    backwards: list[int] = field(default_factory=list)

    def hold(self, size: int) -> None:
        """Raises the peak to the saved tensors plus `size` bytes."""
        self.peak = max(self.peak, self.saved + size)


def _add_pooling(tally: _Tally, work: Workload, pooling: Pooling, before: int, after: int) -> int:
    """Adds a pooling from `before` to `after` positions; returns the bytes of its gradients."""
    into, out = (work.block(pooling.outputs * positions * work.itemsize) for positions in (before, after))
    # Max pooling stores an index of 8 bytes per output.
    index = work.block(8 * pooling.outputs * after) if work.max_pooling else 0
    margins = into if work.copied and (pooling.window.before or pooling.window.after) else 0
    tally.hold(margins + out + (index or out))
    tally.saved += margins + out + index
    return into


def _add_convolution(
    tally: _Tally, work: Workload, convolution: Convolution, before: int, after: int, extra: int
) -> int:
    """Adds a convolution from `before` to `after` positions; returns the bytes of its gradients.

    Args:
        extra: bytes of its temporary tensors.
    """
    into = work.block(convolution.inputs * before * work.itemsize)
    out = work.block(convolution.outputs * after * work.itemsize)
    # A Winograd convolution frees its padded input after the forward pass.
    copied = work.copied and not extra
    if copied:
        tally.saved += into
    tally.hold(out + extra + (into if work.copied and extra else 0))
    tally.saved += out
    # The gradients of the output and of the input.
    return out + (2 * into if copied else into) + extra


def _add_sum(tally: _Tally, work: Workload, operation: Sum, after: int) -> int:
    """Adds a sum of `after` positions; returns the bytes of its gradients."""
    out = work.block(operation.outputs * after * work.itemsize)
    tally.hold(out)
    tally.saved += out
    # The gradient of each input is a tensor of its own.
    return 2 * out


def _add_losses(
    tally: _Tally, work: Workload, operation: Operation, after: int, *, cropped: bool, deepest: bool
) -> None:
    """Adds the losses of a layer with `after` positions."""
    use = work.use(operation.name)
    out = work.block(operation.outputs * after * work.itemsize)
    # The losses are computed in float32.
    full = work.block(operation.outputs * after * 4)
    part = min(full, GRAM_STRIP) if work.cpu else full
    tally.saved += use.copies.saved * full
    tally.comparison = max(tally.comparison, use.copies.comparison * full)
    losing = 0
    if use.style:
        # Interiors of tiles and features below float32 are copied; a mask needs one more copy. On a CPU the copies
        # are made strip by strip.
        losing += part * (work.masked + (cropped or work.itemsize < 4)) + use.copies.forward * full
    if use.content:
        tally.saved += full
        losing = max(losing, full + (out if work.has_product(operation) else 0))
    tally.hold(losing)
    # The gradient of an interior or a masked copy exists beside the gradient of the output, which the deepest layer
    # does not have.
    if not (use.style or use.content):
        return
    style = (2 * part if use.style and (cropped or work.masked) else 0) + use.copies.backward * full
    content = 2 * full if use.content else 0
    tally.backwards.append(tally.saved + max(out + style, content if deepest else out + content))


def extraction_bytes(work: Workload, height: int, width: int) -> int:
    """Returns the peak memory in bytes of ONNX Runtime's forward pass over height x width pixels.

    The measured peak is 1.45 times the size of the tensors.
    """
    kept = peak = 0
    for operation, before, after in work.architecture.walk(height, width):
        inputs = operation.inputs if isinstance(operation, Convolution) else operation.outputs
        size = operation.outputs * (2 if work.has_head(operation) else 1)
        peak = max(peak, kept + 4 * work.batch * (before * inputs + after * size))
        use = work.use(operation.name)
        if use.style or use.content:
            kept += 4 * after * work.batch * operation.outputs
    return int(1.45 * peak)


def evaluation_bytes(work: Workload, height: int, width: int) -> int:
    """Returns the peak memory in bytes of a float32 forward pass without gradients over height x width pixels."""
    work = replace(work, itemsize=4)
    sizes = work.architecture.sizes(height, width)
    peak = 0
    for operation, before, after in work.architecture.walk(height, width):
        inputs = operation.inputs if isinstance(operation, Convolution) else operation.outputs
        into, out = 4 * inputs * before * work.batch, 4 * operation.outputs * after * work.batch
        use, extra = work.use(operation.name), _winograd_bytes(work, operation, *sizes[operation.name])
        extra += into if work.copied and extra else 0
        # The difference of the features and its square, and the features themselves if the layer has a head.
        beside = out * (2 + work.has_product(operation) if use.content else int(use.style and work.masked))
        beside += out * (use.copies.saved + use.copies.forward)
        peak = max(peak, into + out + extra, out + beside)
    return peak


def _winograd_bytes(work: Workload, operation: Operation, height: int, width: int) -> int:
    """Returns the bytes of the temporary tensors of a convolution with Winograd's algorithm; 0 for another one.

    Args:
        height, width: positions of the output.
    """
    if not (tile := work.tile_on(operation, height, width)):
        return 0
    assert isinstance(operation, Convolution)
    channels, size = max(operation.inputs, operation.outputs), tile + 2
    rows, columns = -(-height // tile), -(-width // tile)
    count = winograd_rows(tile, rows, columns, channels)
    kernel = 0 if winograd_keeps_transposed(tile, height, width) else size**2 * operation.inputs * operation.outputs
    # The inputs of a strip, the same transformed along one axis, and two buffers for its tiles.
    strip = (tile * count + 2) * width + count * size * (tile * columns + 2 + 2 * size * columns)
    return 4 * (kernel + channels * strip)


def _kept_bytes(work: Workload, operation: Operation, height: int, width: int) -> int:
    """Returns the bytes of the transposed kernel that a convolution with Winograd's algorithm keeps; 0 for none.

    Args:
        height, width: positions of the output.
    """
    tile = work.tile_on(operation, height, width)
    if not tile or not winograd_keeps_transposed(tile, height, width):
        return 0
    assert isinstance(operation, Convolution)
    return 4 * (tile + 2) ** 2 * operation.inputs * operation.outputs


def canvas_bytes(work: Workload, height: int, width: int, *, stepping: bool = False) -> int:
    """Returns the bytes of the canvas and all tensors of its size: gradient, optimizer, best and averaged iterates.

    Args:
        stepping: whether to return the peak during the optimizer's step rather than the memory held while the gradient
            is computed.
    """
    if work.pairs is None:
        tensors = 7 if stepping else 6
    else:
        together = min(pairs_at_once(3 * height * width), max(work.pairs, 1))
        # Worst case: the oldest pair in use is the last of its block, and the newest is the first of its block.
        pieces = -(-(work.pairs - 1) // together) + 1 if work.pairs else 0
        tensors = (10 if stepping else 5) + 2 * together * pieces
    tensors += 2 if work.averaging else 0
    return 12 * height * width * work.batch * tensors


def content_bytes(work: Workload, height: int, width: int) -> int:
    """Returns the bytes of the targets that are about as large as feature maps, float32."""
    total = 0
    for operation, _, after in work.architecture.walk(height, width):
        use = work.use(operation.name)
        total += 4 * work.batch * operation.outputs * after * (use.content + use.copies.target)
    return total


def step_flops(work: Workload, partition: Partition, devices: int = 1) -> float:
    """Returns the operations of the convolutions of one gradient evaluation (a multiply-add counts as two).

    Args:
        devices: number of devices that compute tiles at the same time.
    """
    return _back_flops(work, partition) + sum(_front_flops(work, partition, devices))


def path_flops(work: Workload, partition: Partition, devices: int) -> float:
    """Returns those of the `step_flops` that come one after the other: the operations of the busiest device."""
    return _back_flops(work, partition) + max(_front_flops(work, partition, devices))


def _back_flops(work: Workload, partition: Partition) -> float:
    # One forward pass, and one backward pass to the canvas (not to the parameters).
    return 2 * work.batch * forward_flops(work, *partition.size, after=partition.cut) if partition.cut else 0.0


def _front_flops(work: Workload, partition: Partition, devices: int) -> list[float]:
    """Returns the operations of each device up to the cut."""
    front = replace(work, architecture=work.architecture.through(partition.cut)) if partition.cut else work
    # In tiles, one more forward pass for the statistics or the output of the cut, unless the first one is kept.
    twice = partition.cut is not None or (len(partition.tiles) > 1 and work.summed)
    passes = 3 if twice and not keeps_tiles(partition, devices) else 2
    # Nearly all tiles have one of a few sizes.
    sizes = [(tile.rows.seen_pixels, tile.columns.seen_pixels) for tile in partition.tiles]
    once = {size: forward_flops(front, *size) for size in set(sizes)}
    loads = [0.0] * devices
    for size, number in zip(sizes, deal(partition.tiles, devices), strict=True):
        loads[number] += passes * work.batch * once[size]
    return loads


def keeps_tiles(partition: Partition, devices: int) -> bool:
    """Returns whether each device has only one of several tiles, and keeps it between the two passes."""
    return 1 < len(partition.tiles) <= devices


def forward_flops(work: Workload, height: int, width: int, *, after: str | None = None) -> float:
    """Returns the operations of the convolutions of one forward pass over height x width pixels.

    Args:
        after: the operation after which the pass begins; None to begin with the picture.
    """
    total = 0
    for operation, _, positions in work.architecture.walk(height, width, after=after):
        if isinstance(operation, Convolution):
            head = operation.outputs if work.has_product(operation) else 0
            total += 2 * (operation.taps + head) * operation.outputs * positions
    return float(total)
