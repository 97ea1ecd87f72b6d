"""Numbers beyond the range of a float, and the unit in which a job's loss is optimized.

Only the ratios of a job's weights should affect the picture. Without a change of unit their absolute size would too:
squared norms of the gradient can exceed float32, and rounding differs, which a long optimization makes visible. So
weights far from 1 are divided by one of them, which makes requests with the same ratios identical. A loss that is still
far from 1 is multiplied by a power of two, which is exact. Reports use the units of the request.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

_MIN_EXPONENT, _MAX_EXPONENT, _TARGET_EXPONENT = -10, 50, 30
"""Exponents of two: the range of losses that are optimized unscaled, and the target size of all other losses."""
NEGLIGIBLE = -100
"""Exponent of a term's size below which the term cannot affect the result, but slows down a CPU."""


@dataclass(frozen=True)
class Magnitude:
    """A number >= 0 without overflow or underflow: mantissa · 2^exponent.

    Attributes:
        mantissa: in [0.5, 1), or 0.
        exponent: an integer of any size.
    """

    mantissa: float
    exponent: int

    @classmethod
    def of(cls, *factors: float) -> "Magnitude":
        """Returns the product of finite numbers >= 0, rounded like a product of floats, but never to 0 or infinity."""
        mantissa, exponent = 1.0, 0
        for factor in factors:
            own, shift = math.frexp(factor)
            mantissa, carry = math.frexp(mantissa * own)
            exponent += shift + carry
        return cls(mantissa, exponent if mantissa else 0)

    @classmethod
    def sum(cls, numbers: Iterable["Magnitude"]) -> "Magnitude":
        """Returns the sum of some numbers; 0 for none."""
        counted = [number for number in numbers if number.mantissa]
        largest = max((number.exponent for number in counted), default=0)
        mantissa, carry = math.frexp(math.fsum(math.ldexp(n.mantissa, n.exponent - largest) for n in counted))
        return cls(mantissa, largest + carry if mantissa else 0)

    def divided_by(self, other: "Magnitude") -> "Magnitude":
        """Returns this number divided by another one, which must not be 0."""
        mantissa, carry = math.frexp(self.mantissa / other.mantissa)
        return Magnitude(mantissa, self.exponent - other.exponent + carry if mantissa else 0)

    def times(self, other: "Magnitude") -> "Magnitude":
        """Returns the product of this number and another one."""
        mantissa, carry = math.frexp(self.mantissa * other.mantissa)
        return Magnitude(mantissa, self.exponent + other.exponent + carry if mantissa else 0)

    def to_float(self, exponent: int) -> float:
        """Returns this number times 2^exponent as a float: 0 on underflow, the largest float on overflow."""
        return times_power_of_two(self.mantissa, self.exponent + exponent)


def times_power_of_two(value: float, exponent: int) -> float:
    """Returns `value` · 2^exponent; on overflow, the largest float with the same sign."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(sys.float_info.max, value)


def unit_exponent(sizes: Iterable[Magnitude]) -> int:
    """Returns the exponent of the power of two by which the loss is multiplied, given the sizes of its terms.

    The exponent is 0 for losses from 1e-3 to 1e15. The sizes may be approximate.
    """
    exponents = [size.exponent for size in sizes if size.mantissa]
    largest = max(exponents, default=_TARGET_EXPONENT)
    return 0 if _MIN_EXPONENT <= largest <= _MAX_EXPONENT else _TARGET_EXPONENT - largest
