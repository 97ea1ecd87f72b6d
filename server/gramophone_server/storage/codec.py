"""Specs, progress, results and failures as JSON, in which the name of a blob stands for pixels."""

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from cattrs import Converter

from ..messages.events import Failure, Progress, Result
from ..messages.spec import JobSpec, Mask, Picture

_T = TypeVar("_T")
# Of a duration and of a count in the contract: seconds of 10,000 years, and what 32 bits hold.
_LONGEST, _MOST = 315_576_000_000, 2**31 - 1


class UnreadableError(Exception):
    """What is stored is not what this version writes; the message says where."""


def encode_spec(spec: JobSpec) -> str:
    """A spec as JSON, with the names of the blobs that hold its pixels."""
    return json.dumps(_converter.unstructure(spec))


def decode_spec(text: str) -> JobSpec:
    """The spec of its JSON, with the names of its blobs but without its pixels.

    A field that is missing has its default, if it has one. One that is not known may mean another picture.

    Raises:
        UnreadableError: it lacks a field, has one more, or is not JSON.
    """
    return _decode(_strict, text, JobSpec)


def encode_progress(progress: Progress) -> str:
    """Progress as JSON, without its preview."""
    return json.dumps(_converter.unstructure(replace(progress, preview=None)))


def decode_progress(text: str) -> Progress:
    """The progress of its JSON.

    Raises:
        UnreadableError: it cannot be read.
    """
    progress = _decode(_converter, text, Progress)
    _check_counts(progress.iteration, progress.iterations)
    _check_times(progress.elapsed, progress.remaining)
    return progress


def encode_result(result: Result) -> str:
    """A result as JSON, without the bytes of its picture."""
    return json.dumps(_converter.unstructure(replace(result, image=replace(result.image, data=b""))))


def decode_result(text: str, data: bytes) -> Result:
    """The result of its JSON, with the bytes of its picture.

    Raises:
        UnreadableError: it cannot be read.
    """
    result = _decode(_converter, text, Result)
    _check_counts(result.iterations, result.image.width, result.image.height)
    _check_times(result.queued, result.prepare, result.optimize)
    return replace(result, image=replace(result.image, data=data).hashed())


def encode_failure(failure: Failure) -> str:
    """A failure as JSON."""
    return json.dumps(_converter.unstructure(failure))


def decode_failure(text: str) -> Failure:
    """The failure of its JSON.

    Raises:
        UnreadableError: it cannot be read.
    """
    return _decode(_converter, text, Failure)


def _decode(converter: Converter, text: Any, kind: type[_T]) -> _T:
    try:
        return converter.structure(json.loads(text), kind)
    except KeyError as error:
        raise UnreadableError(f"it has no {error.args[0]!r}") from error
    except RecursionError as error:
        raise UnreadableError("it is nested too deep") from error
    except Exception as error:  # The errors of the converter and of JSON have no base in common.
        raise UnreadableError(str(error) or type(error).__name__) from error


def _check_counts(*counts: int) -> None:
    for count in counts:
        if not 0 <= count <= _MOST:
            raise UnreadableError(f"{count} is no count")


def _check_times(*seconds: float) -> None:
    for value in seconds:
        if not (math.isfinite(value) and abs(value) <= _LONGEST):
            raise UnreadableError(f"{value} is no time")


def _make_converter(*, strict: bool) -> Converter:
    """A converter that writes the name of a blob in place of pixels.

    Args:
        strict: whether it refuses fields that it does not know.
    """
    converter = Converter(detailed_validation=False, forbid_extra_keys=strict)
    for kind, pixels in ((Picture, "rgb"), (Mask, "levels")):
        converter.register_unstructure_hook(kind, partial(_unstructured, pixels))
        converter.register_structure_hook(kind, partial(_structured, pixels))
    # Of a result and a preview the bytes are kept elsewhere.
    converter.register_unstructure_hook(bytes, lambda data: "")
    converter.register_structure_hook(bytes, lambda text, _: b"")
    return converter


def _unstructured(pixels: str, part: Picture | Mask) -> dict[str, Any]:
    values = {"width": part.width, "height": part.height, pixels: part.blob, "sha256": part.sha256}
    return {**values, "warning": part.warning} if part.warning else values


def _structured(pixels: str, values: dict[str, Any], kind: type[Picture | Mask]) -> Picture | Mask:
    size, warning = (int(values["width"]), int(values["height"])), str(values.get("warning", ""))
    return kind(*size, b"", str(values["sha256"]), str(values[pixels]), warning)


_converter = _make_converter(strict=False)
_strict = _make_converter(strict=True)
