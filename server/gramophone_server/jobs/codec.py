"""Specs, progress, results and failures as JSON, in which the name of a blob stands for pixels."""

import json
from dataclasses import replace
from functools import partial
from typing import Any

from cattrs import Converter

from .events import Failure, Progress, Result
from .spec import JobSpec, Mask, Picture


def encode_spec(spec: JobSpec) -> str:
    """A spec as JSON, with the names of the blobs that hold its pixels."""
    return json.dumps(_converter.unstructure(spec))


def decode_spec(text: str) -> JobSpec:
    """The spec of its JSON, with the names of its blobs but without its pixels."""
    return _converter.structure(json.loads(text), JobSpec)


def encode_progress(progress: Progress) -> str:
    """Progress as JSON, without its preview."""
    return json.dumps(_converter.unstructure(replace(progress, preview=None)))


def decode_progress(text: str) -> Progress:
    """The progress of its JSON."""
    return _converter.structure(json.loads(text), Progress)


def encode_result(result: Result) -> str:
    """A result as JSON, without the bytes of its picture."""
    return json.dumps(_converter.unstructure(replace(result, image=replace(result.image, data=b""))))


def decode_result(text: str, data: bytes) -> Result:
    """The result of its JSON, with the bytes of its picture."""
    result = _converter.structure(json.loads(text), Result)
    return replace(result, image=replace(result.image, data=data))


def encode_failure(failure: Failure) -> str:
    """A failure as JSON."""
    return json.dumps(_converter.unstructure(failure))


def decode_failure(text: str) -> Failure:
    """The failure of its JSON."""
    return _converter.structure(json.loads(text), Failure)


def _make_converter() -> Converter:
    """A converter that writes the name of a blob in place of pixels."""
    converter = Converter(detailed_validation=False)
    for kind, pixels in ((Picture, "rgb"), (Mask, "levels")):
        converter.register_unstructure_hook(kind, partial(_unstructured, pixels))
        converter.register_structure_hook(kind, partial(_structured, pixels))
    # Of a result and a preview the bytes are kept elsewhere.
    converter.register_unstructure_hook(bytes, lambda data: "")
    converter.register_structure_hook(bytes, lambda text, _: b"")
    return converter


def _unstructured(pixels: str, part: Picture | Mask) -> dict[str, Any]:
    return {"width": part.width, "height": part.height, pixels: part.blob, "sha256": part.sha256}


def _structured(pixels: str, values: dict[str, Any], kind: type[Picture | Mask]) -> Picture | Mask:
    return kind(int(values["width"]), int(values["height"]), b"", str(values["sha256"]), str(values[pixels]))


_converter = _make_converter()
