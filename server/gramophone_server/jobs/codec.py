"""Specs, progress, results and failures as JSON; pictures stand in it by the names of their blobs."""

import json
from collections.abc import Callable
from dataclasses import replace

from cattrs import Converter

from .events import Failure, Progress, Result
from .spec import JobSpec


def encode_spec(spec: JobSpec, put: Callable[[bytes], str]) -> tuple[str, list[str]]:
    """A spec as JSON, its pixels handed to `put`, which names them; and those names."""
    names: list[str] = []

    def keep(data: bytes) -> str:
        names.append(put(data))
        return names[-1]

    return json.dumps(_converter(keep, None).unstructure(spec)), names


def decode_spec(text: str, get: Callable[[str], bytes] | None) -> JobSpec:
    """The spec of its JSON, with the pixels that `get` finds; without any if there is none."""
    return _converter(None, get or (lambda name: b"")).structure(json.loads(text), JobSpec)


def encode_progress(progress: Progress) -> str:
    """Progress as JSON, without its preview."""
    return json.dumps(_plain.unstructure(replace(progress, preview=None)))


def decode_progress(text: str) -> Progress:
    """The progress of its JSON."""
    return _plain.structure(json.loads(text), Progress)


def encode_result(result: Result) -> str:
    """A result as JSON, without the bytes of its picture."""
    return json.dumps(_plain.unstructure(replace(result, image=replace(result.image, data=b""))))


def decode_result(text: str, data: bytes) -> Result:
    """The result of its JSON, with the bytes of its picture."""
    result = _plain.structure(json.loads(text), Result)
    return replace(result, image=replace(result.image, data=data))


def encode_failure(failure: Failure) -> str:
    """A failure as JSON."""
    return json.dumps(_plain.unstructure(failure))


def decode_failure(text: str) -> Failure:
    """The failure of its JSON."""
    return _plain.structure(json.loads(text), Failure)


def _converter(keep: Callable[[bytes], str] | None, get: Callable[[str], bytes] | None) -> Converter:
    """A converter that keeps the bytes of pictures and masks elsewhere."""
    converter = Converter()
    # Bytes stand in a spec as pixels only.
    converter.register_unstructure_hook(bytes, keep or (lambda data: ""))
    converter.register_structure_hook(bytes, lambda name, _: get(name) if get else b"")
    return converter


_plain = _converter(None, None)
