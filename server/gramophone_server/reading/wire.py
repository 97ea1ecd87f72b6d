"""Counts the fields of a message before it is parsed: a few bytes each can become a message of any size."""

from collections import Counter
from functools import lru_cache
from typing import NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gramophone.v1 import field_rules_pb2

from ..rpc.violations import InvalidRequestError

MOST_FIELDS = 4000
"""Fields of a message, with those of the messages in it; of any kind, known or not."""
MOST_DEPTH = 20

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SKIPPED = {_FIXED64: 8, _FIXED32: 4}
# A varint has ten bytes at most; each but the last has its first bit set.
_VARINT_BYTES, _MORE = 10, 0x80


class WireError(ValueError):
    """The bytes are no message; the text says why."""


def check_wire(data: bytes, descriptor: Descriptor) -> None:
    """Checks the serialized form of a message against the bounds that the contract sets for its repeated fields.

    Raises:
        InvalidRequestError: a repeated field has more values than the contract allows, or all fields are too many.
        WireError: it is no protocol buffer.
    """
    _Walk(data).message(0, len(data), descriptor, "", 0)


def most_items(field: FieldDescriptor) -> int:
    """Most values of a repeated field, by the contract; 0 if that says nothing."""
    return int(field.GetOptions().Extensions[field_rules_pb2.rules].max_items)


@lru_cache(maxsize=256)
def _fields(descriptor: Descriptor) -> dict[int, tuple[str, bool, int, Descriptor | None, bool]]:
    """By its number the name of a field, whether it is repeated, its bound, the message that it is, and whether that is
    one of several: errors about the job of an estimate name the job's own fields.
    """
    return {
        f.number: (
            f.name, f.is_repeated, most_items(f), f.message_type,
            f.containing_oneof is not None and f.message_type is not None,
        )
        for f in descriptor.fields
    }  # fmt: skip


class _Walk:
    """Goes over the fields of a message, and of those in it, without looking at what strings and bytes hold."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._total = 0
        self._items: Counter[str] = Counter()

    def message(self, at: int, end: int, descriptor: Descriptor, path: str, depth: int) -> None:
        if depth > MOST_DEPTH:
            _refuse(path, f"is nested deeper than {MOST_DEPTH} messages")
        fields = _fields(descriptor)
        while at < end:
            self._total += 1
            if self._total > MOST_FIELDS:
                _refuse(
                    path or descriptor.fields[0].name,
                    f"has, with the rest of the request, more than {MOST_FIELDS:,} fields",
                )
            tag, at = self._varint(at, end)
            name, repeated, most, message, in_oneof = fields.get(tag >> 3, ("", False, 0, None, False))
            begin, at = self._value(tag & 7, at, end)
            if not name:
                continue
            here = ".".join(part for part in (path, "" if in_oneof else name) if part)
            if repeated:
                packed = tag & 7 == _LENGTH and message is None and self._is_packed(descriptor, tag >> 3)
                too_long = packed and at - begin > _VARINT_BYTES * most
                self._items[here] += most + 1 if too_long else self._count(begin, at) if packed else 1
                if self._items[here] > most:
                    _refuse(here, f"has more than {most} values; it takes 1 to {most}")
                here = f"{here}[{self._items[here] - 1}]"
            if message is not None and tag & 7 == _LENGTH:
                self.message(begin, at, message, here, depth + 1)

    def _value(self, kind: int, at: int, end: int) -> tuple[int, int]:
        """Where the content of a value begins, and where the value ends."""
        if kind == _VARINT:
            return at, self._varint(at, end)[1]
        if kind == _LENGTH:
            size, at = self._varint(at, end)
        elif kind in _SKIPPED:
            size = _SKIPPED[kind]
        else:
            raise WireError("has a field of a kind that no message has")
        if size > end - at:
            raise WireError("ends within a field")
        return at, at + size

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        """A varint, and where it ends."""
        value = shift = 0
        for i in range(at, min(end, at + _VARINT_BYTES)):
            byte = self._data[i]
            value |= (byte & 0x7F) << shift
            if byte < _MORE:
                return value, i + 1
            shift += 7
        raise WireError("ends within a number")

    def _is_packed(self, descriptor: Descriptor, number: int) -> bool:
        return descriptor.fields_by_number[number].type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

    def _count(self, begin: int, end: int) -> int:
        """How many packed values there are; one that does not end counts, too."""
        return (end > begin and self._data[end - 1] >= _MORE) + sum(byte < _MORE for byte in self._data[begin:end])


def _refuse(field: str, reason: str) -> NoReturn:
    raise InvalidRequestError([(field, reason)])
