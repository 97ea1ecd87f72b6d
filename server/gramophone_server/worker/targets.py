"""The constants of a job: Gram matrices and feature maps of its pictures, by ONNX Runtime, cached by picture."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from ..jobs.spec import Picture, StylePicture
from ..models.features import FeatureExtractor, gram
from ..models.layers import PoolingName
from ..models.store import Model

_Key = tuple[str, str, int, int, PoolingName, str, bool]


def pixels(picture: Picture) -> np.ndarray:
    """A picture as uint8 RGB (H, W, 3)."""
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3)


class Targets:
    """Extracts targets and remembers the latest, up to `capacity` bytes."""

    def __init__(self, device: str, threads: int, capacity: int = 256 << 20) -> None:
        self._device = device
        self._threads = threads
        self._capacity = capacity
        self._cache: OrderedDict[_Key, np.ndarray] = OrderedDict()
        self._extractors: dict[str, FeatureExtractor] = {}
        # Jobs and ExtractFeatures come from different threads.
        self._lock = threading.Lock()

    def features(
        self, model: Model, picture: Picture, layers: Sequence[str], pooling: PoolingName, *, grams: bool
    ) -> dict[str, np.ndarray]:
        """For each layer the Gram matrix divided by M (C, C), or the feature map (C, H, W), float32.

        Raises:
            ValueError: the picture is too small for the deepest layer.
        """
        with self._lock:
            keys = {
                layer: (model.manifest.sha256, picture.sha256, picture.width, picture.height, pooling, layer, grams)
                for layer in layers
            }
            missing = [layer for layer in layers if keys[layer] not in self._cache]
            if missing:
                extracted = self._extractor(model).extract(pixels(picture), missing, pooling=pooling)
                for layer, features in extracted.items():
                    self._cache[keys[layer]] = gram(features) if grams else features
            found = {layer: self._cache[keys[layer]] for layer in layers}
            for key in keys.values():
                self._cache.move_to_end(key)
            self._shrink()
            return found

    def style(
        self, model: Model, styles: Sequence[StylePicture], layers: Sequence[str], pooling: PoolingName
    ) -> dict[str, np.ndarray]:
        """For each layer the Gram matrices of the pictures, mixed by their shares."""
        mixed: dict[str, np.ndarray] = {}
        for style in styles:
            for layer, matrix in self.features(model, style.picture, layers, pooling, grams=True).items():
                mixed[layer] = mixed.get(layer, 0) + np.float32(style.share) * matrix
        return mixed

    def _extractor(self, model: Model) -> FeatureExtractor:
        sha256 = model.manifest.sha256
        if sha256 not in self._extractors:
            self._extractors[sha256] = FeatureExtractor(model, device=self._device, threads=self._threads)
        return self._extractors[sha256]

    def _shrink(self) -> None:
        while len(self._cache) > 1 and sum(a.nbytes for a in self._cache.values()) > self._capacity:
            self._cache.popitem(last=False)
