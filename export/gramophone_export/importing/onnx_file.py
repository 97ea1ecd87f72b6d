"""Opens ONNX files of other programs."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, external_data_helper, inliner

from gramophone_server.files import read_file
from gramophone_server.models.model import MAX_ONNX_BYTES

from ..weights import WeightsError

_MAX_NODES = 20_000


def open_onnx(path: Path) -> onnx.ModelProto:
    """Returns the model in an ONNX file, with the weights that it keeps in other files of its folder.

    Raises:
        WeightsError: the file is not ONNX, is too large, or its other files are missing.
    """
    try:
        model = onnx.load_model_from_string(read_file(path, MAX_ONNX_BYTES))
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except DecodeError:
        raise WeightsError(f"{path} is not an ONNX file, or it is cut off or damaged; export it again") from None
    if not model.graph.node:
        raise WeightsError(f"{path} holds no network: its graph has no nodes")
    _load_external(path, model)
    if model.functions:
        try:
            model = inliner.inline_local_functions(model)
        except Exception as error:  # The inliner raises errors of many kinds.
            raise WeightsError(f"{path} has functions that cannot be inlined; export it without functions") from error
    if not _has_text_names(model.graph):
        raise WeightsError(f"{path} has names that are not text; the file is damaged")
    if len(model.graph.node) > _MAX_NODES:
        raise WeightsError(f"{path} has {len(model.graph.node):,} nodes; {_MAX_NODES:,} is the most")
    return model


def _has_text_names(graph: onnx.GraphProto) -> bool:
    """Returns whether all names are valid UTF-8; the others are bytes."""
    names = [value.name for value in (*graph.input, *graph.output)] + [tensor.name for tensor in graph.initializer]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    return all(isinstance(name, str) for name in names)


def _load_external(path: Path, model: onnx.ModelProto) -> None:
    """Loads weights that are stored in other files; only in the folder of the model."""
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL]
    if not outside:
        return
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # A missing file, or a location outside of the folder.
        name = next((entry.value for entry in outside[0].external_data if entry.key == "location"), "another file")
        raise WeightsError(
            f"{path} keeps its weights in the file {name[:100]!r}, which cannot be read beside it: copy it there, or "
            "save the model as one file"
        ) from error
