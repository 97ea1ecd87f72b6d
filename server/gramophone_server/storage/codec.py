"""Encodes specs, progress, results and failures as JSON, with blob names in place of pixels.

A spec is stored with its version. A spec of an earlier version is upgraded step by step when it is read: a change of
the JSON form of JobSpec needs a function in `UPGRADES`. Progress, results and failures have no version: new fields have
defaults, and unknown fields are ignored.
"""

import json
import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any, TypeVar, get_args

from cattrs import Converter

from ..messages.events import Failure, FailureCode, LossTerm, Progress, Result
from ..messages.spec import JobSpec, LevelSpec, Mask, Picture

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
"""Converts the JSON values of a spec to those of the next version; may modify its argument."""

_T = TypeVar("_T")
# Limits of the contract: of a duration in seconds (10,000 years), and of a count (32 bits).
_MAX_SECONDS, _MAX_COUNT = 315_576_000_000, 2**31 - 1


# Options that a spec of version 2 has at its top level.
_OPTIONS_OF_2 = (
    "size", "fit", "iterations", "optimizer", "learning_rate", "init", "seed", "precision", "pooling", "tv_weight",
    "report_every", "preview", "time_limit", "model", "padding", "init_noise", "averaging", "plateau", "color",
    "loss_scale", "lbfgs_history", "result", "tile_size",
)  # fmt: skip


# Fields of pictures and masks that are stored only if they are set, and their types.
_OPTIONAL: dict[str, Callable[[Any], Any]] = {"warning": str, "alpha": bool, "color": str, "index": int}


class UnreadableError(Exception):
    """The stored JSON is invalid; the message says why."""


class LaterVersionError(UnreadableError):
    """A later version of gramophone stored the JSON."""


def _name_pacing(values: dict[str, Any]) -> dict[str, Any]:
    """Version 1 → 2: adds `paced`. The earliest specs lack it, or have `report_pause` in seconds in its place."""
    pause = values.pop("report_pause", 0.0)
    return {"paced": pause > 0, **values}


def _nest_options(values: dict[str, Any]) -> dict[str, Any]:
    """Version 2 → 3: moves the fields of SynthesisOptions into `options`; 0 means that the server chooses."""
    options = {name: values.pop(name) for name in _OPTIONS_OF_2 if name in values}
    if values.pop("paced", False):
        options["report_every"] = 0
    if "tile_size" in options:
        options["tile_size"] = options["tile_size"] or 0
    return {**values, "options": options}


def _name_losses(values: dict[str, Any]) -> dict[str, Any]:
    """Version 3 → 4: adds the loss of each style layer, which is the same for all."""
    loss = values["options"].get("style_loss", "gram")
    return {**values, "style_layers": [{**layer, "loss": loss} for layer in values["style_layers"]]}


def _name_warm_start(values: dict[str, Any]) -> dict[str, Any]:
    """Version 4 → 5: adds the option `warm_start`, which no job had."""
    return {**values, "options": {"warm_start": False, **values["options"]}}


UPGRADES: tuple[Upgrade, ...] = (_name_pacing, _nest_options, _name_losses, _name_warm_start)
"""UPGRADES[n] converts a spec of version n + 1 to version n + 2. A spec without a version has version 1."""

SPEC_VERSION = 1 + len(UPGRADES)
"""The version of specs written by this program."""


def encode_spec(spec: JobSpec) -> str:
    """Returns a spec as JSON, with its version, and with the names of blobs in place of pixels."""
    return json.dumps({"version": SPEC_VERSION, **_converter.unstructure(spec)})


def decode_spec(text: str) -> JobSpec:
    """Returns the spec of JSON of any version up to this one, with blob names but without pixels.

    A missing field gets its default. An unknown field is an error, because it could change the picture.

    Raises:
        LaterVersionError: the spec has a later version.
        UnreadableError: the text is not JSON, a field without a default is missing, or a field is unknown or invalid.
    """
    spec = _decode(_strict, text, JobSpec, _upgraded)
    _check_sizes(spec, *spec.levels, *spec.pictures())
    _check_counts(spec.options.iterations)
    if spec.options.report_every < 0 or not spec.levels:
        raise UnreadableError("report_every is negative, or it has no levels")
    return spec


def encode_progress(progress: Progress) -> str:
    """Returns progress as JSON, without its preview."""
    return json.dumps(_converter.unstructure(replace(progress, preview=None)))


def decode_progress(text: str) -> Progress:
    """Returns the progress of its JSON.

    Raises:
        UnreadableError: the JSON is invalid.
    """
    progress = _decode(_converter, text, Progress)
    _check_counts(progress.iteration, progress.iterations)
    _check_times(progress.elapsed, progress.remaining)
    _check_terms(progress.terms)
    return progress


def encode_result(result: Result) -> str:
    """Returns a result as JSON, without the bytes of its picture."""
    return json.dumps(_converter.unstructure(replace(result, image=replace(result.image, data=b""))))


def decode_result(text: str, data: bytes) -> Result:
    """Returns the result of its JSON, with `data` as the bytes of its picture.

    Raises:
        UnreadableError: the JSON is invalid.
    """
    result = _decode(_converter, text, Result)
    _check_counts(result.iterations, result.image.width, result.image.height)
    _check_times(result.queued, result.prepare, result.optimize)
    _check_terms(result.terms)
    return replace(result, image=replace(result.image, data=data).hashed())


def encode_failure(failure: Failure) -> str:
    """Returns a failure as JSON."""
    return json.dumps(_converter.unstructure(failure))


def decode_failure(text: str) -> Failure:
    """Returns the failure of its JSON; an unknown code becomes INTERNAL with the same message.

    Raises:
        UnreadableError: the JSON is invalid.
    """

    def known(values: dict[str, Any]) -> dict[str, Any]:
        return values if values["code"] in get_args(FailureCode) else values | {"code": "INTERNAL"}

    return _decode(_converter, text, Failure, known)


def _decode(converter: Converter, text: Any, kind: type[_T], change: Upgrade = lambda values: values) -> _T:
    """Returns the object of a JSON text, after `change` has converted its values."""
    if not isinstance(text, str):
        raise UnreadableError("it is not text")
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise UnreadableError("it is not a JSON object")
        if "\\ud" in text.lower():
            # An unpaired surrogate is not a character and cannot be sent: this raises UnicodeEncodeError.
            json.dumps(values, ensure_ascii=False).encode()
        return converter.structure(change(values), kind)
    except UnreadableError:
        raise
    except KeyError as error:
        raise UnreadableError(f"it has no {error.args[0]!r}") from error
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except Exception as error:  # The errors of cattrs and json have no common base class.
        raise UnreadableError(str(error) or type(error).__name__) from error


def _upgraded(values: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of a spec upgraded to the current version.

    Raises:
        UnreadableError: the version is invalid or later than the current one.
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
        if not (0 < part.width <= _MAX_COUNT and 0 < part.height <= _MAX_COUNT):
            raise UnreadableError(f"{part.width} × {part.height} is not a valid size")


def _check_terms(terms: tuple[LossTerm, ...]) -> None:
    _check_counts(*(term.region for term in terms if term.region is not None))


def _check_counts(*counts: int) -> None:
    for count in counts:
        if not 0 <= count <= _MAX_COUNT:
            raise UnreadableError(f"{count} is not a valid count")


def _check_times(*seconds: float) -> None:
    for value in seconds:
        if not (math.isfinite(value) and abs(value) <= _MAX_SECONDS):
            raise UnreadableError(f"{value} is not a valid duration")


def _make_converter(*, strict: bool) -> Converter:
    """Returns a converter that writes blob names in place of pixels.

    Args:
        strict: whether unknown fields are an error.
    """
    converter = Converter(detailed_validation=False, forbid_extra_keys=strict)
    for kind, pixels in ((Picture, "rgb"), (Mask, "levels")):
        converter.register_unstructure_hook(kind, partial(_unstructured, pixels))
        converter.register_structure_hook(kind, partial(_structured, pixels))
    # The bytes of results and previews are not stored in JSON.
    converter.register_unstructure_hook(bytes, lambda data: "")
    converter.register_structure_hook(bytes, lambda text, _: b"")
    return converter


def _unstructured(pixels: str, part: Picture | Mask) -> dict[str, Any]:
    values = {"width": part.width, "height": part.height, pixels: part.blob, "sha256": part.sha256}
    return values | {name: value for name in _OPTIONAL if (value := getattr(part, name, None))}


def _structured(pixels: str, values: dict[str, Any], kind: type[Picture | Mask]) -> Picture | Mask:
    known = {field.name for field in fields(kind)}
    optional = {name: make(values[name]) for name, make in _OPTIONAL.items() if name in values and name in known}
    return kind(
        int(values["width"]), int(values["height"]), b"", str(values["sha256"]), str(values[pixels]), **optional
    )


_converter = _make_converter(strict=False)
_strict = _make_converter(strict=True)
