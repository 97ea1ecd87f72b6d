"""Counts the fields of a serialized message before it is parsed: a few bytes on the wire can need far more memory."""

from collections import Counter
from functools import lru_cache
from typing import NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gramophone.v1 import field_rules_pb2

from ..rpc.violations import InvalidRequestError

MAX_FIELDS = 4000
"""Maximum number of fields of a message and its nested messages together, unknown fields included."""
MAX_DEPTH = 20
"""Maximum number of levels of nested messages."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SKIPPED = {_FIXED64: 8, _FIXED32: 4}
# A varint has at most ten bytes; each but the last has its highest bit set.
_VARINT_BYTES, _MORE = 10, 0x80


class WireError(ValueError):
    """Bytes are not a protocol buffer; the text says why."""


def check_wire(data: bytes, descriptor: Descriptor) -> None:
    """Checks the serialized form of a message against the bounds that the contract sets for its repeated fields.

    Raises:
        InvalidRequestError: a repeated field has more values than the contract allows, the message has more than
            MAX_FIELDS fields, or is nested deeper than MAX_DEPTH.
        WireError: the bytes are not a protocol buffer.
    """
    _Walk(data).message(0, len(data), descriptor, "", 0)


def max_items(field: FieldDescriptor) -> int:
    """Returns the contract's limit on the values of a repeated field; 0 if there is none."""
    return int(field.GetOptions().Extensions[field_rules_pb2.rules].max_items)


@lru_cache(maxsize=256)
def _fields(descriptor: Descriptor) -> dict[int, tuple[str, bool, int, Descriptor | None, bool]]:
    """Returns, by field number: (name, is repeated, maximum number of values, message type, is a message in a oneof).

    Messages in a oneof are left out of field paths: violations in an EstimateJobRequest name the job's own fields.
    """
    return {
        f.number: (
            f.name, f.is_repeated, max_items(f), f.message_type,
            f.containing_oneof is not None and f.message_type is not None,
        )
        for f in descriptor.fields
    }  # fmt: skip


class _Walk:
    """Walks over the fields of a message and its nested messages; skips the content of strings and bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._total = 0
        self._items: Counter[str] = Counter()

    def message(self, at: int, end: int, descriptor: Descriptor, path: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            _refuse(path, f"is nested deeper than {MAX_DEPTH} messages")
        fields = _fields(descriptor)
        while at < end:
            self._total += 1
            if self._total > MAX_FIELDS:
                _refuse(path or descriptor.fields[0].name, f"is in a request with more than {MAX_FIELDS:,} fields")
            tag, at = self._varint(at, end)
            name, repeated, max_values, message, in_oneof = fields.get(tag >> 3, ("", False, 0, None, False))
            begin, at = self._value(tag & 7, at, end)
            if not name:
                continue
            here = ".".join(part for part in (path, "" if in_oneof else name) if part)
            if repeated:
                packed = tag & 7 == _LENGTH and message is None and self._is_packed(descriptor, tag >> 3)
                too_long = packed and at - begin > _VARINT_BYTES * max_values
                self._items[here] += max_values + 1 if too_long else self._count(begin, at) if packed else 1
                if self._items[here] > max_values:
                    _refuse(here, f"has more than {max_values} values; it takes 1 to {max_values}")
                here = f"{here}[{self._items[here] - 1}]"
            if message is not None and tag & 7 == _LENGTH:
                self.message(begin, at, message, here, depth + 1)

    def _value(self, kind: int, at: int, end: int) -> tuple[int, int]:
        """Returns (offset of the value's content, offset of the value's end)."""
        if kind == _VARINT:
            return at, self._varint(at, end)[1]
        if kind == _LENGTH:
            size, at = self._varint(at, end)
        elif kind in _SKIPPED:
            size = _SKIPPED[kind]
        else:
            raise WireError("has a field of an unknown wire type")
        if size > end - at:
            raise WireError("ends inside a field")
        return at, at + size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """Returns (value of a varint, offset of its end)."""
        value = shift = 0
        for i in range(at, min(end, at + _VARINT_BYTES)):
            byte = self._data[i]
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value, i + 1
            shift += 7
        raise WireError("ends inside a varint")

    def _is_packed(self, descriptor: Descriptor, number: int) -> bool:
        return descriptor.fields_by_number[number].type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

    def _count(self, begin: int, end: int) -> int:
        """Returns the number of packed varints, an incomplete last one included."""
        return (end > begin and self._data[end - 1] >= _MORE) + sum(byte < _MORE for byte in self._data[begin:end])


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidRequestError([(field, reason)])
