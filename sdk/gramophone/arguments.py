"""Checks of what callers give for options: each names the option and says what to write.

Ranges are the server's, which says them too; here is only what could not be sent.
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
    """A whole number; None for None, which leaves the option out.

    Numbers of numpy count, and so do floats without a fraction. What a bool would mean is not clear.

    Raises:
        TypeError: it is no number.
        ValueError: it has a fraction, or is beyond the bounds of what can be sent.
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
    """A finite number; None for None, which leaves the option out.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite.
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
    """Yes or no; None for None, which leaves the option out. The booleans of numpy count.

    Raises:
        TypeError: it is neither.
    """
    if value is None or isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool", "bool_") and hasattr(value, "item"):
        return bool(value)
    raise TypeError(f"{name} must be True or False{_not(value)}")


def text(name: str, value: Any) -> str | None:
    """A text; None for None, which leaves the option out.

    Raises:
        TypeError: it is none.
    """
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"{name} must be a text{_not(value)}")


def known(given: Iterable[str], names: Iterable[str], what: str = "option") -> None:
    """Sees that all that is given is known.

    Raises:
        TypeError: something is not; the nearest that is known is named.
    """
    names = sorted(names)
    unknown = sorted(set(given) - set(names))
    if not unknown:
        return
    near = [found[0] for name in unknown if (found := difflib.get_close_matches(name, names, 1))]
    hint = f"did you mean {', '.join(near)}? " if near else ""
    raise TypeError(f"there is no {what} {', '.join(unknown)}; {hint}the {what}s are {', '.join(names)}")


def _plain(value: Any) -> Any:
    """A number, also out of an array of one."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    return value


def _not(value: Any) -> str:
    if isinstance(value, str | bool):
        return f", not {value!r}"
    return f", not {type(value).__name__}"


def _number_in(value: Any, example: float) -> str:
    """What the number is in a text, such as a form's."""
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return str(example)
        return value.strip()
    return str(example)
