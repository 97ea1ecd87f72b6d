"""Numbers beyond a float's range, and the unit in which a job's loss is optimized.

Only the ratio of a job's weights matters. Two things would make the rest matter, too: squared norms of a gradient that
do not fit into float32, and rounding, which a long optimization makes visible. Weights that are not about 1 are
therefore divided by one of them, so that all with the same ratios become the same, and a loss that is still far from 1
is multiplied by a power of two, which rounds nothing. Reports are in the units of the request.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_LEAST, _MOST, _MIDDLE = -10, 50, 30
"""Exponents of two: the losses that are optimized as they are, and what others are brought to."""
NOTHING = -100
"""Exponent of a term's size below which it has no say beside the largest, and only slows a CPU down."""


@dataclass(frozen=True)
class Magnitude:
    """A number >= 0: mantissa · 2^exponent, with a mantissa of 0.5 to 1 or 0."""

    mantissa: float
    exponent: int

    @classmethod
    def of(cls, *factors: float) -> "Magnitude":
        """The product of finite numbers >= 0, rounded as the product of floats is, but never to 0 or infinity."""
        mantissa, exponent = 1.0, 0
        for factor in factors:
            own, shift = math.frexp(factor)
            mantissa, carry = math.frexp(mantissa * own)
            exponent += shift + carry
        return cls(mantissa, exponent if mantissa else 0)

    def over(self, other: "Magnitude") -> "Magnitude":
        """The quotient of this and one that is not 0."""
        mantissa, carry = math.frexp(self.mantissa / other.mantissa)
        return Magnitude(mantissa, self.exponent - other.exponent + carry if mantissa else 0)

    def times_two_to(self, exponent: int) -> float:
        """The number times a power of two, as a float: 0 or the largest where it is beyond those."""
        return shifted(self.mantissa, self.exponent + exponent)


def shifted(value: float, exponent: int) -> float:
    """`value` · 2^exponent; the largest float of that sign where that is beyond it."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(sys.float_info.max, value)


def unit_of(sizes: Iterable[Magnitude]) -> int:
    """The exponent of the power of two that a loss is multiplied by, given about how large its terms are.

    It is 0 for losses from 1e-3 to 1e15, whose pixels it would not change.
    """
    exponents = [size.exponent for size in sizes if size.mantissa]
    largest = max(exponents, default=_MIDDLE)
    return 0 if _LEAST <= largest <= _MOST else _MIDDLE - largest
