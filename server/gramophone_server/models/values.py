"""Checks the values of a manifest.json, which may come from an untrusted source. Standard library only."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any


class ManifestError(ValueError):
    """A manifest is invalid; the message says why, and begins with a verb."""


def parse(text: str | bytes) -> Any:
    """Parses a JSON text.

    Raises:
        ManifestError: the text is not JSON, or is nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ManifestError("is nested too deep") from None
    except ValueError as error:
        raise ManifestError(f"is not a model's manifest: {error}") from error


class Fields:
    """The fields of a JSON object. Each method takes a field once, and raises ManifestError if it is invalid."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ManifestError(f"is not a model's manifest: {what} is not an object")
        self._left: dict[str, Any] = dict(value)
        self._what = what

    def has(self, key: str) -> bool:
        """Returns whether the object has a field that has not been taken."""
        return key in self._left

    def take(self, key: str, default: Any = None) -> Any:
        """Takes a field of any type; returns `default` if it is missing, and fails if that is None."""
        value = self._left.pop(key, default)
        if value is None:
            raise ManifestError(f"is not a model's manifest: {self._what} has no {key}")
        return value

    def text(self, key: str, max_length: int = 10_000) -> str:
        """Takes a string of at most `max_length` characters."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > max_length or not _is_text(value):
            raise self._invalid(key, f"a string of at most {max_length:,} characters")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> Any:
        """Takes a string that must be one of `choices`."""
        value = self.take(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self._invalid(key, " or ".join(choices))
        return value

    def flag(self, key: str) -> bool:
        """Takes a boolean; False if it is missing."""
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise self._invalid(key, "true or false")
        return value

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """Takes an integer from `low` to `high`."""
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._invalid(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """Takes a number from `low` to `high`."""
        value = self.take(key, default)
        if not _is_number(value, low, high):
            raise self._invalid(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """Takes a list of `count` numbers from `low` to `high`."""
        values = self.take(key)
        good = isinstance(values, list) and len(values) == count and all(_is_number(v, low, high) for v in values)
        if not good:
            raise self._invalid(key, f"{count} numbers from {low:g} to {high:g}")
        return tuple(map(float, values))

    def named_numbers(self, key: str, names: Collection[str]) -> dict[str, float]:
        """Takes an object whose keys are among `names` and whose values are numbers of at least 0."""
        values = self.take(key, {})
        if not isinstance(values, Mapping) or not all(
            name in names and _is_number(value, 0.0, math.inf) for name, value in values.items()
        ):
            raise self._invalid(key, "an object of layers and numbers")
        return {name: float(value) for name, value in values.items()}

    def end(self) -> None:
        """Checks that all fields have been taken."""
        if self._left:
            raise ManifestError(f"is not a model's manifest: {self._what} has the unknown {min(self._left)[:50]!r}")

    def _invalid(self, key: str, wanted: str) -> ManifestError:
        return ManifestError(f"is not a model's manifest: {key} of {self._what} is not {wanted}")


def _is_number(value: Any, low: float, high: float) -> bool:
    # An integer may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and value < 1e300


def _is_text(value: str) -> bool:
    # A lone surrogate cannot be encoded as UTF-8, and a NUL ends a string in some languages.
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _refuse_constant(name: str) -> float:
    raise ManifestError(f"is not a model's manifest: {name} is not a number")
