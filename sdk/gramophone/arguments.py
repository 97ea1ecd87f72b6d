"""Checks of option values. Each error names the option and says what to write instead.

Only values that cannot be sent are rejected here: the server checks the ranges.
"""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

INT32 = (-(2**31), 2**31 - 1)


def integer(name: str, value: Any, example: int = 1, bounds: tuple[int, int] = INT32) -> int | None:
    """Returns the value as an int; None for None, which means that the option is not set.

    Accepts numpy numbers, and floats without a fraction. Rejects bools, because their meaning is not clear.

    Args:
        name: name of the option, for messages.
        example: a valid value, for messages.
        bounds: minimum and maximum that can be sent.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value has a fraction or is out of bounds.
    """
    if value is None:
        return None
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a whole number{_not(value)}; write {_number_in(value, example)}")
    if not math.isfinite(value) or value != math.floor(value):
        near = f"; write {round(value)}" if math.isfinite(value) else f"; write {example}"
        raise ValueError(f"{name} must be a whole number, not {value}{near}")
    whole = operator.index(value) if isinstance(value, numbers.Integral) else int(float(value))
    least, most = bounds
    if whole > most:
        raise ValueError(f"{name} must be at most {most:,}, not {whole}")
    if whole < least:
        raise ValueError(f"{name} must be at least {least:,}, not {whole}")
    return whole


def number(name: str, value: Any, example: float = 1.5) -> float | None:
    """Returns the value as a finite float; None for None, which means that the option is not set.

    Args:
        name: name of the option, for messages.
        example: a valid value, for messages.

    Raises:
        TypeError: the value is not a number.
        ValueError: the value is not finite.
    """
    if value is None:
        return None
    value = _plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number{_not(value)}; write {_number_in(value, example)}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, not {value}; write {example}")
    return float(value)


def boolean(name: str, value: Any) -> bool | None:
    """Returns the value as a bool; None for None, which means that the option is not set. Accepts numpy's bool.

    Raises:
        TypeError: the value is not a bool.
    """
    if value is None or isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "item"):
        return bool(value)
    raise TypeError(f"{name} must be True or False{_not(value)}")


def text(name: str, value: Any) -> str | None:
    """Returns the value if it is a str; None for None, which means that the option is not set.

    Raises:
        TypeError: the value is not a str.
    """
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{name} must be a string{_not(value)}")


def check_names(given: Iterable[str], names: Iterable[str], what: str = "option") -> None:
    """Checks that all given names are valid.

    Args:
        names: the valid names.
        what: what the names are, for messages.

    Raises:
        TypeError: a name is not valid; the message suggests the most similar valid names.
    """
    names = sorted(names)
    unknown = sorted(set(given) - set(names))
    if not unknown:
        return
    near = [found[0] for name in unknown if (found := difflib.get_close_matches(name, names, 1))]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise TypeError(f"there is no {what} {', '.join(unknown)}; {hint}the {what}s are {', '.join(names)}")


def _plain(value: Any) -> Any:
    """Returns the value, or the Python number in it if it is a numpy scalar or an array without dimensions."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _not(value: Any) -> str:
    if isinstance(value, str | bool):
        return f", not {value!r}"
    return f", not {type(value).__name__}"


def _number_in(value: Any, example: float) -> str:
    """Returns the number written in a str value (for example from a web form), else the example."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return str(example)
        return value.strip()
    return str(example)
