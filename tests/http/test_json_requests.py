"""Requests in JSON: what fits becomes the same message as with google.protobuf, and each misfit names its field."""

import json
from typing import Any

import pytest
from google.protobuf import json_format

from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.http.json_requests import parsed
from gramophone_server.rpc.violations import InvalidRequestError, MalformedRequestError

KIND = pb.ReconstructStyleRequest


def wrong(value: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequestError) as caught:
        parsed(json.dumps(value).encode(), KIND)
    return dict(caught.value.violations)


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"options": {"size": 64, "learningRate": 1, "learning_rate": None}},
        {"options": {"size": "64", "seed": "4294967295", "iterations": 1e3}},
        {"options": {"learningRate": "NaN", "plateau": "-Infinity", "averaging": "0.5"}},
        {"options": {"optimizer": "OPTIMIZER_LBFGS", "init": 4, "pooling": 99}},
        {"options": {"timeLimit": "1.5s"}, "styles": [{"image": {"data": "aGk"}}, {"image": {"data": "-_+/"}}]},
        {"styles": None, "styleLayers": [{"layer": "conv1_1", "weight": 0.5}]},
        {"submission": {"requestId": "é\u0000"}},
    ],
)
def test_what_fits_becomes_the_message_of_protobuf(value):
    expected = json_format.ParseDict(value, KIND())
    # NaN differs from itself, but not in the bytes.
    assert parsed(json.dumps(value).encode(), KIND).SerializeToString() == expected.SerializeToString()


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ({"option": {}}, "option", "styles, style_layers, options"),
        ({"options": {"sice": 1}}, "options.sice", "not a field of SynthesisOptions"),
        ({"options": 3}, "options", "JSON object"),
        ({"options": {"size": "big"}}, "options.size", '"big"'),
        ({"options": {"size": 1.5}}, "options.size", "integer"),
        ({"options": {"size": True}}, "options.size", "integer"),
        ({"options": {"size": 2**31}}, "options.size", "2147483647"),
        ({"options": {"size": 10**400}}, "options.size", "integer"),
        ({"options": {"seed": -1}}, "options.seed", "from 0"),
        ({"options": {"learningRate": "fast"}}, "options.learning_rate", "a number"),
        ({"options": {"learningRate": 10**400}}, "options.learning_rate", "a number"),
        ({"options": {"optimizer": "ADAM"}}, "options.optimizer", "OPTIMIZER_ADAM"),
        ({"options": {"reproducible": "yes"}}, "options.reproducible", "true or false"),
        ({"options": {"model": 5}}, "options.model", "a string"),
        ({"options": {"model": "\ud800"}}, "options.model", "a string"),
        ({"options": {"timeLimit": "soon"}}, "options.time_limit", "1.5s"),
        ({"options": {"timeLimit": {"seconds": 1}}}, "options.time_limit", "1.5s"),
        ({"options": {"timeLimit": "1e999s"}}, "options.time_limit", "1.5s"),
        ({"options": {"a\ud800": 1}}, "options.a?", "not a field"),
        ({"styles": {}}, "styles", "brackets"),
        ({"styles": [{}] * 17}, "styles", "1 to 16"),
        ({"styles": [{}, 5]}, "styles[1]", "JSON object"),
        ({"styles": [{"image": {"data": "a!b"}}]}, "styles[0].image.data", "base64"),
        ({"styles": [{"image": {"data": "abcde"}}]}, "styles[0].image.data", "base64"),
    ],
)
def test_what_does_not_fit_names_its_field(value, field, words):
    found = wrong(value)
    assert found.keys() == {field}
    assert words in found[field]


def test_all_misfits_are_named_at_once():
    value = {"x": 1, "options": {"size": "a", "iterations": []}, "styles": [{"weight": "b"}]}
    assert wrong(value).keys() == {"x", "options.size", "options.iterations", "styles[0].weight"}


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b"null", b'"x"', b'{"options": {}, "options": {}}', b"\xff", b"[" * 10**5]
)
def test_what_is_no_json_object_is_malformed(data):
    with pytest.raises(MalformedRequestError):
        parsed(data, KIND)


def test_an_estimate_leaves_the_oneof_out_of_its_paths():
    with pytest.raises(InvalidRequestError) as caught:
        parsed(b'{"style": {"options": {"size": "x"}}}', pb.EstimateJobRequest)
    assert [field for field, _ in caught.value.violations] == ["options.size"]


def test_a_list_that_is_too_long_names_its_field():
    assert wrong({"options": {"styleLosses": [{"loss": 1}] * 1000}}).keys() == {"options.style_losses"}


@pytest.mark.parametrize("data", [b'{"a": [' + b"1," * 20_000 + b"1]}", b'{"a": [' + b"{}" * 20_000, b"[" * 20_000])
def test_a_request_of_very_many_values_is_refused_before_it_is_parsed(data, monkeypatch):
    monkeypatch.setattr("json.loads", None)
    with pytest.raises(MalformedRequestError, match="more than 4,000 fields"):
        parsed(data, KIND)
