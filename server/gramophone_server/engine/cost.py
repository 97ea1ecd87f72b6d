"""What an optimization costs, in bytes and operations, before anything is allocated. Arithmetic only: no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .tiling import Tile

# Strips of Winograd's tiles whose 36 points fit into this many bytes stay in a core's share of the cache.
WINOGRAD_STRIP = 8 << 20
# Strips of features that are copied for a Gram matrix stay there too.
GRAM_STRIP = 2 << 20
# Curvature pairs of small canvases are kept several together, up to this many bytes: less to be called in a short step.
PAIRS_BLOCK = 16 << 20
# Smaller blocks are kept by the C library when they are freed, larger ones given back.
KEPT_BLOCK = 64 << 20


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of the network: its channels, its stride in pixels of the canvas, and what is taken there.

    A first one of 6x6 and stride 2 is one of 3x3 over four times as many inputs.
    With a `head`, its features are the product of the activation and a matrix, position by position. A Gram matrix is
    multiplied with it instead, so that only content and extraction pay for it.
    """

    inputs: int
    outputs: int
    stride: int
    style: bool = False
    content: bool = False
    head: bool = False

    @property
    def product(self) -> bool:
        """Whether a step multiplies each position's activation with the head."""
        return self.head and self.content


@dataclass(frozen=True)
class Workload:
    """A batch of canvases and how they are optimized.

    Attributes:
        convolutions: up to the deepest layer needed.
        batch: number of canvases N.
        itemsize: bytes of a number in the network's precision.
        max_pooling: whether it pools by maximum, which remembers where each came from.
        replicate: whether feature maps are padded with their edge, which copies them.
        masked: whether styles have regions.
        variation: whether there is total variation.
        pairs: most curvature pairs that L-BFGS will hold at a time; None for Adam.
        averaging: whether the iterates are averaged.
        winograd: whether convolutions that it pays for go by way of transformed kernels in float32.
        cpu: whether it runs on a CPU, where copies are made strip by strip, and kernels in less than float32 are held
            twice, packed for either direction.
        gaps: memory per byte of blocks that are kept, the gaps between them included.
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
        """What a block of so many bytes takes."""
        return size if size >= KEPT_BLOCK else int(size * self.gaps)

    def transforms(self, c: Convolution) -> bool:
        """Whether a convolution goes by way of a transformed kernel."""
        return self.winograd and self.itemsize == 4 and winograd_pays(c.inputs, c.outputs)

    @property
    def network_bytes(self) -> int:
        """The network's parameters as it computes with them; a transformed kernel has 36 numbers for 9."""
        if self.cpu and self.itemsize < 4:
            return self.weights_bytes * self.itemsize // 2
        transformed = list(filter(self.transforms, self.convolutions))
        return (self.weights_bytes + 3 * parameter_bytes(transformed)) * self.itemsize // 4

    @property
    def weights_bytes(self) -> int:
        """The network's parameters in float32."""
        return parameter_bytes(self.convolutions)

    @property
    def content_weights_bytes(self) -> int:
        """The parameters of the part that the content layers need."""
        last = max((i for i, c in enumerate(self.convolutions, 1) if c.content), default=0)
        return parameter_bytes(self.convolutions[:last])


def pairs_at_once(size: int) -> int:
    """Curvature pairs, of canvases of so many numbers, that are kept in one piece, and let go of together."""
    return max(1, PAIRS_BLOCK // (4 * size))


def winograd_pays(inputs: int, outputs: int) -> bool:
    """Whether so many channels are enough for Winograd's products to save more than the transforms cost (measured)."""
    return min(inputs, outputs) >= 48 and max(inputs, outputs) >= 96


def parameter_bytes(convolutions: Sequence[Convolution]) -> int:
    """Kernels, biases and heads in float32."""
    return sum(4 * (9 * c.inputs + 1 + (c.outputs if c.head else 0)) * c.outputs for c in convolutions)


def gradient_bytes(work: Workload, height: int, width: int, *, cropped: bool = False) -> int:
    """Peak of a forward and backward pass over a picture, or a crop of one, beyond the canvas and the parameters.

    The tensors that torch holds, step by step: forwards what is saved grows, backwards each layer's is let go after it.
    """
    size, pixels = work.itemsize, height * width * work.batch
    # What the network is shown, and the neighbors' differences.
    saved = pixels * 3 * (4 + size) + (pixels * 3 * 4 * 6 if work.variation else 0)
    peak = saved
    backwards: list[int] = []
    for c, pooled in _in_order(work.convolutions):
        rows, columns = height // c.stride, width // c.stride
        positions = rows * columns * work.batch
        into, out = work.block(c.inputs * positions * size), work.block(c.outputs * positions * size)
        # The losses are computed in float32.
        full = work.block(c.outputs * positions * 4)
        part = min(full, GRAM_STRIP) if work.cpu else full
        if pooled:
            # The slope of what is pooled is four times as large. Pooling by maximum keeps an index of 8 bytes.
            index = work.block(8 * c.inputs * positions) if work.max_pooling else 0
            peak = max(peak, saved + into + (index or into))
            saved += into + index
            backwards.append(saved + work.block(4 * c.inputs * positions * size))
        if work.replicate:
            saved += into
        extra = work.block(_winograd_bytes(c, rows, columns, work.batch)) if work.transforms(c) else 0
        peak = max(peak, saved + out + (into + extra if extra else 0))
        saved += out
        losing = 0
        if c.style:
            # Interiors, and what is less than float32, are copied, and masked once more: strip by strip on a CPU.
            losing += part * (work.masked + (cropped or size < 4))
        if c.content:
            saved += full
            losing = max(losing, full + (out if c.product else 0))
        peak = max(peak, saved + losing)
        # Slopes of the output and of the input; an interior's or a mask's own is made beside the former, which the
        # deepest layer does not have.
        slopes = out + (2 * into if work.replicate else into) + extra
        style = 2 * part if c.style and (cropped or work.masked) else 0
        content = 2 * full if c.content else 0
        deepest = c is work.convolutions[-1]
        backwards += [saved + slopes, saved + max(out + style, content if deepest else out + content)]
    return max(peak, *backwards)


def extraction_bytes(work: Workload, height: int, width: int) -> int:
    """Peak of ONNX Runtime's forward pass over a picture or a crop; measured to be this much above its tensors."""
    pixels = height * width * work.batch
    kept = peak = 0
    for c, _ in _in_order(work.convolutions):
        positions = pixels // c.stride**2
        peak = max(peak, kept + 4 * positions * (c.inputs + c.outputs * (2 if c.head else 1)))
        if c.style or c.content:
            kept += 4 * positions * c.outputs
    return int(1.45 * peak)


def judging_bytes(work: Workload, height: int, width: int) -> int:
    """Peak of a forward pass in float32 that keeps nothing, over a picture or a crop of one."""
    work = replace(work, itemsize=4)
    peak = 0
    for c, _ in _in_order(work.convolutions):
        rows, columns = height // c.stride, width // c.stride
        positions = rows * columns * work.batch
        into, out = 4 * c.inputs * positions, 4 * c.outputs * positions
        extra = into + _winograd_bytes(c, rows, columns, work.batch) if work.transforms(c) else 0
        # A difference and its square, of what a head made.
        beside = out * (2 + c.product if c.content else int(c.style and work.masked))
        peak = max(peak, into + out + extra, out + beside)
    return peak


def _winograd_bytes(c: Convolution, rows: int, columns: int, batch: int) -> int:
    """What a convolution by way of transformed tiles works in."""
    across = -(-columns // 4)
    a_row = 4 * 36 * across * max(c.inputs, c.outputs)
    strip = min(max(a_row, WINOGRAD_STRIP), a_row * -(-rows // 4))
    # The tiles, transformed, multiplied, and transformed back; and the margins of the whole.
    margins = 4 * (c.inputs + c.outputs) * batch * 4 * (rows + columns + 4)
    return int(3.5 * strip) + margins


def canvas_bytes(work: Workload, height: int, width: int, *, stepping: bool = False) -> int:
    """The canvas and all that is as large as it: gradient, optimizer, best and averaged iterates.

    Args:
        stepping: the peak of the optimizer's step rather than what is held while the gradient is computed.
    """
    if work.pairs is None:
        tensors = 7 if stepping else 6
    else:
        together = min(pairs_at_once(3 * height * width), max(work.pairs, 1))
        # The oldest that counts may be the last of its piece, and the latest the first.
        pieces = -(-(work.pairs - 1) // together) + 1 if work.pairs else 0
        tensors = (10 if stepping else 5) + 2 * together * pieces
    tensors += 2 if work.averaging else 0
    return 12 * height * width * work.batch * tensors


def content_bytes(work: Workload, height: int, width: int) -> int:
    """The content targets, float32."""
    return sum(
        4 * c.outputs * (height // c.stride) * (width // c.stride) * work.batch for c in work.convolutions if c.content
    )


def step_flops(work: Workload, tiles: Sequence[Tile]) -> float:
    """Operations of a gradient evaluation's convolutions (a multiplication and an addition are two)."""
    # Forwards, and backwards to the canvas but not to the parameters; in tiles, forwards once more for the statistics.
    has_style = any(c.style for c in work.convolutions)
    passes = 3 if len(tiles) > 1 and has_style else 2
    once = sum(forward_flops(work.convolutions, t.rows.seen_pixels, t.columns.seen_pixels) for t in tiles)
    return passes * work.batch * once


def forward_flops(convolutions: Sequence[Convolution], height: int, width: int) -> float:
    """Operations of the convolutions on one picture."""
    sizes = [(c.stride, (9 * c.inputs + (c.outputs if c.product else 0)) * c.outputs) for c in convolutions]
    return float(sum(2 * size * (height // stride) * (width // stride) for stride, size in sizes))


def _in_order(convolutions: Sequence[Convolution]) -> Iterator[tuple[Convolution, bool]]:
    """Each convolution, and whether pooling stands before it."""
    stride = convolutions[0].stride if convolutions else 1
    for c in convolutions:
        yield c, c.stride != stride
        stride = c.stride
