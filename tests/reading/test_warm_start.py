"""Which jobs have a warm start, and what their levels are."""

from typing import Any

import pytest

from gramophone.options import JobKind
from gramophone.requests import estimate_request
from gramophone_server.messages.spec import JobSpec
from gramophone_server.models.store import BUILTIN_MODEL
from gramophone_server.rpc.violations import InvalidRequestError
from tests.harness import png
from tests.requests import read_job

OTHER = "vgg19-random"


def read(kind: JobKind = "style", *, model: str = OTHER, **options: Any) -> JobSpec:
    pictures = [png(seed=1), png(seed=2)] if kind == "transfer" else [png(seed=1)]
    return read_job(estimate_request(kind, pictures, model=model, size=128, **{"iterations": 120, **options}), model)


def levels(spec: JobSpec) -> list[tuple[int, int, str]]:
    return [(level.width, level.iterations, level.model) for level in spec.levels]


def test_the_small_model_runs_through_each_size_but_the_coarsest():
    spec = read()
    assert spec.options.warm_start
    assert levels(spec) == [(64, 15, ""), (128, 20, BUILTIN_MODEL), (128, 85, "")]
    assert spec.models == (OTHER, BUILTIN_MODEL)


def test_without_a_pyramid_a_warm_start_adds_one_level():
    assert levels(read(scales=1)) == [(128, 20, BUILTIN_MODEL), (128, 100, "")]


def test_each_level_of_a_short_job_has_an_iteration():
    assert levels(read(iterations=8)) == [(64, 1, ""), (128, 3, BUILTIN_MODEL), (128, 4, "")]


def test_without_a_warm_start_all_levels_use_the_own_model():
    spec = read(warm_start=False)
    assert levels(spec) == [(64, 15, ""), (128, 105, "")]
    assert spec.models == (OTHER,)
    assert not spec.options.warm_start


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        ("style", {"init": "noise"}, True), ("style", {"init": "style_statistics"}, True),
        ("style", {"init": "blend"}, False), ("style", {"optimizer": "adam"}, False),
        ("style", {"layers": ["conv1_1", "conv2_2"]}, True), ("style", {"layers": ["conv1_1", "conv3_3"]}, False),
        ("style", {"model": BUILTIN_MODEL}, False), ("content", {}, False), ("transfer", {}, False),
        ("style", {"iterations": 7}, False),
    ],
)  # fmt: skip
def test_the_default_depends_on_the_job(kind, options, expected):
    spec = read(kind, **options)
    assert spec.options.warm_start == expected
    assert any(level.model for level in spec.levels) == expected


@pytest.mark.parametrize(
    ("kind", "options"),
    [("transfer", {}), ("content", {}), ("style", {"optimizer": "adam"}), ("style", {"init": "blend"})],
)
def test_a_request_can_ask_for_a_warm_start(kind, options):
    assert read(kind, warm_start=True, **options).models == (OTHER, BUILTIN_MODEL)


def test_the_small_model_itself_needs_no_warm_start():
    spec = read(model=BUILTIN_MODEL, warm_start=True)
    assert not spec.options.warm_start
    assert spec.models == (BUILTIN_MODEL,)


def test_a_warm_start_with_a_layer_that_the_small_model_lacks_is_refused():
    with pytest.raises(InvalidRequestError) as refused:
        read(warm_start=True, layers=["conv1_1", "conv3_3"])
    ((field, reason),) = refused.value.violations
    assert field == "options.warm_start"
    assert reason.startswith("is true, but the model vgg19-slim has no layer conv3_3; leave it out, or use the layers ")


def test_a_recipe_names_the_model_of_a_level_that_has_one():
    assert read(scales=1).recipe()["levels"] == [
        {"width": 128, "height": 128, "iterations": 20, "model": BUILTIN_MODEL},
        {"width": 128, "height": 128, "iterations": 100},
    ]
