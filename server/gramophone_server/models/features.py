"""Features of pictures, by ONNX Runtime."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import onnx
import onnxruntime

from .graph import INPUT, truncate
from .layers import PoolingName, position, stride
from .store import Model


class FeatureExtractor:
    """Runs pictures through a model, as far as the deepest layer asked for.

    Args:
        device: "cpu", or "cuda:0" for the CUDA provider where there is one.
        threads: CPU threads.
    """

    def __init__(self, model: Model, *, device: str = "cpu", threads: int = 0) -> None:
        self._model = model
        self._device = device
        self._threads = threads
        self._graph = lru_cache(maxsize=1)(lambda: onnx.load(model.path))
        self._session = lru_cache(maxsize=8)(self._open)

    def extract(
        self, picture: np.ndarray, layers: Sequence[str], *, pooling: PoolingName = "max"
    ) -> dict[str, np.ndarray]:
        """Feature maps (C_l, H_l, W_l), float32, of a uint8 RGB picture (H, W, 3).

        Raises:
            ValueError: the picture is too small for the deepest layer.
        """
        deepest = max(layers, key=position)
        if min(picture.shape[:2]) < stride(deepest):
            height, width, _ = picture.shape
            raise ValueError(
                f"a picture of {width}x{height} is too small for {deepest}: it needs {stride(deepest)} a side"
            )
        indices, scale, shift = self._model.manifest.preprocessing.affine
        rgb = picture.transpose(2, 0, 1)[None].astype(np.float32) / 255
        factor, offset = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (scale, shift))
        x = rgb[:, indices] * factor + offset
        found = self.session(layers, pooling).run(list(layers), {INPUT: x})
        return {layer: array[0] for layer, array in zip(layers, found, strict=True)}

    def session(self, layers: Sequence[str], pooling: PoolingName = "max") -> onnxruntime.InferenceSession:
        """A session of the part of the graph that `layers` need."""
        return self._session(tuple(sorted(layers, key=position)), pooling)

    def _open(self, layers: tuple[str, ...], pooling: PoolingName) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # Torch wants the cores as soon as the targets are there; threads that spin for more work would keep them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list[str | tuple[str, dict[str, str]]] = ["CPUExecutionProvider"]
        if self._device.startswith("cuda") and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            number = self._device.partition(":")[2] or "0"
            # TF32 would cost the targets three digits.
            providers.insert(0, ("CUDAExecutionProvider", {"device_id": number, "use_tf32": "0"}))
        graph = truncate(self._graph(), layers, pooling=pooling).SerializeToString()
        return onnxruntime.InferenceSession(graph, options, providers=providers)


def gram(features: np.ndarray) -> np.ndarray:
    """Equation 3 divided by M_l: VᵀV / M (C, C), float32, of a feature map (C, H, W)."""
    v = features.reshape(len(features), -1)
    matrix: np.ndarray = v @ v.T / np.float32(v.shape[1])
    return matrix
