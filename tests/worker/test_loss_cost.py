"""The operations of the style losses of a job: all levels, layers and regions."""

from typing import Any

import pytest
from PIL import Image

from gramophone import Style
from gramophone.requests import estimate_request
from gramophone_server.engine.losses import style_loss, style_losses
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.worker.loss_cost import iteration_operations, job_operations
from tests.harness import encode, png
from tests.requests import read_job

MANIFEST = ModelStore().get(BUILTIN_MODEL).manifest


@pytest.mark.parametrize("name", sorted(name for name, loss in style_losses().items() if not loss.on_canvas))
def test_operations_are_those_of_each_layer_and_iteration(name):
    spec = read_job(
        estimate_request("style", [png(64, 64)], size=64, iterations=5, scales=1, style_loss=name), BUILTIN_MODEL
    )
    expected = 0.0
    for layer in MANIFEST.layers:
        if layer.name in {w.layer for w in spec.style_layers}:
            positions = (64 // layer.stride) ** 2
            expected += style_loss(name).operations(layer.channels, positions, positions)
    assert iteration_operations(spec, MANIFEST, spec.levels[-1]) == {name: pytest.approx(expected)}
    assert job_operations(spec, MANIFEST) == {name: pytest.approx(5 * expected)}


def test_every_level_of_the_pyramid_counts_with_its_size_and_that_of_its_styles():
    options: dict[str, Any] = {"size": 128, "iterations": 8, "style_loss": "nearest_neighbor"}
    spec = read_job(estimate_request("style", [png(128, 128)], scales=2, **options), BUILTIN_MODEL)
    coarse, fine = (iteration_operations(spec, MANIFEST, level)["nearest_neighbor"] for level in spec.levels)
    assert coarse == pytest.approx(fine / 16)
    total = sum(level.iterations * count for level, count in zip(spec.levels, (coarse, fine), strict=True))
    assert job_operations(spec, MANIFEST) == {"nearest_neighbor": pytest.approx(total)}


def test_every_loss_of_a_combination_counts():
    options: dict[str, Any] = {"size": 64, "iterations": 1, "scales": 1}
    combined: tuple[Any, ...] = "gram", {"gram": 1.0, "nearest_neighbor": 0.5}, {"gram": 1.0, "spectrum": 0.5}
    alone, both, flat = (
        job_operations(
            read_job(estimate_request("style", [png(64, 64)], style_loss=loss, **options), BUILTIN_MODEL), MANIFEST
        )
        for loss in combined
    )
    assert both["gram"] == alone["gram"] == flat["gram"]
    assert both["nearest_neighbor"] > 0
    assert flat["spectrum"] == 0


def test_every_region_has_a_loss_of_its_own():
    mask = png(64, 64, seed=5)
    one, two = [Style(png(64, 64))], [Style(png(64, 64)), Style(png(64, 64, seed=2), mask=mask)]
    counts = []
    for styles in (one, two):
        request = estimate_request("transfer", [png(64, 64, seed=1), styles], size=64, padding="zeros", scales=1)
        counts.append(job_operations(read_job(request, BUILTIN_MODEL), MANIFEST)["gram"])
    assert counts[1] == 2 * counts[0]


def test_every_region_of_a_map_has_a_loss_of_its_own():
    halves = Image.new("RGB", (64, 64), "red")
    halves.paste("blue", (0, 0, 32, 64))
    regions = encode(halves, "PNG")
    counts = []
    cases: tuple[tuple[Any, dict[str, Any]], ...] = (
        (png(64, 64), {}),
        (Style(png(64, 64), source_map=regions), {"canvas_map": regions}),
    )
    for style, more in cases:
        request = estimate_request(
            "transfer", [png(64, 64, seed=1), [style]], size=64, padding="zeros", scales=1, **more
        )
        counts.append(job_operations(read_job(request, BUILTIN_MODEL), MANIFEST)["gram"])
    assert counts[1] == 2 * counts[0]
