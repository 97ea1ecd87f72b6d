"""Whose weights these are, and so how they want their input: told by the first layer.

The published networks are known by what no conversion of their files changes. Of Caffe's it is the singular values of
the 64 filters as a matrix, which neither another order of the channels nor a common factor changes; of torchvision's it
is a part of the first filter, up to a factor. The factor then says for which range they are. Weights that are neither's
are judged by how strongly the first layer answers to a picture, which in a network that was trained is about 1 to 100.
"""

from dataclasses import dataclass

import numpy as np

from gramophone_server.models.manifest import Preprocessing

from .catalogue import CAFFE, CATALOGUE, TORCHVISION
from .random_vgg import dead_leaves

# Caffe's: the largest singular values over the norm, likewise the norms of blue, green and red, and the norm.
_CAFFE_SPECTRUM = (0.58234, 0.56162, 0.38985, 0.30088, 0.27018, 0.12874)
_CAFFE_CHANNELS = (0.51132, 0.63803, 0.57574)
_CAFFE_NORM = 7.9559
# Torchvision's: the first filter's weights of red, as many a notebook prints them.
_TORCHVISION_RED = (
    -5.3474e-02, -4.9257e-02, -6.7942e-02, 1.5314e-02, 4.5068e-02, 2.1444e-03, 3.6226e-02, 1.9999e-02, 1.9864e-02,
)  # fmt: skip
# Rounding to bfloat16 changes these by less, and so does a deviation of the input folded in.
_CLOSE = 1e-2
# An input that is off by more than this is for another range: the two known ones are 50 apart.
_OFF = 4.0
# Answers of a first layer (deviation over positions) that no network of its range gives.
_WEAKEST, _STRONGEST = 0.05, 1500.0

_WORDS = {"vgg19": "torchvision's VGG-19", "vgg19-caffe": "the paper's VGG-19, trained in Caffe,"}
_OPTIONS = {"vgg19": "torchvision", "vgg19-caffe": "caffe"}


@dataclass(frozen=True)
class Origin:
    """A published network whose weights these are.

    Attributes:
        name: its name in the catalogue.
        order: of the channels that the weights are for.
        factor: of the weights, relative to the published ones.
    """

    name: str
    order: str
    factor: float

    def fits(self, preprocessing: Preprocessing) -> bool:
        """Whether the weights want their input so."""
        native = CATALOGUE[self.name].preprocessing
        off = self.factor * _gain(preprocessing) / _gain(native)
        return preprocessing.order == self.order and 1 / _OFF < off < _OFF

    @property
    def is_published(self) -> bool:
        """Whether they are as they were published, in the same order and scale."""
        return self.fits(CATALOGUE[self.name].preprocessing)


def origin_of(kernel: np.ndarray) -> Origin | None:
    """The published network that has this kernel of conv1_1, (64, 3, 3, 3); None if none is known to."""
    kernel = kernel.astype(np.float64)
    norm = float(np.linalg.norm(kernel))
    if kernel.shape != (64, 3, 3, 3) or not norm:
        return None
    spectrum = np.linalg.svd(kernel.reshape(64, 27), compute_uv=False)[: len(_CAFFE_SPECTRUM)] / norm
    if np.abs(spectrum - _CAFFE_SPECTRUM).max() < _CLOSE:
        channels = np.sqrt(np.square(kernel).sum((0, 2, 3))) / norm
        backwards = np.abs(channels - _CAFFE_CHANNELS[::-1]).max() < np.abs(channels - _CAFFE_CHANNELS).max()
        return Origin("vgg19-caffe", "RGB" if backwards else "BGR", norm / _CAFFE_NORM)
    red = np.array(_TORCHVISION_RED)
    for order, channel in (("RGB", 0), ("BGR", 2)):
        found = kernel[0, channel].flatten()
        factor = float(found @ red / (red @ red))
        if factor > 0 and np.abs(found - factor * red).max() < _CLOSE * factor * np.abs(red).max():
            return Origin("vgg19", order, factor)
    return None


def objection(kernel: np.ndarray, preprocessing: Preprocessing, name: str) -> str | None:
    """Why no model of this name can have this kernel of conv1_1 and want its input so; None if one can.

    Returns:
        What the weights are and what to write, to be said of them.
    """
    origin = origin_of(kernel)
    if origin is None:
        return None
    named = name == origin.name or name not in CATALOGUE
    return None if named and origin.fits(preprocessing) else _of_another(origin, name)


def doubt(kernel: np.ndarray, preprocessing: Preprocessing, name: str) -> str | None:
    """Why unknown weights with this kernel of conv1_1 seem to want their input otherwise; as `objection`."""
    if origin_of(kernel) is not None:
        return None
    answer = _answer(kernel, preprocessing)
    if answer < _WEAKEST and _gain(preprocessing) < _gain(CAFFE):
        reason = f"the first layer answers to a picture with {answer:.1g} where that is of 0 to 1"
        return f"look like Caffe's, for an input of 0 to 255, as {reason}; {_instead('vgg19-caffe', name)}"
    if answer > _STRONGEST and _gain(preprocessing) > _gain(TORCHVISION):
        reason = f"the first layer answers to a picture with {answer:.0f} where that is of 0 to 255"
        return f"look like torchvision's, for an input of 0 to 1, as {reason}; {_instead('vgg19', name)}"
    return None


def _of_another(origin: Origin, name: str) -> str:
    words = f"are those of {_WORDS[origin.name]}"
    if origin.is_published:
        native = CATALOGUE[origin.name].preprocessing
        return f"{words} which want {native.order} of 0 to {native.range:g}; {_instead(origin.name, name)}"
    others = [known for known in _OPTIONS if origin.fits(CATALOGUE[known].preprocessing)]
    if others:
        return (
            f"{words} converted to an input as {_OPTIONS[others[0]]}'s; give them a name of your own, and say "
            f"--preprocessing {_OPTIONS[others[0]]}"
        )
    if origin.order != CATALOGUE[origin.name].preprocessing.order:
        return (
            f"{words} with the channels of their first layer in the order {origin.order}; turn them round, as by "
            f"weight.flip(1), and use --name {origin.name}"
        )
    return f"{words} with a first layer that is {origin.factor:.3g} times theirs; use the published ones"


def _instead(known: str, name: str) -> str:
    own = f"say --preprocessing {_OPTIONS[known]}"
    if name not in _OPTIONS:
        return own
    return f"use --name {known}, or for weights of your own another name and {own}"


def _gain(preprocessing: Preprocessing) -> float:
    """How much a picture of 0 to 1 is stretched."""
    _, scale, _ = preprocessing.affine
    return float(np.mean(scale))


def _answer(kernel: np.ndarray, preprocessing: Preprocessing) -> float:
    """The deviation over positions of the first layer's answer to a drawn picture, before ReLU."""
    indices, scale, _ = preprocessing.affine
    picture = dead_leaves(np.random.default_rng(0), 64).astype(np.float64) / 255
    x = picture[:, :, list(indices)] * np.array(scale)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(0, 1))
    answers = np.einsum("hwcij,ocij->ohw", windows, kernel.astype(np.float64))
    return float(np.sqrt(answers.var(axis=(1, 2)).mean()))


def catalogued(name: str, kernel: np.ndarray) -> bool:
    """Whether a kernel of conv1_1 is that of the published network of this name."""
    origin = origin_of(kernel)
    return origin is not None and origin.name == name
