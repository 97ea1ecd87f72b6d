"""Counting the fields of a serialized message before it is parsed."""

import time

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from gramophone.v1 import job_pb2, job_service_pb2, model_service_pb2, options_pb2
from gramophone.v1 import style_transfer_service_pb2 as pb
from gramophone_server.reading.wire import MAX_FIELDS, WireError, check_wire, max_items
from gramophone_server.rpc.violations import InvalidRequestError
from tests.faults.calls import METHODS, calls
from tests.harness import style_request


def varint(value: int) -> bytes:
    """Encodes a number as a varint."""
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def field(number: int, content: bytes) -> bytes:
    """Encodes a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


STYLE = pb.ReconstructStyleRequest.DESCRIPTOR
NUMBER = {f.name: f.number for f in STYLE.fields}
OPTIONS = {f.name: f.number for f in options_pb2.SynthesisOptions.DESCRIPTOR.fields}


def refused(data: bytes, descriptor: Descriptor = STYLE) -> tuple[str, str]:
    """Returns the only violation (path, reason) that `check_wire` raises."""
    with pytest.raises(InvalidRequestError) as caught:
        check_wire(data, descriptor)
    ((path, reason),) = caught.value.violations
    return path, reason


@settings(max_examples=150, deadline=None)
@given(call=calls(lambda: ["x"]))
def test_valid_requests_are_accepted(call):
    for request in call.requests:
        check_wire(request.SerializeToString(), request.DESCRIPTOR)


def test_the_number_of_values_of_a_repeated_field_is_limited():
    layer = options_pb2.LayerWeight(layer="conv1_1").SerializeToString()
    check_wire(field(NUMBER["style_layers"], layer) * 256, STYLE)
    assert refused(field(NUMBER["style_layers"], layer) * 257) == (
        "style_layers",
        "has more than 256 values; it takes 1 to 256",
    )
    assert refused(field(NUMBER["styles"], b"") * 17) == ("styles", "has more than 16 values; it takes 1 to 16")


def test_repeated_fields_of_a_message_sent_in_parts_are_counted_together():
    """A parser merges a message field that occurs twice."""
    job = field(NUMBER["styles"], b"") * 9
    estimate = field(1, job) + field(1, job)
    assert refused(estimate, pb.EstimateJobRequest.DESCRIPTOR)[0] == "styles"


def test_packed_values_are_counted():
    wanted = job_service_pb2.ListJobsRequest(states=[job_pb2.JOB_STATE_QUEUED] * 16)
    check_wire(wanted.SerializeToString(), wanted.DESCRIPTOR)
    wanted.states.append(job_pb2.JOB_STATE_QUEUED)
    assert refused(wanted.SerializeToString(), wanted.DESCRIPTOR) == (
        "states",
        "has more than 16 values; it takes 1 to 16",
    )
    assert refused(field(3, b"\1" * 4_000_000), wanted.DESCRIPTOR)[0] == "states"
    # Incomplete varints in many occurrences of the field.
    assert refused(field(3, b"\xff" * 100) * 30, wanted.DESCRIPTOR)[0] == "states"
    # The same field without packing: each occurrence is one value.
    assert refused(b"\x18\1" * 17, wanted.DESCRIPTOR)[0] == "states"


def test_a_string_counts_as_one_value():
    asked = model_service_pb2.ExtractFeaturesRequest(layers=["\1" * 1000])
    check_wire(asked.SerializeToString(), asked.DESCRIPTOR)


@pytest.mark.parametrize(
    "data",
    [
        field(NUMBER["options"], b"") * 1_000_000,
        field(1000, b"") * 1_000_000,
        b"\xa8\x46\1" * 1_000_000,
        field(NUMBER["options"], field(OPTIONS["size"], b"") * 1_000_000),
    ],
    ids=["repeated message", "unknown fields", "unknown numbers", "fields of another kind"],
)
def test_the_total_number_of_fields_is_limited(data):
    begun = time.process_time()
    path, reason = refused(data)
    assert f"{MAX_FIELDS:,} fields" in reason
    assert path in ("styles", "options")
    assert time.process_time() - begun < 0.5


def test_the_nesting_depth_is_limited():
    data = b""
    for _ in range(100):
        data = field(1, data)
    # The contract has no recursive message, so use DescriptorProto, which has one.
    from google.protobuf import descriptor_pb2

    nested = b""
    for _ in range(100):
        nested = field(3, nested)
    with pytest.raises(InvalidRequestError, match=r"nested deeper|values"):
        check_wire(nested, descriptor_pb2.DescriptorProto.DESCRIPTOR)
    check_wire(data[:0], STYLE)


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x0a" + b"\xff" * 9 + b"\x01", b"\xff" * 20, b"\x0b", b"\x0c", b"\x0d\1\1", b"\x08"],
)
def test_malformed_messages_raise_wire_error(data):
    with pytest.raises(WireError):
        check_wire(data, STYLE)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200))
def test_bytes_accepted_by_check_wire_can_be_parsed(data):
    try:
        check_wire(data, STYLE)
    except (InvalidRequestError, WireError):
        return
    try:
        pb.ReconstructStyleRequest.FromString(data)
    except Exception as error:
        assert "Error parsing message" in str(error)  # noqa: PT017 - for example a string that is not UTF-8


def test_all_repeated_fields_of_the_contract_have_a_limit():
    seen: set[str] = set()

    def visit(descriptor: Descriptor) -> None:
        if descriptor.full_name in seen:
            return
        seen.add(descriptor.full_name)
        for known in descriptor.fields:
            if known.is_repeated:
                assert max_items(known) > 0, known.full_name
            if known.message_type is not None:
                visit(known.message_type)

    for method in METHODS:
        visit(method.input_type)
        visit(method.output_type)
    assert len(seen) > 20


def test_check_wire_of_a_usual_request_is_fast():
    data = style_request().SerializeToString()
    begun = time.process_time()
    for _ in range(100):
        check_wire(data, STYLE)
    assert time.process_time() - begun < 1
