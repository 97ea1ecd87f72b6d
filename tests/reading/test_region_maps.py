"""The regions of a canvas and the styles that they get, by the colors of maps."""

import pytest

from gramophone_server.decoding.messages import Region, Regions
from gramophone_server.reading.region_maps import RegionStyle, match_regions
from gramophone_server.rpc.violations import Checker


def regions(**areas: float) -> Regions:
    """Regions by their colors in hexadecimal digits after an x."""
    return Regions("", tuple(Region(f"#{color[1:]}", area) for color, area in areas.items()))


def matched(canvas: Regions, *maps: Regions, weights: tuple[float, ...] = (1.0,), keep: bool = False):
    check = Checker()
    found = match_regions(canvas, maps, weights, check, keep=keep)
    return found, dict(check.violations)


def test_regions_are_matched_by_color_and_count_by_area():
    canvas = regions(x0000ff=0.7, xff0000=0.3)
    found, violations = matched(canvas, regions(xff0000=0.9, x0000ff=0.1))
    assert found == [RegionStyle(0, 0, 1, 0.7), RegionStyle(0, 1, 0, 0.3)]
    assert not violations


def test_slightly_different_colors_match_and_each_is_used_once():
    found, violations = matched(regions(x646464=0.6, x7e6464=0.4), regions(x666464=0.5, x846464=0.5))
    assert [(pair.region, pair.source) for pair in found] == [(0, 0), (1, 1)]
    assert not violations
    _, violations = matched(regions(x646464=0.6, x7e6464=0.4), regions(x666464=1.0))
    assert "#7e6464" in violations["options.canvas_map"]


def test_a_color_of_several_maps_mixes_its_styles_by_their_weights():
    canvas = regions(x0000ff=0.5, xff0000=0.5)
    found, _ = matched(canvas, regions(x0000ff=1.0), regions(x0000ff=0.5, xff0000=0.5), weights=(3.0, 1.0))
    assert found == [RegionStyle(0, 0, 0, 0.375), RegionStyle(1, 0, 0, 0.125), RegionStyle(1, 1, 1, 0.5)]


def test_a_color_without_a_style_is_an_error_unless_the_content_is_kept():
    canvas = regions(x0000ff=0.88, x00ff00=0.12)
    _, violations = matched(canvas, regions(x0000ff=1.0))
    assert "has the color #00ff00" in violations["options.canvas_map"]
    assert "0.12 of its area" in violations["options.canvas_map"]
    found, violations = matched(canvas, regions(x0000ff=1.0), keep=True)
    assert found == [RegionStyle(0, 0, 0, 0.88)] and not violations


@pytest.mark.parametrize("keep", [False, True])
def test_a_style_without_a_color_of_the_canvas_is_an_error(keep):
    _, violations = matched(regions(x0000ff=1.0), regions(x0000ff=1.0), regions(xff0000=1.0), weights=(1, 1), keep=keep)
    assert list(violations) == ["styles[1].source_map"]
    assert "#ff0000" in violations["styles[1].source_map"] and "#0000ff" in violations["styles[1].source_map"]
