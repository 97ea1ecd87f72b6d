"""Predicts the memory (bytes) and the operations of an optimization before anything is allocated. No torch import."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .tiling import Tile

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
class Convolution:
    """A 3x3 convolution of the network.

    A first convolution of 6x6 and stride 2 counts as one of 3x3 with four times as many inputs.

    Attributes:
        inputs, outputs: numbers of channels.
        stride: stride of the feature map in canvas pixels.
        style: whether a style loss uses this layer.
        content: whether a content loss uses this layer.
        head: whether the features are the product of a matrix and the activation at each position. Style multiplies the
            Gram matrix with the head instead, so only content and extraction pay for the product at each position.
        copies: memory of the style loss beyond that of a Gram matrix.
    """

    inputs: int
    outputs: int
    stride: int
    style: bool = False
    content: bool = False
    head: bool = False
    copies: Copies = Copies()

    @property
    def product(self) -> bool:
        """Whether a step multiplies the activation at each position with the head."""
        return self.head and self.content


@dataclass(frozen=True)
class Workload:
    """A batch of canvases and the settings of its optimization that determine its cost.

    Attributes:
        convolutions: the convolutions up to the deepest layer needed.
        batch: number of canvases N.
        itemsize: bytes per number in the network's precision.
        max_pooling: whether the network uses max pooling, which stores the index of each maximum.
        replicate: whether feature maps are padded with copies of their edge, which copies the feature maps.
        masked: whether styles have masks.
        variation: whether the loss includes total variation.
        pairs: maximum number of curvature pairs that L-BFGS holds at a time; None for Adam.
        averaging: whether the iterates are averaged.
        winograd: whether float32 convolutions use the Winograd algorithm where that is faster.
        cpu: whether the optimization runs on a CPU. There, copies are made strip by strip, and kernels with less than
            float32 precision are stored twice, packed for the forward and for the backward pass.
        gaps: memory per byte of blocks that the C library keeps, including the gaps between them; >= 1.
    """

    convolutions: tuple[Convolution, ...]
    batch: int = 1
    itemsize: int = 4
    max_pooling: bool = True
    replicate: bool = False
    masked: bool = False
    variation: bool = False
    pairs: int | None = None
    averaging: bool = False
    winograd: bool = False
    cpu: bool = False
    gaps: float = 1.0

    def block(self, size: int) -> int:
        """Returns the memory in bytes that a block of `size` bytes occupies, gaps included."""
        return size if size >= KEPT_BLOCK else int(size * self.gaps)

    def transforms(self, c: Convolution) -> bool:
        """Returns whether a convolution uses the Winograd algorithm with a transformed kernel."""
        return self.winograd and self.itemsize == 4 and winograd_pays(c.inputs, c.outputs)

    @property
    def network_bytes(self) -> int:
        """Bytes of the network's parameters as the computation stores them.

        A Winograd kernel has 36 numbers instead of 9.
        """
        if self.cpu and self.itemsize < 4:
            return self.weights_bytes * self.itemsize // 2
        transformed = list(filter(self.transforms, self.convolutions))
        return (self.weights_bytes + 3 * parameter_bytes(transformed)) * self.itemsize // 4

    @property
    def weights_bytes(self) -> int:
        """Bytes of the network's parameters in float32."""
        return parameter_bytes(self.convolutions)

    @property
    def content_weights_bytes(self) -> int:
        """Bytes of the float32 parameters up to the deepest content layer."""
        last = max((i for i, c in enumerate(self.convolutions, 1) if c.content), default=0)
        return parameter_bytes(self.convolutions[:last])


def pairs_at_once(size: int) -> int:
    """Returns how many curvature pairs one block holds, for a canvas of `size` numbers; a block is freed as a whole."""
    return max(1, PAIRS_BLOCK // (4 * size))


def winograd_pays(inputs: int, outputs: int) -> bool:
    """Returns whether the Winograd algorithm is faster than a direct convolution with these channels (measured).

    With few channels the transforms cost more time than the products save.
    """
    return min(inputs, outputs) >= 48 and max(inputs, outputs) >= 96


def parameter_bytes(convolutions: Sequence[Convolution]) -> int:
    """Returns the bytes of the kernels, biases and heads in float32."""
    return sum(4 * (9 * c.inputs + 1 + (c.outputs if c.head else 0)) * c.outputs for c in convolutions)


def gradient_bytes(work: Workload, height: int, width: int, *, cropped: bool = False) -> int:
    """Returns the peak memory in bytes of a forward and backward pass, without the canvas and the parameters.

    The function adds up the tensors that torch holds at each layer: in the forward pass the saved tensors accumulate;
    in the backward pass each layer's saved tensors are freed after the layer.

    Args:
        height, width: size in pixels of what the network sees, the picture or a tile with its halo.
        cropped: whether the network sees a tile rather than the whole picture.
    """
    size, pixels = work.itemsize, height * width * work.batch
    # The network's input, and the differences of neighboring pixels.
    saved = pixels * 3 * (4 + size) + (pixels * 3 * 4 * 6 if work.variation else 0)
    peak = saved
    backwards: list[int] = []
    for c, pooled in _with_pooling(work.convolutions):
        rows, columns = height // c.stride, width // c.stride
        positions = rows * columns * work.batch
        into, out = work.block(c.inputs * positions * size), work.block(c.outputs * positions * size)
        # The losses are computed in float32.
        full = work.block(c.outputs * positions * 4)
        part = min(full, GRAM_STRIP) if work.cpu else full
        if pooled:
            # The gradient of the pooling's input is four times as large as that of its output. Max pooling stores an
            # index of 8 bytes per output.
            index = work.block(8 * c.inputs * positions) if work.max_pooling else 0
            peak = max(peak, saved + into + (index or into))
            saved += into + index
            backwards.append(saved + work.block(4 * c.inputs * positions * size))
        if work.replicate:
            saved += into
        extra = work.block(_winograd_bytes(c, rows, columns, work.batch)) if work.transforms(c) else 0
        peak = max(peak, saved + out + (into + extra if extra else 0))
        saved += out + c.copies.saved * full
        losing = 0
        if c.style:
            # Interiors of tiles and features below float32 are copied; a mask needs one more copy. On a CPU the copies
            # are made strip by strip.
            losing += part * (work.masked + (cropped or size < 4)) + c.copies.forward * full
        if c.content:
            saved += full
            losing = max(losing, full + (out if c.product else 0))
        peak = max(peak, saved + losing)
        # The gradients of the output and of the input. The gradient of an interior or a masked copy exists beside the
        # gradient of the output, which the deepest layer does not have.
        slopes = out + (2 * into if work.replicate else into) + extra
        style = (2 * part if c.style and (cropped or work.masked) else 0) + c.copies.backward * full
        content = 2 * full if c.content else 0
        deepest = c is work.convolutions[-1]
        backwards += [saved + slopes, saved + max(out + style, content if deepest else out + content)]
    return max(peak, *backwards)


def extraction_bytes(work: Workload, height: int, width: int) -> int:
    """Returns the peak memory in bytes of ONNX Runtime's forward pass over height x width pixels.

    The measured peak is 1.45 times the size of the tensors.
    """
    pixels = height * width * work.batch
    kept = peak = 0
    for c, _ in _with_pooling(work.convolutions):
        positions = pixels // c.stride**2
        peak = max(peak, kept + 4 * positions * (c.inputs + c.outputs * (2 if c.head else 1)))
        if c.style or c.content:
            kept += 4 * positions * c.outputs
    return int(1.45 * peak)


def evaluation_bytes(work: Workload, height: int, width: int) -> int:
    """Returns the peak memory in bytes of a float32 forward pass without gradients over height x width pixels."""
    work = replace(work, itemsize=4)
    peak = 0
    for c, _ in _with_pooling(work.convolutions):
        rows, columns = height // c.stride, width // c.stride
        positions = rows * columns * work.batch
        into, out = 4 * c.inputs * positions, 4 * c.outputs * positions
        extra = into + _winograd_bytes(c, rows, columns, work.batch) if work.transforms(c) else 0
        # The difference of the features and its square, and the features themselves if the layer has a head.
        beside = out * (2 + c.product if c.content else int(c.style and work.masked))
        beside += out * (c.copies.saved + c.copies.forward)
        peak = max(peak, into + out + extra, out + beside)
    return peak


def _winograd_bytes(c: Convolution, rows: int, columns: int, batch: int) -> int:
    """Returns the bytes of the temporary tensors of a Winograd convolution."""
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
    return sum(
        4 * c.outputs * (height // c.stride) * (width // c.stride) * work.batch * (c.content + c.copies.target)
        for c in work.convolutions
    )


def step_flops(work: Workload, tiles: Sequence[Tile]) -> float:
    """Returns the operations of the convolutions of one gradient evaluation (a multiply-add counts as two)."""
    # One forward pass, one backward pass to the canvas (not to the parameters), and with tiles and style one more
    # forward pass for the statistics.
    has_style = any(c.style for c in work.convolutions)
    passes = 3 if len(tiles) > 1 and has_style else 2
    once = sum(forward_flops(work.convolutions, t.rows.seen_pixels, t.columns.seen_pixels) for t in tiles)
    return passes * work.batch * once


def forward_flops(convolutions: Sequence[Convolution], height: int, width: int) -> float:
    """Returns the operations of the convolutions of one forward pass over height x width pixels."""
    sizes = [(c.stride, (9 * c.inputs + (c.outputs if c.product else 0)) * c.outputs) for c in convolutions]
    return float(sum(2 * size * (height // stride) * (width // stride) for stride, size in sizes))


def _with_pooling(convolutions: Sequence[Convolution]) -> Iterator[tuple[Convolution, bool]]:
    """Yields each convolution, and whether a pooling precedes it."""
    stride = convolutions[0].stride if convolutions else 1
    for c in convolutions:
        yield c, c.stride != stride
        stride = c.stride
