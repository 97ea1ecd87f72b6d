"""Operations of a network while its file is read: batch normalization and ReLU still change them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gramophone_server.engine.architecture import INPUT, Architecture, Convolution, Operation, Pooling, Sum, Window
from gramophone_server.models.graph import Parameters
from gramophone_server.models.layers import PoolingName

from ..weights import WeightsError
from .layer_names import layer_names


@dataclass(eq=False)
class Draft:
    """An operation. It is a convolution if it has a kernel, else a pooling if it has a window, else a sum.

    Attributes:
        label: the node, for messages.
        outputs: number of channels.
        sources: the operations that it reads; None for the picture.
        names: names of the node and its tensors in the file, the best name for the layer first.
        window: the window of a convolution or pooling.
        kernel, bias: parameters of a convolution, float64.
        groups: groups of channels of a convolution.
        relu: whether ReLU follows.
        average: whether a pooling averages.
        counts_padding: whether averages include the zeros of the padding.
    """

    label: str
    outputs: int
    sources: "tuple[Draft | None, ...]"
    names: list[str] = field(default_factory=list)
    window: Window | None = None
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 1
    relu: bool = False
    average: bool = False
    counts_padding: bool = False

    @property
    def is_pooling(self) -> bool:
        """Whether it is a pooling."""
        return self.kernel is None and self.window is not None

    @property
    def is_rectified(self) -> bool:
        """Whether no value of its output is negative."""
        source = self.sources[0]
        return self.relu or (self.is_pooling and source is not None and source.is_rectified)

    def scale(self, factor: np.ndarray, offset: np.ndarray) -> None:
        """Multiplies the output of a convolution by a factor (C,), and adds an offset (C,)."""
        assert self.kernel is not None and self.bias is not None
        self.kernel = self.kernel * factor[:, None, None, None]
        self.bias = self.bias * factor + offset

    def averaged(self) -> "Draft":
        """Returns an average pooling as a convolution of each channel with equal weights."""
        assert self.window is not None
        side = self.window.side
        kernel = np.full((self.outputs, 1, side, side), 1 / side**2)
        return Draft(
            self.label,
            self.outputs,
            self.sources,
            self.names,
            self.window,
            kernel,
            np.zeros(self.outputs),
            self.outputs,
        )


def pointwise(source: Draft, label: str, factor: np.ndarray, offset: np.ndarray) -> Draft:
    """Returns `factor · x + offset` for each channel of an operation's output x, as a convolution of 1x1."""
    kernel = factor[:, None, None, None]
    return Draft(label, source.outputs, (source,), [], Window(1), kernel, offset, source.outputs)


def finished(drafts: Sequence[Draft]) -> tuple[Parameters, PoolingName, dict[Draft, str]]:
    """Returns the network of some operations, its own pooling, and the name of each convolution and sum.

    Requests choose between max and average pooling. If a network has both, its average poolings become convolutions.

    Raises:
        WeightsError: an average pooling cannot be computed as a convolution, or the operations do not fit each other.
    """
    averages = [draft for draft in drafts if draft.is_pooling and draft.average]
    mixed = len(averages) < sum(draft.is_pooling for draft in drafts)
    needed = [draft for draft in averages if mixed or _counts(draft)]
    fixed = {draft: draft.averaged() for draft in needed if _is_convolution(draft)}
    if left := [draft for draft in needed if draft not in fixed]:
        reason = "in a network that also has max pooling" if mixed else "and counts the zeros outside"
        raise WeightsError(
            f"{left[0].label} averages windows that are partly outside of the feature map, {reason}; export the "
            "network with ceil_mode=False in its average poolings, and without padding or with count_include_pad=True"
        )
    pooling: PoolingName = "average" if averages and not mixed else "max"
    names = dict(zip(drafts, _names(drafts), strict=True))
    operations = [_operation(fixed.get(draft, draft), names, names[draft]) for draft in drafts]
    weights = {
        names[draft]: (made.kernel.astype(np.float32), made.bias.astype(np.float32))
        for draft in drafts
        if (made := fixed.get(draft, draft)).kernel is not None and made.bias is not None
    }
    for name, parts in weights.items():
        if not all(np.isfinite(part).all() for part in parts):
            raise WeightsError(f"{name} has weights that are not finite numbers; the file is damaged")
    try:
        architecture = Architecture(tuple(operations))
        architecture.check_sums()
    except ValueError as error:
        raise WeightsError(str(error)) from error
    return Parameters(architecture, weights), pooling, {d: names[d] for d in drafts if not d.is_pooling}


def _counts(pooling: Draft) -> bool:
    """Returns whether a pooling averages zeros of its padding, which no pooling of the engine does."""
    assert pooling.window is not None
    return pooling.counts_padding and bool(pooling.window.before or pooling.window.after)


def _is_convolution(pooling: Draft) -> bool:
    """Returns whether an average pooling divides all windows by the same number."""
    assert pooling.window is not None
    padded = bool(pooling.window.before or pooling.window.after)
    return not pooling.window.ceil and (pooling.counts_padding or not padded)


def _names(drafts: Sequence[Draft]) -> list[str]:
    kinds = ["pool" if draft.is_pooling else "conv" if draft.kernel is not None else "sum" for draft in drafts]
    numbered = [f"{kind}{kinds[: place + 1].count(kind)}" for place, kind in enumerate(kinds)]
    # Layers choose their names before poolings.
    order = sorted(range(len(drafts)), key=lambda place: kinds[place] == "pool")
    names = layer_names([drafts[place].names for place in order], [numbered[place] for place in order])
    return [name for _, name in sorted(zip(order, names, strict=True))]


def _operation(draft: Draft, names: dict[Draft, str], name: str) -> Operation:
    sources = [INPUT if source is None else names[source] for source in draft.sources]
    if draft.kernel is not None:
        assert draft.window is not None
        inputs = draft.kernel.shape[1] * draft.groups
        return Convolution(name, sources[0], inputs, draft.outputs, draft.window, draft.groups, draft.relu)
    if draft.window is not None:
        return Pooling(name, sources[0], draft.outputs, draft.window)
    return Sum(name, (sources[0], sources[1]), draft.outputs, draft.relu)
