"""What an optimisation costs, in bytes and operations, before anything is allocated. Arithmetic only: no torch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .tiling import Tile


@dataclass(frozen=True)
class Convolution:
    """A 3x3 convolution of the network: its channels, its stride in pixels of the canvas, and what is taken there.

    With a `head`, what is taken is the product of the activation and a matrix, position by position.
    """

    inputs: int
    outputs: int
    stride: int
    style: bool = False
    content: bool = False
    head: bool = False


@dataclass(frozen=True)
class Workload:
    """A batch of canvases and how they are optimised.

    Attributes:
        convolutions: up to the deepest layer needed.
        batch: number of canvases N.
        itemsize: bytes of a number in the network's precision.
        max_pooling: whether it pools by maximum, which remembers where each came from.
        replicate: whether feature maps are padded with their edge, which copies them.
        masked: whether styles have regions.
        variation: whether there is total variation.
        pairs: curvature pairs that L-BFGS will hold; None for Adam.
        averaging: whether the iterates are averaged.
        winograd: whether convolutions that it pays for go by way of transformed kernels.
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

    @property
    def network_bytes(self) -> int:
        """The network's parameters as it computes with them; a transformed kernel has 36 numbers for 9."""
        transformed = [c for c in self.convolutions if self.winograd and winograd_pays(c.inputs, c.outputs)]
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


def winograd_pays(inputs: int, outputs: int) -> bool:
    """Whether so many channels are enough for Winograd's products to save more than the transforms cost (measured)."""
    return min(inputs, outputs) >= 128


def parameter_bytes(convolutions: Sequence[Convolution]) -> int:
    """Kernels, biases and heads in float32."""
    return sum(4 * (9 * c.inputs + 1 + (c.outputs if c.head else 0)) * c.outputs for c in convolutions)


def gradient_bytes(work: Workload, height: int, width: int, *, cropped: bool = False) -> int:
    """Peak of a forward and backward pass over a picture, or a crop of one, beyond the canvas and the parameters."""
    pixels, size = height * width * work.batch, work.itemsize
    peak = saved = pixels * 3 * (4 + size)
    largest = 0
    for c, pooled in _in_order(work.convolutions):
        positions = (height // c.stride) * (width // c.stride) * work.batch
        if pooled:
            # Pooling by maximum keeps an index of 8 bytes.
            saved += c.inputs * positions * (size + (8 if work.max_pooling else 0))
        if work.replicate:
            saved += c.inputs * positions * size
        saved += c.outputs * positions * size * (2 if c.head else 1)
        if cropped and c.style:
            # The interior, cut out.
            saved += c.outputs * positions * size
        # Gram matrices and squared differences are computed in float32; of these the differences are kept.
        full = c.outputs * positions * 4
        copies = 2 if work.masked else 1 if size < 4 else 0
        peak = max(peak, saved + (full * copies if c.style else 0))
        if c.content:
            saved += full
            peak = max(peak, saved + full)
        largest = max(largest, full if c.content else c.outputs * positions * size)
    if work.variation:
        saved += 6 * pixels * 12
    # Backwards there are the gradients after and before an activation; what was saved is measured to stay to the end.
    return max(peak, saved + 2 * largest)


def extraction_bytes(work: Workload, height: int, width: int) -> int:
    """Peak of ONNX Runtime's forward pass over a picture or a crop; measured to be this much above its tensors."""
    return int(1.45 * judging_bytes(work, height, width))


def judging_bytes(work: Workload, height: int, width: int) -> int:
    """Peak of a forward pass in float32 that keeps only the layers it is asked for."""
    pixels = height * width * work.batch
    kept = peak = 0
    for c, _ in _in_order(work.convolutions):
        positions = pixels // c.stride**2
        peak = max(peak, kept + 4 * positions * (c.inputs + c.outputs * (2 if c.head else 1)))
        if c.style or c.content:
            kept += 4 * positions * c.outputs
    return peak


def canvas_bytes(work: Workload, height: int, width: int, *, stepping: bool = False) -> int:
    """The canvas and all that is as large as it: gradient, optimiser, best and averaged iterates.

    Args:
        stepping: the peak of the optimiser's step rather than what is held while the gradient is computed.
    """
    tensors = (10 if stepping else 5) + 2 * work.pairs if work.pairs is not None else 9 if stepping else 6
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
    return float(
        sum(
            2 * (9 * c.inputs + (c.outputs if c.head else 0)) * c.outputs * (height // c.stride) * (width // c.stride)
            for c in convolutions
        )
    )


def _in_order(convolutions: Sequence[Convolution]) -> Iterator[tuple[Convolution, bool]]:
    """Each convolution, and whether pooling stands before it."""
    stride = 1
    for c in convolutions:
        yield c, c.stride != stride
        stride = c.stride
