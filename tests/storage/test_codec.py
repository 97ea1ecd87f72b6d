"""The stored form of specs, progress, results and failures, and of specs of earlier and later versions."""

import json
from dataclasses import replace
from typing import Any

import pytest

from gramophone_server.messages.events import EncodedPicture, Failure, LossTerm, Progress, Result
from gramophone_server.messages.options import ResultOptions
from gramophone_server.messages.spec import JobSpec, Mask, Picture, StylePicture
from gramophone_server.storage import codec
from tests.messages.specs import make_spec

TERMS = (LossTerm("style", "conv1_1", 0.1, 1 / 3, None), LossTerm("style", "conv2_1", 1e30, 0.2, 1))


@pytest.fixture
def spec() -> JobSpec:
    picture = Picture(2, 1, b"abcdef", "0" * 64, "a" * 64)
    mask, source_mask = Mask(1, 1, b"\xff", "2" * 64, "c" * 64), Mask(1, 1, b"\x80", "3" * 64, "d" * 64)
    masked = StylePicture(Picture(1, 1, b"xyz", "1" * 64, "b" * 64), 1 / 3, mask, source_mask)
    styles = (StylePicture(picture, 2 / 3), masked)
    return make_spec(content=picture, styles=styles, init_image=picture, time_limit=0.1, tv_weight=1e-300)


def test_a_spec_is_decoded_as_encoded(spec):
    assert codec.decode_spec(codec.encode_spec(spec)) == spec.without_pixels()


def test_a_spec_has_the_hashes_of_its_pixels_instead_of_pixels(spec):
    values = json.loads(codec.encode_spec(spec))
    assert values["content"] == {"width": 2, "height": 1, "rgb": "a" * 64, "sha256": "0" * 64}
    assert values["styles"][1]["source_mask"] == {"width": 1, "height": 1, "levels": "d" * 64, "sha256": "3" * 64}
    pixels = {"a" * 64: b"abcdef", "b" * 64: b"xyz", "c" * 64: b"\xff", "d" * 64: b"\x80"}
    assert codec.decode_spec(json.dumps(values)).with_pixels(pixels.__getitem__) == spec


def test_a_spec_keeps_which_pictures_have_alpha():
    spec = make_spec()
    assert '"alpha"' not in codec.encode_spec(spec)
    transparent = spec.with_each(lambda part: replace(part, alpha=True))
    decoded = codec.decode_spec(codec.encode_spec(transparent))
    assert decoded == transparent.without_pixels()
    assert decoded.styles[0].picture.size == 4 * 64 * 64


def test_a_region_of_a_map_keeps_its_color_and_its_index():
    mask = Mask(2, 2, b"", "0" * 64, "a" * 64, color="#ff0000", index=1)
    spec = make_spec(styles=(StylePicture(Picture(1, 1, b"", "1" * 64, "b" * 64), 1.0, mask),))
    decoded = codec.decode_spec(codec.encode_spec(spec))
    assert decoded == spec
    (style,) = decoded.with_pixels(lambda blob: b"\0\1\2\1").styles
    assert style.mask is not None and style.mask.levels == b"\0\xff\0\xff"
    assert style.mask.recipe() == {"sha256": "0" * 64, "color": "#ff0000"}


def test_a_spec_keeps_the_warnings_of_its_pictures():
    spec = make_spec()
    assert spec.warnings == [] and "warning" not in codec.encode_spec(spec)
    damaged = spec.with_each(lambda part: replace(part, warning="content.data is damaged."))
    assert codec.decode_spec(codec.encode_spec(damaged)).warnings == ["content.data is damaged."]


def changed(spec: JobSpec, **values: Any) -> str:
    """Encodes the spec with some values or options changed."""
    kept = json.loads(codec.encode_spec(spec))
    options = {name: value for name, value in values.items() if name in kept["options"]}
    kept["options"] |= options
    return json.dumps(kept | {name: value for name, value in values.items() if name not in options})


def encode_version_2(spec: JobSpec, **values: Any) -> str:
    """Encodes the spec in version 2: options are fields of the spec, and `paced` stands for report_every = 0."""
    kept = json.loads(changed(spec, version=2)) | {"paced": False}
    options = {name: value for name, value in kept.pop("options").items() if name in codec._OPTIONS_OF_2}
    return json.dumps(kept | options | {"tile_size": None} | values)


def encode_version_1(spec: JobSpec, **values: Any) -> str:
    """Encodes the spec in version 1: like version 2, but without a version and without `paced`."""
    kept = json.loads(encode_version_2(spec, **values))
    del kept["version"], kept["paced"]
    return json.dumps(kept)


def test_a_spec_has_its_version(spec):
    assert json.loads(codec.encode_spec(spec))["version"] == codec.SPEC_VERSION == 1 + len(codec.UPGRADES)


@pytest.mark.parametrize(
    ("values", "paced"), [({}, False), ({"report_pause": 0.0}, False), ({"report_pause": 0.5}, True)]
)
def test_a_spec_of_version_1_is_read(spec, values, paced):
    assert codec.decode_spec(encode_version_1(spec, **values)) == (
        spec.without_pixels().with_options(report_every=0 if paced else spec.options.report_every)
    )


@pytest.mark.parametrize(
    ("values", "options"),
    [
        ({}, {}), ({"tile_size": 128}, {"tile_size": 128}), ({"paced": True, "report_every": 10}, {"report_every": 0}),
        ({"seed": 2**63 - 1}, {"seed": 2**63 - 1}), ({"result": {"format": "tiff", "bit_depth": 16}}, {
            "result": ResultOptions(format="tiff", bit_depth=16)}),
    ],
)  # fmt: skip
def test_a_spec_of_version_2_is_read(spec, values, options):
    assert codec.decode_spec(encode_version_2(spec, **values)) == spec.without_pixels().with_options(**options)


def test_the_style_layers_of_a_spec_of_version_3_get_its_loss(spec):
    kept = json.loads(changed(spec, version=3, style_loss="mean_covariance"))
    for layer in kept["style_layers"]:
        del layer["loss"]
    del kept["options"]["style_losses"]
    read = codec.decode_spec(json.dumps(kept))
    assert read.style_losses == ("mean_covariance",)
    assert [layer.layer for layer in read.style_layers] == [layer.layer for layer in spec.style_layers]


def test_a_job_of_version_4_has_no_warm_start(spec):
    kept = json.loads(changed(spec, version=4))
    del kept["options"]["warm_start"]
    for level in kept["levels"]:
        del level["model"]
    assert codec.decode_spec(json.dumps(kept)) == spec.without_pixels()


def test_a_spec_gets_the_upgrades_since_its_version(spec, monkeypatch):
    calls = []

    def step(values: dict[str, object]) -> dict[str, object]:
        calls.append(values["options"]["seed"])  # type: ignore[index]
        return values | {"options": values["options"] | {"seed": 7}}

    monkeypatch.setattr(codec, "UPGRADES", (*codec.UPGRADES, step))
    monkeypatch.setattr(codec, "SPEC_VERSION", codec.SPEC_VERSION + 1)
    assert codec.decode_spec(encode_version_2(spec, seed=4)).options.seed == 7
    assert codec.decode_spec(changed(spec, version=4, seed=5)).options.seed == 7
    assert codec.decode_spec(encode_version_1(spec, seed=6)).options.seed == 7
    assert codec.decode_spec(changed(spec, version=codec.SPEC_VERSION, seed=5)).options.seed == 5
    assert calls == [4, 5, 6]


def test_a_spec_of_a_later_version_is_an_error(spec):
    with pytest.raises(
        codec.LaterVersionError, match=f"version 99, and this server reads versions 1 to {codec.SPEC_VERSION}"
    ):
        codec.decode_spec(changed(spec, version=99, whatever="is new"))


@pytest.mark.parametrize("version", ["2", 0, -1, True, None, 1.5, [], {}])
def test_an_invalid_version_is_an_error(spec, version):
    with pytest.raises(codec.UnreadableError, match="not a version"):
        codec.decode_spec(changed(spec, version=version))


@pytest.mark.parametrize(
    "values",
    [
        {"version": 1, "report_pause": None}, {"width": 0}, {"height": -5}, {"width": 2**40}, {"levels": []},
        {"report_every": -1}, {"iterations": -1}, {"levels": [{"width": 0, "height": 1, "iterations": 1}]},
        {"kind": "sculpture"}, {"optimizer": "sgd"}, {"model": "\ud800"}, {"grain": 1},
        {"content": {"width": 0, "height": 1, "rgb": "", "sha256": ""}},
    ],
    ids=str,
)  # fmt: skip
def test_an_invalid_spec_is_an_error(spec, values):
    with pytest.raises(codec.UnreadableError):
        codec.decode_spec(changed(spec, **values))


def test_a_spec_with_non_latin_text(spec):
    other = spec.without_pixels().with_options(model="日本語 😀")
    assert codec.decode_spec(codec.encode_spec(other)) == other


def test_progress_is_stored_without_its_preview():
    progress = Progress(3, 9, 0.1, TERMS, 2.5, 1.0, 2.0, EncodedPicture(b"preview", "jpeg", 1, 1))
    assert codec.decode_progress(codec.encode_progress(progress)) == replace(progress, preview=None)


def test_a_result_is_stored_without_its_file():
    result = Result(EncodedPicture(b"file", "tiff", 2, 3), 1e-9, TERMS, 7, "model", '{"a": "ä"}', 0.1, 0.2, 0.3)
    text = codec.encode_result(result)
    assert "file" not in text
    assert codec.decode_result(text, b"file") == result


def test_a_failure_is_decoded_as_encoded():
    failure = Failure("OUT_OF_RANGE", "The loss …")
    assert codec.decode_failure(codec.encode_failure(failure)) == failure


def test_an_unknown_failure_code_becomes_internal_and_keeps_its_message():
    text = '{"code": "ABORTED", "message": "why", "more": 1}'
    assert codec.decode_failure(text) == Failure("INTERNAL", "why")


def test_unknown_fields_are_ignored_but_unknown_values_are_errors():
    result = Result(EncodedPicture(b"", "png", 2, 3), 1e-9, TERMS, 7, "model", "{}", 0.1, 0.2, 0.3)
    values = json.loads(codec.encode_result(result)) | {"score": 1}
    assert codec.decode_result(json.dumps(values), b"") == result
    for term in ({"kind": "edges"}, {"region": -1}, {"region": 2**40}):
        with pytest.raises(codec.UnreadableError):
            codec.decode_result(json.dumps(values | {"terms": [values["terms"][0] | term]}), b"")


def test_without_pixels_keeps_only_the_hashes(spec):
    bare = spec.without_pixels()
    assert len(list(bare.pictures())) == 6
    assert all(part.pixels == b"" for part in bare.pictures())
    assert [part.blob for part in bare.pictures()] == [part.blob for part in spec.pictures()]
