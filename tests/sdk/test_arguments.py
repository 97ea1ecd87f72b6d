"""Options as callers give them: numbers of any library are accepted, and errors name the option and the right form."""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import numpy as np
import pytest

from gramophone import Options
from gramophone.arguments import integer, number
from gramophone.requests import (
    Style,
    content_request,
    estimate_request,
    features_request,
    style_request,
    transfer_request,
)

IMAGE = b"file"
INTEGERS = [
    "size", "iterations", "seed", "report_every", "preview_every", "preview_size", "scales", "lbfgs_history",
    "bit_depth", "tile_size", "priority",
]  # fmt: skip
NUMBERS = ["learning_rate", "tv_weight", "time_limit", "init_noise", "averaging", "plateau"]
TEXTS = ["model", "request_id"]
CHOICES = {
    "fit": "square", "optimizer": "adam", "precision": "float32", "pooling": "average", "padding": "replicate",
    "color": "match", "loss_scale": "paper", "preview_format": "png", "result_format": "tiff",
    "on_disconnect": "cancel",
}  # fmt: skip


def request_with(**options: Any) -> Any:
    return style_request(IMAGE, None, options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    "value", [8, 8.0, np.int32(8), np.uint8(8), np.float32(8), np.float64(8), np.array(8), Fraction(8)]
)
def test_whole_numbers_of_any_type_are_accepted(name, value):
    assert request_with(**{name: value}) == request_with(**{name: 8})


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), Fraction(1, 2)])
def test_numbers_of_any_type_are_accepted(name, value):
    assert request_with(**{name: value}) == request_with(**{name: 0.5})
    assert request_with(**{name: np.int64(1)}) == request_with(**{name: 1})


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("64", TypeError, "a whole number, not '64'; write 64"),
        ("big", TypeError, "not 'big'; write "),
        (1.5, ValueError, "a whole number, not 1.5; write 2"),
        (math.nan, ValueError, "not nan; write "),
        (math.inf, ValueError, "not inf; write "),
        (-math.inf, ValueError, "not -inf"),
        (True, TypeError, "a whole number, not True"),
        (np.bool_(True), TypeError, "a whole number, not True"),
        (2**70, ValueError, "at most"),
        (1e300, ValueError, "at most"),
        ([64], TypeError, "not list"),
        (b"64", TypeError, "not bytes"),
        (np.array([64, 64]), TypeError, "not ndarray"),
        (64j, TypeError, "not complex"),
        (Decimal(64), TypeError, "not Decimal"),
    ],
)
def test_an_error_for_a_value_that_is_no_whole_number_names_the_option(name, value, error, says):
    with pytest.raises(error, match=f"^{name} must be ") as caught:
        request_with(**{name: value})
    assert says.format(name=name) in str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize(
    ("value", "error", "says"),
    [
        ("0.5", TypeError, "a number, not '0.5'; write 0.5"),
        (math.nan, ValueError, "a finite number, not nan; write "),
        (math.inf, ValueError, "a finite number, not inf"),
        (np.float32("nan"), ValueError, "a finite number, not nan"),
        (False, TypeError, "a number, not False"),
        ({}, TypeError, "not dict"),
    ],
)
def test_an_error_for_a_value_that_is_no_number_names_the_option(name, value, error, says):
    with pytest.raises(error, match=f"^{name} must be ") as caught:
        request_with(**{name: value})
    assert says.format(name=name) in str(caught.value)


def test_none_leaves_an_option_out():
    for name in (*INTEGERS, *NUMBERS, *TEXTS, *CHOICES, "init"):
        sent = request_with(**{name: None})
        assert sent == request_with(), name


@pytest.mark.parametrize("name", CHOICES)
def test_an_error_for_a_wrong_choice_lists_the_choices(name):
    for wrong in ("nonsense", CHOICES[name].upper(), "", 1, b"x", True, ["x"]):
        if wrong == "" and name == "on_disconnect":
            continue
        with pytest.raises(ValueError, match=f"^{name} must be one of .*{CHOICES[name]}.*, not "):
            request_with(**{name: wrong})


@pytest.mark.parametrize("name", TEXTS)
def test_text_options_refuse_numbers(name):
    with pytest.raises(TypeError, match=f"^{name} must be a string, not int"):
        request_with(**{name: 5})


def test_an_error_for_an_unknown_option_suggests_the_nearest_names():
    with pytest.raises(TypeError, match=r"no option iterration, sise; did you mean iterations, size\? the options are"):
        request_with(sise=1, iterration=2)
    with pytest.raises(TypeError, match="no option qqqq; the options are averaging, "):
        request_with(qqqq=1)
    with pytest.raises(TypeError, match=r"did you mean seed\?"):
        estimate_request("style", [IMAGE], sead=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("layers", [3, 3.0, np.int64(3), np.array(3)])
def test_a_number_of_layers_may_have_any_number_type(layers):
    assert style_request(IMAGE, layers, {}) == style_request(IMAGE, 3, {})


@pytest.mark.parametrize(
    ("layers", "error", "says"),
    [
        (3.5, ValueError, "layers must be a whole number, not 3.5; write 4"),
        (True, TypeError, "layers must be a whole number, not True"),
        (-1, ValueError, "layers must be a number from 1 to 5"),
        (math.nan, ValueError, "layers must be a whole number, not nan"),
        ([1, 2], TypeError, "layers must be names such as 'conv4_1', not 1"),
        (b"conv1_1", TypeError, "not bytes"),
        (object(), TypeError, "not object"),
        ({"conv1_1": "2"}, TypeError, "weight of layer conv1_1 must be a number, not '2'"),
        ({"conv1_1": math.nan}, ValueError, "weight of layer conv1_1 must be a finite number"),
        ({1: 2.0}, TypeError, "not 1"),
    ],
)
def test_wrong_layers_are_errors_that_say_why(layers, error, says):
    with pytest.raises(error, match="layer") as caught:
        style_request(IMAGE, layers, {})
    assert says in str(caught.value)


def test_weights_and_sizes_outside_of_the_options_are_checked():
    with pytest.raises(TypeError, match="content_weight must be a number, not '1'"):
        transfer_request(IMAGE, IMAGE, None, None, "1", None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="style_weight must be a finite number"):
        transfer_request(IMAGE, IMAGE, None, None, None, math.inf, {})
    with pytest.raises(TypeError, match="weight of a Style must be a number"):
        style_request(Style(IMAGE, weight="2"), None, {})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="scale of a Style must be a finite number"):
        style_request(Style(IMAGE, scale=math.nan), None, {})
    with pytest.raises(TypeError, match="size must be a whole number, not '64'"):
        features_request(IMAGE, [], None, "64", None, None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="time_limit must be a smaller number of seconds"):
        request_with(time_limit=1e300)
    with pytest.raises(ValueError, match="names for a content reconstruction"):
        content_request(IMAGE, 2.0, {})  # type: ignore[arg-type]
    assert integer("x", None) is number("x", None) is None


def test_a_seed_must_fit_32_bits():
    assert request_with(seed=2**32 - 1).options.seed == 2**32 - 1
    with pytest.raises(ValueError, match=r"^seed must be at most 4,294,967,295, not 4294967296"):
        request_with(seed=2**32)
    with pytest.raises(ValueError, match=r"^seed must be at least 0, not -1"):
        request_with(seed=-1)


def test_the_server_checks_ranges_and_names_the_option(server):
    import gramophone

    with gramophone.Client(server.address) as client:
        for name in (*INTEGERS, *NUMBERS):
            if name in ("priority", "bit_depth", "seed"):
                continue
            with pytest.raises(gramophone.InvalidRequestError) as caught:
                client.style(IMAGE, **cast(Options, {name: -1}))
            assert name.removeprefix("preview_") in caught.value.violations[0].field
