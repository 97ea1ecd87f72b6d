"""Values of a manifest.json, which anybody may have written, checked one by one. Standard library only."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any


class ManifestError(ValueError):
    """A manifest cannot be understood; the message says why."""


def parse(text: str | bytes) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ManifestError: it is no JSON, or nested too deep.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ManifestError("is nested too deep") from None
    except ValueError as error:
        raise ManifestError(f"is not a model's manifest: {error}") from error


class Fields:
    """The fields of a JSON object, each of which is taken once; raises ManifestError where one is not as it must be."""

    def __init__(self, value: Any, what: str) -> None:
        if not isinstance(value, dict):
            raise ManifestError(f"is not a model's manifest: {what} is not an object")
        self._left: dict[str, Any] = dict(value)
        self._what = what

    def has(self, key: str) -> bool:
        """Whether there is such a field that has not been taken."""
        return key in self._left

    def take(self, key: str, default: Any = None) -> Any:
        """A field of any kind; `default` if it is left out, unless that is None."""
        value = self._left.pop(key, default)
        if value is None:
            raise ManifestError(f"is not a model's manifest: {self._what} has no {key}")
        return value

    def text(self, key: str, most: int = 10_000) -> str:
        """A text of at most so many characters."""
        value = self.take(key)
        if not isinstance(value, str) or len(value) > most or not _is_text(value):
            raise self._wrong(key, f"a text of at most {most:,} characters")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> Any:
        """One of some words."""
        value = self.take(key, default)
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(key, " or ".join(choices))
        return value

    def flag(self, key: str) -> bool:
        """True or false; false if it is left out."""
        value = self.take(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def whole(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number within bounds."""
        value = self.take(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """A number within bounds."""
        value = self.take(key, default)
        if not _is_number(value, low, high):
            raise self._wrong(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def numbers(self, key: str, count: int, low: float, high: float) -> tuple[float, ...]:
        """So many numbers within bounds."""
        values = self.take(key)
        good = isinstance(values, list) and len(values) == count and all(_is_number(v, low, high) for v in values)
        if not good:
            raise self._wrong(key, f"{count} numbers from {low:g} to {high:g}")
        return tuple(map(float, values))

    def named_numbers(self, key: str, names: Collection[str]) -> dict[str, float]:
        """Numbers by some of the names."""
        values = self.take(key, {})
        if not isinstance(values, Mapping) or not all(
            name in names and _is_number(value, 0.0, math.inf) for name, value in values.items()
        ):
            raise self._wrong(key, "a number for each of some layers")
        return {name: float(value) for name, value in values.items()}

    def end(self) -> None:
        """Sees that nothing is left."""
        if self._left:
            raise ManifestError(f"is not a model's manifest: {self._what} has the unknown {min(self._left)[:50]!r}")

    def _wrong(self, key: str, wanted: str) -> ManifestError:
        return ManifestError(f"is not a model's manifest: {key} of {self._what} is not {wanted}")


def _is_number(value: Any, low: float, high: float) -> bool:
    # A whole number may be too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high and value < 1e300


def _is_text(value: str) -> bool:
    # Half of a surrogate pair cannot be sent to anybody, and a NUL ends a text for some.
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _refuse_constant(name: str) -> float:
    raise ManifestError(f"is not a model's manifest: {name} is not a number")
