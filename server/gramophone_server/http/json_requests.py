"""Requests in proto3 JSON (https://protobuf.dev/programming-guides/json), checked with the path of each wrong field."""

import json
import math
import re
from functools import lru_cache
from typing import Any, TypeVar, cast

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ..reading.wire import MAX_DEPTH, MAX_FIELDS, max_items
from ..rpc.violations import Checker, MalformedRequestError

M = TypeVar("M", bound=Message)

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*={0,2}")
_FLOATS = ("NaN", "Infinity", "-Infinity")
_FIELD = FieldDescriptor
# The smallest and the largest value of each type of integers.
_INTEGERS = {
    _FIELD.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    _FIELD.CPPTYPE_UINT32: (0, 2**32 - 1),
    _FIELD.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    _FIELD.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_MAX_FLOAT = 3.4028235e38
_SPECIAL = {
    "google.protobuf.Duration": 'a duration in seconds, such as "1.5s"',
    "google.protobuf.Timestamp": 'a time, such as "2026-01-31T12:00:00Z"',
}
# Characters of a wrong value in an error.
_SHOWN = 40
# Commas and opening brackets of a request with MAX_FIELDS fields, at most. More would take the event loop too long.
_MAX_MARKS = 4 * MAX_FIELDS


def parsed(data: bytes, kind: type[M]) -> M:
    """Returns a request in JSON as a message; an empty body is a message without fields.

    Raises:
        InvalidRequestError: fields are unknown or have values of wrong types, or there are too many.
        MalformedRequestError: the bytes are not JSON.
    """
    name = kind.DESCRIPTOR.name
    if sum(map(data.count, (b",", b"{", b"["))) > _MAX_MARKS:
        raise MalformedRequestError(f"the request is not a valid {name}: it has more than {MAX_FIELDS:,} fields")
    try:
        value = json.loads(data, object_pairs_hook=_object) if data else {}
    except RecursionError:
        raise MalformedRequestError(f"the request is not a valid {name}: it is nested too deep") from None
    except ValueError as error:
        raise MalformedRequestError(f"the request is not a valid {name}: it is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedRequestError(f"the request is not a valid {name}: it is not a JSON object")
    check = Checker()
    _Walk(check).message(value, cast(Descriptor, kind.DESCRIPTOR), "", 0)
    check.stop_if_wrong()
    try:
        return json_format.ParseDict(value, kind(), max_recursion_depth=2 * MAX_DEPTH)
    except (json_format.ParseError, ValueError, TypeError, OverflowError) as error:
        raise MalformedRequestError(f"the request is not a valid {name}: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


class _Walk:
    """Walks over the values of a JSON object, and adds a violation for each that does not fit its field."""

    def __init__(self, check: Checker) -> None:
        self._check = check
        self._total = 0

    def message(self, value: object, descriptor: Descriptor, path: str, depth: int) -> None:
        if special := _SPECIAL.get(descriptor.full_name):
            if not _parses(value, descriptor):
                self._check.add(path, f"is {_shown(value)}; write {special}")
        elif not isinstance(value, dict):
            self._check.add(path, f"is {_shown(value)}; write a JSON object")
        elif depth > MAX_DEPTH:
            self._check.add(path, f"is nested deeper than {MAX_DEPTH} messages")
        else:
            for name, member in value.items():
                self._member(name, member, descriptor, path, depth)

    def _member(self, name: str, value: object, descriptor: Descriptor, path: str, depth: int) -> None:
        field = _fields(descriptor).get(name)
        if field is None:
            known = ", ".join(f.name for f in descriptor.fields)
            # A lone surrogate cannot be sent.
            shown = name[:100].encode(errors="replace").decode()
            self._check.add(_joined(path, shown), f"is not a field of {descriptor.name}, which has {known}")
            return
        # As in requests over gRPC, messages in a oneof are left out of field paths.
        in_oneof = field.containing_oneof is not None and field.message_type is not None and not _is_optional(field)
        here = path if in_oneof else _joined(path, field.name)
        if value is None:
            return
        if not field.is_repeated:
            self._value(value, field, here, depth)
        elif not isinstance(value, list):
            self._check.add(here, f"is {_shown(value)}; write a list in brackets")
        elif len(value) > max_items(field):
            self._check.add(here, f"has more than {max_items(field)} values; it takes 1 to {max_items(field)}")
        else:
            for i, item in enumerate(value):
                self._value(item, field, f"{here}[{i}]", depth)

    def _value(self, value: object, field: FieldDescriptor, path: str, depth: int) -> None:
        self._total += 1
        if self._total > MAX_FIELDS:
            self._check.add(path, f"is in a request with more than {MAX_FIELDS:,} fields")
            self._check.stop_if_wrong()
        if field.message_type is not None:
            self.message(value, field.message_type, path, depth + 1)
        elif wanted := _wanted(value, field):
            self._check.add(path, f"is {_shown(value)}; write {wanted}")


@lru_cache(maxsize=256)
def _fields(descriptor: Descriptor) -> dict[str, FieldDescriptor]:
    """Returns the fields by both of their names; descriptors' own tables fail for lone surrogates."""
    return {name: field for field in descriptor.fields for name in (field.name, field.json_name)}


def _wanted(value: object, field: FieldDescriptor) -> str:
    """Returns what a field takes instead of a value; empty if it takes the value."""
    kind = field.cpp_type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return "" if _is_integer(value, low, high) else f"an integer from {low} to {high}"
    if kind in (_FIELD.CPPTYPE_FLOAT, _FIELD.CPPTYPE_DOUBLE):
        high_float = _MAX_FLOAT if kind == _FIELD.CPPTYPE_FLOAT else math.inf
        return "" if _is_number(value, high_float) else 'a number, or "NaN", "Infinity" or "-Infinity"'
    if kind == _FIELD.CPPTYPE_BOOL:
        return "" if isinstance(value, bool) else "true or false"
    if field.enum_type is not None:
        names = [known.name for known in field.enum_type.values]
        is_number = _is_integer(value, *_INTEGERS[_FIELD.CPPTYPE_INT32]) and not isinstance(value, str)
        return "" if value in names or is_number else f"one of {', '.join(names[1:])}"
    if field.type == _FIELD.TYPE_BYTES:
        is_base64 = isinstance(value, str) and _BASE64.fullmatch(value) and len(value.rstrip("=")) % 4 != 1
        return "" if is_base64 else "a string in base64"
    return "" if isinstance(value, str) and _is_text(value) else "a string"


def _is_integer(value: object, low: int, high: int) -> bool:
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,20}", value, re.ASCII):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object, high: float) -> bool:
    if isinstance(value, str):
        if value in _FLOATS:
            return True
        if not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value[:100], re.ASCII):
            return False
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        # An integer of JSON may be too large for a float.
        return -high <= float(value) <= high
    except OverflowError:
        return False


def _is_text(value: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in value)


def _is_optional(field: FieldDescriptor) -> bool:
    """Returns whether a field's oneof is only the one that proto3 makes for `optional`."""
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) == 1 and oneof.name.startswith("_")


def _parses(value: object, descriptor: Descriptor) -> bool:
    try:
        json_format.ParseDict(cast(Any, value), message_factory.GetMessageClass(descriptor)())
    except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError):
        return False
    return True


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: object) -> str:
    """Returns the beginning of a value as JSON."""
    if isinstance(value, dict | list):
        return "a JSON object" if isinstance(value, dict) else "a list"
    text = json.dumps(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}…"
