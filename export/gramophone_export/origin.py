"""Recognizes published weights by their first layer, and checks that the preprocessing matches them.

The published networks are recognized by features that no conversion of their files changes. For Caffe's weights these
are the relative singular values of the 64 filters as a matrix, which are independent of the channel order and of a
common factor. For torchvision's weights it is a part of the first filter, up to a factor. The factor then tells the
range of the input. Unknown weights are checked by the strength of the first layer's response to a picture, which is
about 1 to 100 in a trained network.
"""

from dataclasses import dataclass

import numpy as np

from gramophone_server.models.manifest import Preprocessing

from .catalog import CAFFE, CATALOG, TORCHVISION
from .random_weights import dead_leaves

# Caffe's weights: the largest singular values divided by the norm, the norms of the blue, green and red channels
# divided by the norm, and the norm.
_CAFFE_SPECTRUM = (0.58234, 0.56162, 0.38985, 0.30088, 0.27018, 0.12874)
_CAFFE_CHANNELS = (0.51132, 0.63803, 0.57574)
_CAFFE_NORM = 7.9559
# torchvision's weights: the red channel of the first filter.
_TORCHVISION_RED = (
    -5.3474e-02, -4.9257e-02, -6.7942e-02, 1.5314e-02, 4.5068e-02, 2.1444e-03, 3.6226e-02, 1.9999e-02, 1.9864e-02,
)  # fmt: skip
# Relative tolerance of these numbers: rounding to bfloat16, and an input deviation folded into the weights, change them
# by less.
_TOLERANCE = 1e-2
# A factor beyond this means another input range: the two known ranges differ by a factor of 50.
_RANGE_FACTOR = 4.0
# Responses of a first layer (standard deviation over positions) outside of which the input range must be wrong.
_MIN_RESPONSE, _MAX_RESPONSE = 0.05, 1500.0

_WORDS = {"vgg19": "torchvision's VGG-19", "vgg19-caffe": "the paper's VGG-19, trained in Caffe,"}
_OPTIONS = {"vgg19": "torchvision", "vgg19-caffe": "caffe"}


@dataclass(frozen=True)
class Origin:
    """The published network that given weights come from.

    Attributes:
        name: name of the network in the catalog.
        order: order of the input channels that the weights expect, "RGB" or "BGR".
        factor: scale of the weights relative to the published ones.
    """

    name: str
    order: str
    factor: float

    def fits(self, preprocessing: Preprocessing) -> bool:
        """Returns whether the weights match the preprocessing."""
        native = CATALOG[self.name].preprocessing
        off = self.factor * _gain(preprocessing) / _gain(native)
        return preprocessing.order == self.order and 1 / _RANGE_FACTOR < off < _RANGE_FACTOR

    @property
    def is_published(self) -> bool:
        """Whether the weights have the published channel order and scale."""
        return self.fits(CATALOG[self.name].preprocessing)


def origin_of(kernel: np.ndarray) -> Origin | None:
    """Returns the published network that has this kernel of conv1_1, (64, 3, 3, 3); None if it is not known."""
    kernel = kernel.astype(np.float64)
    norm = float(np.linalg.norm(kernel))
    if kernel.shape != (64, 3, 3, 3) or not norm:
        return None
    spectrum = np.linalg.svd(kernel.reshape(64, 27), compute_uv=False)[: len(_CAFFE_SPECTRUM)] / norm
    if np.abs(spectrum - _CAFFE_SPECTRUM).max() < _TOLERANCE:
        channels = np.sqrt(np.square(kernel).sum((0, 2, 3))) / norm
        backwards = np.abs(channels - _CAFFE_CHANNELS[::-1]).max() < np.abs(channels - _CAFFE_CHANNELS).max()
        return Origin("vgg19-caffe", "RGB" if backwards else "BGR", norm / _CAFFE_NORM)
    red = np.array(_TORCHVISION_RED)
    for order, channel in (("RGB", 0), ("BGR", 2)):
        found = kernel[0, channel].flatten()
        factor = float(found @ red / (red @ red))
        if factor > 0 and np.abs(found - factor * red).max() < _TOLERANCE * factor * np.abs(red).max():
            return Origin("vgg19", order, factor)
    return None


def mismatch(kernel: np.ndarray, preprocessing: Preprocessing, name: str) -> str | None:
    """Returns why published weights do not match the preprocessing or the name; None if they match or are unknown.

    Args:
        kernel: kernel of the first convolution, (C, 3, k, k).
        preprocessing: preprocessing of the model.
        name: name of the model.

    Returns:
        A phrase that follows "the weights …": what they are, and which options to use.
    """
    origin = origin_of(kernel)
    if origin is None:
        return None
    named = name == origin.name or name not in CATALOG
    return None if named and origin.fits(preprocessing) else _mismatch_message(origin, name)


def likely_mismatch(kernel: np.ndarray, preprocessing: Preprocessing, name: str) -> str | None:
    """Returns why unknown weights seem to need another preprocessing; None if they do not. Arguments as `mismatch`."""
    if origin_of(kernel) is not None:
        return None
    response = _response(kernel, preprocessing)
    if response < _MIN_RESPONSE and _gain(preprocessing) < _gain(CAFFE):
        reason = f"the first layer's response to a picture of 0 to 1 is only {response:.1g}"
        return f"look like Caffe's, for an input of 0 to 255, because {reason}; {_advice('vgg19-caffe', name)}"
    if response > _MAX_RESPONSE and _gain(preprocessing) > _gain(TORCHVISION):
        reason = f"the first layer's response to a picture of 0 to 255 is {response:.0f}"
        return f"look like torchvision's, for an input of 0 to 1, because {reason}; {_advice('vgg19', name)}"
    return None


def _mismatch_message(origin: Origin, name: str) -> str:
    words = f"are those of {_WORDS[origin.name]}"
    if origin.is_published:
        native = CATALOG[origin.name].preprocessing
        return f"{words} which expects {native.order} of 0 to {native.range:g}; {_advice(origin.name, name)}"
    others = [known for known in _OPTIONS if origin.fits(CATALOG[known].preprocessing)]
    if others:
        return (
            f"{words} converted to {_OPTIONS[others[0]]}'s preprocessing; use a name of your own and "
            f"--preprocessing {_OPTIONS[others[0]]}"
        )
    if origin.order != CATALOG[origin.name].preprocessing.order:
        return (
            f"{words} with the channels of the first layer in the order {origin.order}; reverse them, for example with "
            f"weight.flip(1), and use --name {origin.name}"
        )
    return f"{words} but the first layer is {origin.factor:.3g} times the published one; use the published weights"


def _advice(known: str, name: str) -> str:
    own = f"--preprocessing {_OPTIONS[known]}"
    if name not in _OPTIONS:
        return f"use {own}"
    return f"use --name {known}, or, for weights of your own, another name and {own}"


def _gain(preprocessing: Preprocessing) -> float:
    """Returns the mean scale that the preprocessing applies to a picture of 0 to 1."""
    _, scale, _ = preprocessing.affine
    return float(np.mean(scale))


def _response(kernel: np.ndarray, preprocessing: Preprocessing) -> float:
    """Returns the standard deviation over positions of the first layer's response to a drawn picture, before ReLU."""
    indices, scale, _ = preprocessing.affine
    side = kernel.shape[2]
    picture = dead_leaves(np.random.default_rng(0), max(64, 2 * side)).astype(np.float64) / 255
    x = picture[:, :, list(indices)] * np.array(scale)
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(0, 1))
    responses = np.einsum("hwcij,ocij->ohw", windows, kernel.astype(np.float64))
    return float(np.sqrt(responses.var(axis=(1, 2)).mean()))


def has_published_weights(name: str, kernel: np.ndarray) -> bool:
    """Returns whether a kernel of conv1_1 is that of the published network with the given name."""
    origin = origin_of(kernel)
    return origin is not None and origin.name == name
