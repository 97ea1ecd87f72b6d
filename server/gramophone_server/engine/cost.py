"""Predicts the memory (bytes) and the operations of an optimization before anything is allocated. No torch import."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .architecture import Architecture, Convolution, Operation, Pooling, Sum
from .tiling import Partition

# Bytes of one strip of Winograd tiles (36 points each): strips of this size stay in a core's share of the cache.
WINOGRAD_STRIP = 8 << 20
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
        target: the target of a style picture of the canvas's size, held for the whole job.
    """

    saved: int = 0
    forward: int = 0
    backward: int = 0
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
        winograd: whether float32 convolutions use the Winograd algorithm where that is faster.
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
    winograd: bool = False
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

    def transforms(self, operation: Operation) -> bool:
        """Returns whether an operation uses the Winograd algorithm with a transformed kernel."""
        return (
            self.winograd
            and self.itemsize == 4
            and isinstance(operation, Convolution)
            and operation.is_plain
            and operation.relu
            and winograd_pays(operation.inputs, operation.outputs)
        )

    @property
    def network_bytes(self) -> int:
        """Bytes of the network's parameters as the computation stores them.

        A Winograd kernel has 36 numbers instead of 9.
        """
        if self.cpu and self.itemsize < 4:
            return self.weights_bytes * self.itemsize // 2
        transformed = sum(map(self._parameters, filter(self.transforms, self.architecture.convolutions)))
        return (self.weights_bytes + 3 * 4 * transformed) * self.itemsize // 4

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


def winograd_pays(inputs: int, outputs: int) -> bool:
    """Returns whether the Winograd algorithm is faster than a direct convolution with these channels (measured).

    With few channels the transforms cost more time than the products save.
    """
    return min(inputs, outputs) >= 48 and max(inputs, outputs) >= 96


def parameter_bytes(architecture: Architecture) -> int:
    """Returns the bytes of all kernels, biases and heads in float32."""
    return sum(4 * (c.taps + 1 + (c.outputs if c.head else 0)) * c.outputs for c in architecture.convolutions)


def partition_bytes(work: Workload, partition: Partition) -> int:
    """Returns the peak memory in bytes of one gradient evaluation, without the canvas and the parameters."""
    cropped = not partition.tiles[0].is_whole
    if partition.cut is None:
        return gradient_bytes(work, *partition.largest, cropped=cropped)
    cut, (rows, columns) = work.architecture[partition.cut], work.architecture.sizes(*partition.size)[partition.cut]
    # The output of the cut, and later its gradient.
    middle = work.itemsize * cut.outputs * rows * columns * work.batch
    front = replace(work, architecture=work.architecture.through(partition.cut))
    return middle + max(
        gradient_bytes(work, *partition.size, after=partition.cut),
        gradient_bytes(front, *partition.largest, cropped=cropped),
    )


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
    tally = _Tally(saved=start, peak=start)
    sizes = work.architecture.sizes(height, width)
    last = work.architecture.operations[-1] if work.architecture.operations else None
    for operation, inputs, outputs in work.architecture.walk(height, width, after=after):
        before, positions = inputs * work.batch, outputs * work.batch
        match operation:
            case Pooling():
                slopes = _add_pooling(tally, work, operation, before, positions)
            case Convolution():
                transforms = work.transforms(operation)
                extra = _winograd_bytes(operation, *sizes[operation.name], work.batch) if transforms else 0
                slopes = _add_convolution(tally, work, operation, before, positions, work.block(extra))
            case Sum():
                slopes = _add_sum(tally, work, operation, positions)
        _add_losses(tally, work, operation, positions, cropped=cropped, deepest=operation is last)
        tally.backwards.append(tally.saved + slopes)
    return max(tally.peak, *tally.backwards)


@dataclass
class _Tally:
    """The memory of a forward and backward pass so far, in bytes.

    Attributes:
        saved: tensors that the backward pass needs.
        peak: peak of the forward pass.
        backwards: memory during the backward pass of each operation.
    """

    saved: int
    peak: int
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
    copied = work.copied and not work.transforms(convolution)
    if copied:
        tally.saved += into
    tally.hold(out + (into + extra if extra else 0))
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
        use, extra = work.use(operation.name), 0
        if work.transforms(operation):
            extra = into + _winograd_bytes(operation, *sizes[operation.name], work.batch)
        # The difference of the features and its square, and the features themselves if the layer has a head.
        beside = out * (2 + work.has_product(operation) if use.content else int(use.style and work.masked))
        beside += out * (use.copies.saved + use.copies.forward)
        peak = max(peak, into + out + extra, out + beside)
    return peak


def _winograd_bytes(c: Operation, rows: int, columns: int, batch: int) -> int:
    """Returns the bytes of the temporary tensors of a Winograd convolution."""
    assert isinstance(c, Convolution)
    across = -(-columns // 4)
    a_row = 4 * 36 * across * max(c.inputs, c.outputs)
    strip = min(max(a_row, WINOGRAD_STRIP), a_row * -(-rows // 4))
    # The strip's tiles (input, transformed, multiplied, transformed back), and the padding of the whole feature map.
    margins = 4 * (c.inputs + c.outputs) * batch * 4 * (rows + columns + 4)
    return int(3.5 * strip) + margins


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


def step_flops(work: Workload, partition: Partition) -> float:
    """Returns the operations of the convolutions of one gradient evaluation (a multiply-add counts as two)."""
    # One forward pass, and one backward pass to the canvas (not to the parameters).
    whole = 2 * work.batch * forward_flops(work, *partition.size, after=partition.cut) if partition.cut else 0.0
    front = replace(work, architecture=work.architecture.through(partition.cut)) if partition.cut else work
    # In tiles, one more forward pass for the statistics or the output of the cut.
    twice = partition.cut is not None or (len(partition.tiles) > 1 and work.summed)
    # Nearly all tiles have one of a few sizes.
    sizes = Counter((tile.rows.seen_pixels, tile.columns.seen_pixels) for tile in partition.tiles)
    once = sum(count * forward_flops(front, *size) for size, count in sizes.items())
    return whole + (3 if twice else 2) * work.batch * once


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
