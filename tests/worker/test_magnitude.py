"""Products outside the range of a float, and the unit of a loss."""

import math
import sys

import pytest

from gramophone_server.worker.magnitude import Magnitude, times_power_of_two, unit_exponent


@pytest.mark.parametrize("factors", [(0.1, 3.7, 1e5), (1.0, 1.0, 1.0), (1e-30, 7e29, 0.3), (0.0, 5.0), (5e-324,)])
def test_a_product_equals_the_product_of_floats_exactly(factors):
    assert Magnitude.of(*factors).to_float(0) == math.prod(factors)


def test_products_outside_the_range_of_a_float():
    huge, tiny = Magnitude.of(1e300, 1e300, 3.0), Magnitude.of(1e-300, 1e-300, 3.0)
    assert huge.divided_by(Magnitude.of(1e300, 1e299)).to_float(0) == pytest.approx(30)
    assert tiny.divided_by(Magnitude.of(1e-300, 1e-301)).to_float(0) == pytest.approx(30)
    assert (huge.to_float(0), tiny.to_float(0)) == (sys.float_info.max, 0.0)


def test_a_result_beyond_the_range_is_the_largest_float():
    assert times_power_of_two(-1.0, 5000) == -sys.float_info.max
    assert times_power_of_two(3.0, 2) == 12.0


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e5, 1e13])
def test_usual_losses_keep_their_unit(size):
    assert unit_exponent([Magnitude.of(size), Magnitude.of(1e-30), Magnitude.of(0.0)]) == 0


@pytest.mark.parametrize("size", [1e-300, 1e-20, 1e-5, 1e16, 1e20, 1e300])
def test_very_small_and_very_large_losses_are_scaled_to_about_1e9(size):
    assert 1e8 < times_power_of_two(size, unit_exponent([Magnitude.of(size), Magnitude.of(1e-3, size)])) < 1e10


def test_the_unit_without_losses_is_0():
    assert unit_exponent([]) == unit_exponent([Magnitude.of(0.0)]) == 0
