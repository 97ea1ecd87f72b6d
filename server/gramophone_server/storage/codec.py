"""Specs, progress, results and failures as JSON, in which the name of a blob stands for pixels.

A spec is stored with its version, and one of an earlier version is upgraded step by step when it is read: a change of
what a JobSpec looks like in JSON comes with a function in `UPGRADES`. Progress, results and failures have no version:
their new fields have defaults, and fields that are not known are passed over.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, get_args

from cattrs import Converter

from ..messages.events import Failure, FailureCode, LossTerm, Progress, Result
from ..messages.spec import JobSpec, LevelSpec, Mask, Picture

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Makes the JSON values of a spec of one version those of the next; may change what it is given."""

_T = TypeVar("_T")
# Of a duration and of a count in the contract: seconds of 10,000 years, and what 32 bits hold.
_LONGEST, _MOST = 315_576_000_000, 2**31 - 1


# Options that a spec of version 2 has beside its other fields.
_OPTIONS_OF_2 = (
    "size", "fit", "iterations", "optimizer", "learning_rate", "init", "seed", "precision", "pooling", "tv_weight",
    "report_every", "preview", "time_limit", "model", "padding", "init_noise", "averaging", "plateau", "color",
    "loss_scale", "lbfgs_history", "result", "tile_size",
)  # fmt: skip


class UnreadableError(Exception):
    """What is stored is not what this version writes; the message says where."""


class LaterVersionError(UnreadableError):
    """A later version of this program has stored it."""


def _name_pacing(values: dict[str, Any]) -> dict[str, Any]:
    """1 → 2: `paced` is always there; the earliest specs lack it, or have a number of seconds in its place."""
    pause = values.pop("report_pause", 0.0)
    return {"paced": pause > 0, **values}


def _nest_options(values: dict[str, Any]) -> dict[str, Any]:
    """2 → 3: what the contract has in SynthesisOptions is in one value; 0 stands for what suits the job."""
    options = {name: values.pop(name) for name in _OPTIONS_OF_2 if name in values}
    if values.pop("paced", False):
        options["report_every"] = 0
    if "tile_size" in options:
        options["tile_size"] = options["tile_size"] or 0
    return {**values, "options": options}


UPGRADES: tuple[Upgrade, ...] = (_name_pacing, _nest_options)
"""Number n makes a spec of version n + 1 one of version n + 2. A spec that does not say its version is of version 1."""

SPEC_VERSION = 1 + len(UPGRADES)
"""The version of the specs that are written."""


def encode_spec(spec: JobSpec) -> str:
    """A spec as JSON, with its version, and with the names of the blobs that hold its pixels."""
    return json.dumps({"version": SPEC_VERSION, **_converter.unstructure(spec)})


def decode_spec(text: str) -> JobSpec:
    """The spec of its JSON, of any version so far; with the names of its blobs but without its pixels.

    A field that is missing has its default, if it has one. One that is not known may mean another picture.

    Raises:
        LaterVersionError: it is of a later version.
        UnreadableError: it lacks a field, has one more, has a value that no job can have, or is not JSON.
    """
    spec = _decode(_strict, text, JobSpec, _upgraded)
    _check_sizes(spec, *spec.levels, *spec.pictures())
    _check_counts(spec.options.iterations)
    if spec.options.report_every < 0 or not spec.levels:
        raise UnreadableError("it has less than no reports, or no levels")
    return spec


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
    _check_terms(progress.terms)
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
    _check_terms(result.terms)
    return replace(result, image=replace(result.image, data=data).hashed())


def encode_failure(failure: Failure) -> str:
    """A failure as JSON."""
    return json.dumps(_converter.unstructure(failure))


def decode_failure(text: str) -> Failure:
    """The failure of its JSON; one with a code that is not known is INTERNAL, with the same message.

    Raises:
        UnreadableError: it cannot be read.
    """

    def known(values: dict[str, Any]) -> dict[str, Any]:
        return values if values["code"] in get_args(FailureCode) else values | {"code": "INTERNAL"}

    return _decode(_converter, text, Failure, known)


def _decode(converter: Converter, text: Any, kind: type[_T], change: Upgrade = lambda values: values) -> _T:
    """What JSON says, after `change` of its values."""
    if not isinstance(text, str):
        raise UnreadableError("it is no text")
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise UnreadableError("it is no object")
        if "\\ud" in text.lower():
            # Half of a pair of surrogates stands for no character, and cannot be sent.
            json.dumps(values, ensure_ascii=False).encode()
        return converter.structure(change(values), kind)
    except UnreadableError:
        raise
    except KeyError as error:
        raise UnreadableError(f"it has no {error.args[0]!r}") from error
    except RecursionError as error:
        raise UnreadableError("it is nested too deep") from error
    except Exception as error:  # The errors of the converter and of JSON have no base in common.
        raise UnreadableError(str(error) or type(error).__name__) from error


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """The values of a spec in their latest form.

    Raises:
        UnreadableError: their version is none, or a later one.
    """
    version = values.pop("version", 1)
    if type(version) is not int or version < 1:
        raise UnreadableError(f"its version is {version!r}, which is not a version of a spec")
    if version > SPEC_VERSION:
        raise LaterVersionError(f"its spec is of version {version}, and this server reads versions 1 to {SPEC_VERSION}")
    for upgrade in UPGRADES[version - 1 :]:
        values = upgrade(values)
    return values


def _check_sizes(*parts: JobSpec | LevelSpec | Picture | Mask) -> None:
    for part in parts:
        if not (0 < part.width <= _MOST and 0 < part.height <= _MOST):
            raise UnreadableError(f"{part.width} × {part.height} is no size")


def _check_terms(terms: tuple[LossTerm, ...]) -> None:
    _check_counts(*(term.region for term in terms if term.region is not None))


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
