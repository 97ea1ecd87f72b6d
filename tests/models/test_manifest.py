"""Manifests of models: reading, writing, and invalid ones."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gramophone_server.models.manifest import Layer, Manifest, ManifestError, Preprocessing

CAFFE = Preprocessing("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
MANIFEST = Manifest("m", (Layer("conv1_1", 64, 1),), CAFFE, "ab" * 32, "d", "s", "l", parity={"conv1_1": 1e-7})


def test_a_manifest_is_read_as_written():
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST


def test_manifests_of_earlier_versions_are_read():
    values = json.loads(MANIFEST.to_json())
    values["licence"] = values.pop("license")
    assert Manifest.from_json(json.dumps(values)) == MANIFEST


def test_only_layers_with_a_head_are_written_with_head():
    assert '"head"' not in MANIFEST.to_json()
    headed = replace(MANIFEST, layers=(Layer("conv1_1", 64, 1, head=True), Layer("conv1_2", 64, 1)))
    assert headed.to_json().count('"head": true') == headed.to_json().count('"head"') == 1
    assert Manifest.from_json(headed.to_json()) == headed


@pytest.mark.parametrize("library", [np, torch])
def test_preprocessing_as_an_affine_map_of_arrays_and_tensors(library):
    wants = Preprocessing("BGR", 255.0, (10, 20, 30), (1, 2, 4))
    indices, scale, shift = wants.affine
    rgb = library.asarray([0.2, 0.4, 0.8]).reshape(1, 3)
    got = rgb[:, list(indices)] * library.asarray(scale) + library.asarray(shift)
    expected = [(255 * 0.8 - 10) / 1, (255 * 0.4 - 20) / 2, (255 * 0.2 - 30) / 4]
    assert got[0].tolist() == pytest.approx(expected, rel=1e-6)


def changed(**values: Any) -> str:
    return json.dumps(json.loads(MANIFEST.to_json()) | values)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a model's manifest"),
        ("[]", "not a model's manifest"),
        (changed(format=99), "upgrade"),
        ("[" * 100_000, "nested too deep"),
        (b"\xff\xfe{}", "not a model's manifest"),
        (changed(tv_weight=float("nan")), "NaN is not a number"),
        (changed(tv_weight=10**400), "tv_weight of the manifest is not a number"),
        (changed(tv_weight=-1), "tv_weight of the manifest is not a number"),
        (changed(tv_weight=True), "tv_weight of the manifest is not a number"),
        (changed(lbfgs_history=0), "lbfgs_history of the manifest is not a whole number from 1 to 200"),
        (changed(lbfgs_history="20"), "lbfgs_history of the manifest is not a whole number"),
        (changed(pooling="median"), "pooling of the manifest is not max or average or average_rescaled"),
        (changed(pooling=["max"]), "pooling of the manifest is not"),
        (changed(parity={"conv1_1": "good"}), "parity of the manifest is not an object of layers and numbers"),
        (changed(parity=[1]), "parity of the manifest is not an object of layers and numbers"),
        (changed(sha256="AB" * 32), "64 hexadecimal digits"),
        (changed(description="\ud800"), "description of the manifest is not a string"),
        (changed(description=None), "the manifest has no description"),
        (changed(layers=[]), "not a list of 1 to 256 layers"),
        (changed(layers={}), "not a list of 1 to 256 layers"),
        (changed(layers=["conv1_1"]), "a layer is not an object"),
        (changed(layers=[{"name": "conv1_1", "channels": 64, "stride": 1}] * 2), "contain a duplicate"),
        (changed(layers=[{"name": "conv1_1", "channels": 0, "stride": 1}]), "channels of a layer is not"),
        (changed(layers=[{"name": "conv1_1", "channels": 1.5, "stride": 1}]), "channels of a layer is not"),
        (changed(layers=[{"name": "conv1_1", "channels": 64, "stride": 0}]), "stride of a layer is not"),
        (changed(layers=[{"name": "a,b", "channels": 64, "stride": 1}]), "'a,b' is not the name of a layer"),
        (changed(style_layers=["conv9_1"]), "style_layers is not a list of layers of the model"),
        (changed(content_layers=[]), "content_layers is not a list of layers of the model"),
        (changed(layers=[{"name": "conv1_1", "channels": 64, "stride": 1, "more": 1}]), "unknown 'more'"),
        (changed(preprocessing=[]), "preprocessing is not an object"),
        (changed(layers=[{"name": "conv1_1"}]), "not a model's manifest"),
        (changed(unknown=1), "not a model's manifest"),
        (changed(preprocessing={"order": "GRB", "range": 1, "mean": [0] * 3, "std": [1] * 3}), "neither RGB nor BGR"),
        (changed(preprocessing={"order": "RGB", "range": 1, "mean": [0] * 3, "std": [0] * 3}), "std"),
        (changed(preprocessing={"order": "RGB", "range": 1, "mean": [0], "std": [1] * 3}), "3 numbers"),
    ],
)
def test_invalid_manifests_are_refused(text, reason):
    with pytest.raises(ManifestError, match=reason):
        Manifest.from_json(text)


def test_the_smallest_side_of_a_layer_is_its_stride_if_nothing_else_is_given():
    layers = (Layer("a", 4, 2), Layer("b", 4, 4, least=11))
    manifest = replace(MANIFEST, layers=layers, style_layers=("a",), content_layers=("b",), parity={})
    assert [manifest.min_side([layer.name]) for layer in layers] == [2, 11]
    assert manifest.min_side(["a", "b"]) == 11
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json().count('"least"') == 1


def test_usual_defaults_are_not_written():
    assert "lbfgs_history" not in MANIFEST.to_json()
    assert "tv_weight" not in MANIFEST.to_json()
    other = replace(MANIFEST, lbfgs_history=10, tv_weight=1e-5)
    assert Manifest.from_json(other.to_json()) == other


def test_the_loss_scale_of_the_paper_is_not_written():
    assert "loss_scale" not in MANIFEST.to_json()
    relative = replace(MANIFEST, loss_scale="relative")
    assert Manifest.from_json(relative.to_json()) == relative
