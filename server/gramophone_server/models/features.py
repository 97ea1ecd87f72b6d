"""Extracts feature maps, and the targets of losses, from pictures with ONNX Runtime."""

import logging
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf
from PIL import Image

from ..engine.architecture import INPUT
from ..engine.device import release_free_memory
from ..engine.losses import Loss
from ..engine.tiling import FLAT, Tile, Wraps, cut
from .graph import truncate
from .layers import PaddingName, PoolingName
from .loading import load_architecture, load_graph
from .model import Model, ModelError

log = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
TILE = 512
"""Side of a tile in pixels. Larger pictures run in tiles, which bounds the memory."""


class FeatureExtractor:
    """Runs pictures through a model up to the deepest requested layer.

    Args:
        device: "cpu", or "cuda:0" for the CUDA provider if ONNX Runtime has it.
        threads: CPU threads; 0 for ONNX Runtime's default.

    Attributes:
        model: the model; may be replaced by one with the same hash.
    """

    def __init__(self, model: Model, *, device: str = "cpu", threads: int = 0) -> None:
        self.model = model
        self._device = device
        self._threads = threads
        self._session = lru_cache(maxsize=2)(self._open)

    def extract(
        self,
        picture: np.ndarray,
        layers: Sequence[str],
        *,
        pooling: PoolingName = "max",
        padding: PaddingName = "zeros",
        wraps: Wraps = FLAT,
    ) -> dict[str, np.ndarray]:
        """Returns feature maps (C_l, H_l, W_l), float32, of a uint8 RGB picture (H, W, 3).

        Args:
            padding: padding of the picture and its feature maps along axes that do not wrap.
            wraps: the axes along which opposite edges of the picture are neighbors.

        Raises:
            ValueError: the picture is too small for the deepest layer.
            ModelError: the model's file does not match its manifest.
        """
        architecture = load_architecture(self.model)
        height, width, _ = picture.shape
        maps: dict[str, np.ndarray] = {}
        for tile, layer, part in self._tile_features(picture, layers, pooling, padding, wraps):
            if layer not in maps:
                size = architecture.size(layer, height, width, wraps)
                maps[layer] = np.empty((len(part), *size), np.float32)
            maps[layer][:, *tile.positions(architecture.stride(layer))] = part
            del part
        return maps

    def targets(
        self,
        loss: Loss,
        picture: np.ndarray,
        layers: Sequence[str],
        *,
        mask: np.ndarray | None = None,
        pooling: PoolingName = "max",
        padding: PaddingName = "zeros",
        wraps: Wraps = FLAT,
    ) -> dict[str, np.ndarray]:
        """Returns a loss's target, float32, of each layer of a uint8 RGB picture (H, W, 3).

        Args:
            layers: names; only "" for a loss on the picture itself.
            mask: (H, W) of 0 to 1, the weights of positions; see `shares`.
            padding, wraps: see `extract`.

        Raises:
            ValueError: the picture is too small for the deepest layer.
            ModelError: the model's file does not match its manifest.
        """
        if loss.on_canvas:
            share_of_all = 1 / picture[..., 0].size if mask is None else shares(mask, *picture.shape[:2])
            pixels = picture.transpose(2, 0, 1).astype(np.float32) / 255
            return {layer: loss.target(pixels, share_of_all) for layer in layers}
        architecture = load_architecture(self.model)
        height, width, _ = picture.shape
        sizes = {layer: architecture.size(layer, height, width, wraps) for layer in layers}
        weights = {} if mask is None else {size: shares(mask, *size) for size in map(sizes.__getitem__, layers)}

        def share(layer: str) -> np.ndarray | float:
            rows, columns = sizes[layer]
            return weights[rows, columns] if weights else 1 / (rows * columns)

        if loss.tiling != "statistic":
            maps = self.extract(picture, layers, pooling=pooling, padding=padding, wraps=wraps)
            return {layer: loss.target(maps.pop(layer), share(layer)) for layer in layers}
        targets: dict[str, np.ndarray] = {}
        for tile, layer, part in self._tile_features(picture, layers, pooling, padding, wraps):
            own = share(layer)
            own = own[tile.positions(architecture.stride(layer))] if isinstance(own, np.ndarray) else own
            targets[layer] = targets.get(layer, 0) + loss.target(part, own)
            del part
        return targets

    def _tile_features(
        self, picture: np.ndarray, layers: Sequence[str], pooling: PoolingName, padding: PaddingName, wraps: Wraps
    ) -> Iterator[tuple[Tile, str, np.ndarray]]:
        """Yields (tile, layer, features of the tile's interior). A picture of at most `TILE` a side is one tile.

        Frees the features of a tile before the next tile runs; callers must drop their references as well.
        """
        manifest, needed = self.model.manifest, load_architecture(self.model).upto(layers)
        height, width, _ = picture.shape
        min_side, deepest = max((manifest.layer(layer).min_side, layer) for layer in layers)
        if min(height, width) < min_side:
            raise ValueError(f"a picture of {width}x{height} is too small for {deepest}: it needs {min_side} a side")
        tiles = cut(
            height, width, TILE, stride=needed.grid, radius=needed.radius, least=needed.least, wraps=wraps,
            always_halo=True,
        )  # fmt: skip
        indices, scale, shift = manifest.preprocessing.affine
        factor, offset = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (scale, shift))
        for tile in tiles:
            rgb = _seen(picture, tile).transpose(2, 0, 1)[None].astype(np.float32) / 255
            found = self._run(layers, pooling, padding, rgb[:, indices] * factor + offset)
            for layer in reversed(layers):
                yield tile, layer, found.pop()[0][:, *tile.seen(needed.stride(layer))]
            release_free_memory()

    def _run(
        self, layers: Sequence[str], pooling: PoolingName, padding: PaddingName, inputs: np.ndarray
    ) -> list[np.ndarray]:
        """Returns the features of preprocessed pictures (N, 3, H, W), of each layer."""
        session = self.session(layers, pooling, padding)
        try:
            found: list[np.ndarray] = session.run(list(layers), {INPUT: inputs})
        except EPFail as error:
            if "alloc" in str(error) or not self._device.startswith("cuda"):
                raise
            log.warning(
                "ONNX Runtime fails on %s, so it extracts features on the CPU: %s", self._device, str(error)[:300]
            )
            self._device = "cpu"
            self._session.cache_clear()
            return self._run(layers, pooling, padding, inputs)
        return found

    def session(
        self, layers: Sequence[str], pooling: PoolingName = "max", padding: PaddingName = "zeros"
    ) -> onnxruntime.InferenceSession:
        """Returns a session for the part of the graph that `layers` need; caches two sessions."""
        return self._session(tuple(sorted(layers, key=self._order().index)), pooling, padding)

    def _order(self) -> list[str]:
        return [layer.name for layer in self.model.manifest.layers]

    def _open(
        self, layers: tuple[str, ...], pooling: PoolingName, padding: PaddingName
    ) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        # An arena would hold the memory of the largest picture for the life of the session.
        options.enable_cpu_mem_arena = False
        # Spinning threads would take the cores from torch, which needs them as soon as the targets are done.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = self._providers()
        graph = load_graph(self.model)
        try:
            graph = truncate(graph, layers, pooling=pooling, padding=padding)
            session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=providers)
        except (KeyError, ValueError, Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
            if "alloc" in str(error):
                raise  # Out of memory: not the fault of the file.
            reason = f"its file model.onnx cannot be run: {str(error).splitlines()[0][:200]}"
            raise ModelError(self.model.manifest.name, reason) from error
        if len(providers) > 1 and session.get_providers()[0] != _CUDA:
            log.warning("ONNX Runtime cannot use %s, so it extracts features on the CPU", self._device)
        # Without this, a failure at the first run would be hidden by a run on the CPU.
        session.disable_fallback()
        return session

    def _providers(self) -> list[str | tuple[str, dict[str, str]]]:
        """Returns the execution providers of ONNX Runtime, the preferred one first."""
        if not self._device.startswith("cuda"):
            return ["CPUExecutionProvider"]
        if _CUDA not in onnxruntime.get_available_providers():
            log.warning("ONNX Runtime has no CUDA provider, so it extracts features on the CPU")
            return ["CPUExecutionProvider"]
        settings = {
            "device_id": self._device.partition(":")[2] or "0",
            # TF32 would cost three decimal digits of the targets' precision.
            "use_tf32": "0",
            # A search of all algorithms would take seconds and gigabytes for each size of picture.
            "cudnn_conv_algo_search": "HEURISTIC",
            "arena_extend_strategy": "kSameAsRequested",
        }
        return [(_CUDA, settings), "CPUExecutionProvider"]


def _seen(picture: np.ndarray, tile: Tile) -> np.ndarray:
    """Returns the pixels of a picture (H, W, 3) that the network sees of a tile; a view unless the halo wraps."""
    rows = [picture[piece] for piece in tile.rows.pieces]
    seen = rows[0] if len(rows) == 1 else np.concatenate(rows)
    columns = [seen[:, piece] for piece in tile.columns.pieces]
    return columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1)


def coverage(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the mean of a mask (H, W) of 0 to 1 over the pixels of each of height x width positions, float32."""
    return np.array(Image.fromarray(mask.astype(np.float32)).resize((width, height), Image.Resampling.BOX))


def shares(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the weight of each of height x width positions in a guided Gram matrix, float32, for a mask of 0 to 1.

    The weights are the squares of the mask (H, W), scaled down, divided by their sum (Gatys et al. 2017, "Controlling
    Perceptual Factors in Neural Style Transfer", section 4.1); all 0 if nothing is left of the mask at this size.
    """
    squares = coverage(mask, height, width).astype(np.float64) ** 2
    total = squares.sum()
    share: np.ndarray = (squares / total if total else squares).astype(np.float32)
    return share
