"""The targets of a job's losses, extracted from its pictures by ONNX Runtime and cached."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np

from ..engine.losses import Loss
from ..engine.tiling import FLAT, Wraps
from ..messages.spec import Mask, Picture
from ..models.features import FeatureExtractor
from ..models.layers import PaddingName, PoolingName
from ..models.model import Model
from .pictures import pixels, region

_Key = tuple[str | int | bool | None, ...]


class Targets:
    """Extracts targets, with a least-recently-used cache.

    Args:
        device: device of ONNX Runtime, such as "cpu" or "cuda:0".
        threads: number of CPU threads.
        capacity: maximum bytes of the cache.
    """

    def __init__(self, device: str, threads: int, capacity: int = 256 << 20) -> None:
        self._device = device
        self._threads = threads
        self._capacity = capacity
        self._cache: OrderedDict[_Key, np.ndarray] = OrderedDict()
        self._extractors: dict[str, FeatureExtractor] = {}
        # Jobs and ExtractFeatures requests use different threads.
        self._lock = threading.Lock()

    def of(
        self,
        loss: Loss,
        model: Model,
        picture: Picture,
        layers: Sequence[str],
        pooling: PoolingName,
        padding: PaddingName,
        mask: Mask | None = None,
        wraps: Wraps = FLAT,
    ) -> dict[str, np.ndarray]:
        """Returns a loss's target, float32, of each layer: for "content" the feature map (C, H, W).

        Args:
            mask: the region of the picture to take the target from; None for all of it.
            wraps: the axes along which opposite edges of the picture are neighbors.

        Raises:
            ValueError: the picture is too small for the deepest layer.
        """

        def extract(missing: list[str]) -> dict[str, np.ndarray]:
            inside = region(mask) if mask else None
            return self._extractor(model).targets(
                loss, pixels(picture), missing, mask=inside, pooling=pooling, padding=padding, wraps=wraps
            )

        key = (loss.name, mask.key if mask else None, *_key(model, picture, pooling, padding), *wraps)
        return self._cached(key, layers, extract)

    def _cached(
        self, key: _Key, layers: Sequence[str], extract: Callable[[list[str]], dict[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        with self._lock:
            missing = [layer for layer in layers if (*key, layer) not in self._cache]
            if missing:
                self._cache.update({(*key, layer): found for layer, found in extract(missing).items()})
            found = {layer: self._cache[*key, layer] for layer in layers}
            for layer in layers:
                self._cache.move_to_end((*key, layer))
            self._shrink()
            return found

    def _extractor(self, model: Model) -> FeatureExtractor:
        sha256 = model.manifest.sha256
        if sha256 not in self._extractors:
            self._extractors[sha256] = FeatureExtractor(model, device=self._device, threads=self._threads)
        extractor = self._extractors[sha256]
        # An earlier instance of the same model can be closed: use the current one.
        extractor.model = model
        return extractor

    def _shrink(self) -> None:
        while len(self._cache) > 1 and sum(a.nbytes for a in self._cache.values()) > self._capacity:
            self._cache.popitem(last=False)


def _key(model: Model, picture: Picture, pooling: PoolingName, padding: PaddingName) -> _Key:
    return model.manifest.sha256, picture.sha256, picture.width, picture.height, pooling, padding
