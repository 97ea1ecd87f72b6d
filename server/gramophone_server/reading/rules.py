"""Reads the fields of a message by their rules in the contract: bounds, allowed values, defaults."""

import math
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Types
from google.protobuf.message import Message

from gramophone.v1 import field_rules_pb2

from ..messages.options import JobKind
from ..rpc.violations import Checker

# A field or enum descriptor; each implementation of protobuf has its own classes.
Descriptor = Any

_DURATION = "google.protobuf.Duration"
# Value bits of the integer types, without the sign; other number types are floating-point.
_BITS = {
    Types.CPPTYPE_INT32: 31, Types.CPPTYPE_INT64: 63, Types.CPPTYPE_UINT32: 32, Types.CPPTYPE_UINT64: 64,
}  # fmt: skip


def rules_of(field: Descriptor) -> field_rules_pb2.FieldRules:
    """Returns the rules of a field."""
    rules: field_rules_pb2.FieldRules = field.GetOptions().Extensions[field_rules_pb2.rules]
    return rules


def read_fields(
    message: Message,
    check: Checker,
    *,
    kind: JobKind | None = None,
    unset: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """Returns the values of a message's fields by name. Adds violations to `check`; an invalid field counts as unset.

    Numbers and strings are unchanged, enum values become words ("lbfgs"), durations seconds, messages dicts.
    Repeated fields and images are skipped.

    Args:
        kind: kind of the job, on which some defaults depend.
        unset: defaults that are not in the rules, by field name. A field without a default is None.
        prefix: path of the message in the request, ending with a dot.
    """
    values = {}
    for field in message.DESCRIPTOR.fields:
        inner = field.message_type
        if field.is_repeated or (inner is not None and inner.name == "InputImage"):
            continue
        if inner is not None and inner.full_name != _DURATION:
            value: Any = read_fields(getattr(message, field.name), check, kind=kind, prefix=f"{prefix}{field.name}.")
        else:
            value = read_field(message, field.name, check, kind=kind, prefix=prefix)
            if value is None and unset is not None:
                value = unset.get(field.name)
        values[field.name] = value
    return values


def read_field(message: Message, name: str, check: Checker, *, kind: JobKind | None = None, prefix: str = "") -> Any:
    """Returns the value of one field, see `read_fields`; None if it is unset or invalid and has no default."""
    field = message.DESCRIPTOR.fields_by_name[name]
    rules = rules_of(field)
    if _is_set(message, field):
        value = getattr(message, name)
        reason = _violation(value, field, rules)
        if reason is None:
            return _python_value(value, field)
        check.add(prefix + name, f"is {reason}")
    default = rules.default_value or (getattr(rules, f"default_{kind}") if kind else "")
    if not default:
        return None
    if field.enum_type is not None:
        return word_of(field.enum_type, field.enum_type.values_by_name[default].number)
    return _parse_default(default, field)


def _parse_default(default: str, field: Descriptor) -> Any:
    """Parses the default of a field that is not an enum."""
    if field.cpp_type == Types.CPPTYPE_BOOL:
        return default == "true"
    if field.cpp_type == Types.CPPTYPE_STRING:
        return default
    return int(default) if field.cpp_type in _BITS else float(default)


def word_of(enum: Descriptor, number: int) -> str:
    """Returns the word for an enum value: its name in lower case without the enum's prefix."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    word: str = enum.values_by_number[number].name.removeprefix(prefix).lower()
    return word


def _is_set(message: Message, field: Descriptor) -> bool:
    """Returns whether a field is set. UNSPECIFIED, and an empty string without field presence, count as unset."""
    value = getattr(message, field.name)
    if field.enum_type is not None:
        return bool(value)
    return message.HasField(field.name) if field.has_presence else bool(value)


def _python_value(value: Any, field: Descriptor) -> Any:
    if field.enum_type is not None:
        return word_of(field.enum_type, value)
    return _seconds(value) if field.message_type is not None else value


def _violation(value: Any, field: Descriptor, rules: field_rules_pb2.FieldRules) -> str | None:
    """Returns "VALUE, but must be …" for an invalid value; None for a valid one."""
    if field.enum_type is not None:
        return _enum_violation(value, field.enum_type, list(rules.values))
    if field.cpp_type in (Types.CPPTYPE_STRING, Types.CPPTYPE_BOOL):
        return None
    if field.message_type is not None:
        seconds = _seconds(value)
        return None if _is_within(seconds, rules) else f"{seconds:g} s, but must be {_bounds_text(rules)}"
    if rules.values:
        return None if str(value) in rules.values else f"{value}, but must be {' or '.join(rules.values)}"
    if rules.or_zero and value == 0:
        return None
    return _number_violation(value, field, rules)


def _enum_violation(value: int, enum: Descriptor, allowed: list[str]) -> str | None:
    names = allowed or [known.name for known in enum.values if known.number]
    known = enum.values_by_number.get(value)
    if known is None:
        return f"{value}, which is not a value of the enum; use one of {', '.join(names)}"
    return None if known.name in names else f"{known.name}, but must be one of {', '.join(names)}"


def _number_violation(value: float, field: Descriptor, rules: field_rules_pb2.FieldRules) -> str | None:
    if _is_within(value, rules):
        return None
    bits = _BITS.get(field.cpp_type)
    if bits is None:
        return f"{value}, but must be a finite number, {_bounds_text(rules)}"
    low, high = _limits(rules)
    most = int(high) if math.isfinite(high) else 2**bits - 1
    return f"{value}, but must be {'0 or ' if rules.or_zero else ''}{int(low)} to {most}"


def _limits(rules: field_rules_pb2.FieldRules) -> tuple[float, float]:
    low = rules.minimum if rules.HasField("minimum") else -math.inf
    return low, rules.maximum if rules.HasField("maximum") else math.inf


def _is_within(value: float, rules: field_rules_pb2.FieldRules) -> bool:
    low, high = _limits(rules)
    return math.isfinite(value) and low <= value <= high and not (rules.minimum_excluded and value == low)


def _bounds_text(rules: field_rules_pb2.FieldRules) -> str:
    """Returns the bounds in words, such as "0 to 1" and "greater than 0"."""
    low, high = _limits(rules)
    zero = "0 or " if rules.or_zero else ""
    if rules.minimum_excluded:
        return f"{zero}greater than {low:g}" + ("" if high == math.inf else f" and at most {high:g}")
    return zero + (f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}")


def _seconds(duration: Any) -> float:
    seconds: float = duration.seconds + duration.nanos / 1e9
    return seconds
