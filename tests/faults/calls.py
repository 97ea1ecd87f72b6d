"""Calls of all methods of the contract, which hypothesis generates from the contract itself.

Most fields of most calls have sensible values, or a call would rarely pass the first check; other fields have any value
that the wire format can carry.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from gramophone.v1 import job_service_pb2, model_service_pb2, options_pb2, style_transfer_service_pb2
from tests.harness import png, png_header

METHODS: list[MethodDescriptor] = [
    method
    for module in (style_transfer_service_pb2, job_service_pb2, model_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
PICTURES = [png(16 * side, 32, seed=side) for side in (1, 2, 3)]
UPLOADED = hashlib.sha256(PICTURES[0]).hexdigest()
NOT_PICTURES = [b"", b"GIF89a", png_header(60_000, 60_000), PICTURES[0][:100], bytes(1000)]
STRINGS = ["", " ", "\0", "'; --", "../..", "%s{}", "ü" * 3000, "conv1_1\n", "\U0010ffff", "x" * 20_000]
NUMBERS = [0.0, -0.0, -1.0, 1e308, 5e-324, 1e-30, 1e30, math.nan, math.inf, -math.inf]
INTEGERS = [0, 1, -1, 7, 16, 255, 2**31 - 1, -(2**31)]
LONG_INTEGERS = [*INTEGERS, 2**63 - 1, -(2**63), 253402300800]

F = FieldDescriptor
# Values that the server accepts, by field name, for fields that do not accept every value of their type.
SENSIBLE: dict[str, st.SearchStrategy[Any]] = {
    "size": st.integers(16, 48),
    "iterations": st.integers(1, 3),
    "report_every": st.integers(1, 3),
    "every": st.integers(0, 3),
    "scales": st.integers(1, 2),
    "tile_size": st.integers(64, 80),
    "bit_depth": st.sampled_from([8, 16]),
    "lbfgs_history": st.integers(1, 30),
    "priority": st.integers(-10, 10),
    "page_size": st.integers(1, 20),
    "offset": st.integers(0, 2000),
    "after_sequence": st.integers(0, 5),
    "seed": st.integers(0, 2**32 - 1),
    "model": st.just("vgg19-random"),
    "layer": st.sampled_from(["conv1_1", "conv2_1", "conv1_2", "relu2_2", "conv3_1"]),
    "layers": st.sampled_from(["conv1_1", "conv2_1", "conv1_2", "relu2_2", "conv3_1"]),
    "sha256": st.just(""),
    "owner": st.just(""),
    "page_token": st.just(""),
    "seconds": st.integers(1, 2),
    "nanos": st.just(0),
}


@dataclass(frozen=True)
class Call:
    """A method and its requests: one, or any number for a client stream."""

    method: MethodDescriptor
    requests: list[Message]


def calls(job_ids: Callable[[], list[str]]) -> st.SearchStrategy[Call]:
    """Returns a strategy for calls; most calls that name a job name one of `job_ids()`."""

    @st.composite
    def one(draw: st.DrawFn) -> Call:
        # The methods that paint are drawn twice as often, because most of the contract is about them.
        painting = style_transfer_service_pb2.DESCRIPTOR.services_by_name["StyleTransferService"].methods
        method = draw(st.sampled_from([*painting, *METHODS]))
        builder = _Builder(draw, job_ids(), oddity=draw(st.sampled_from([0, 0, 1, 3])))
        count = draw(st.integers(0, 3)) if method.client_streaming else 1
        return Call(method, [builder.message(method.input_type) for _ in range(count)])

    return one()


class _Builder:
    """Builds messages; about `oddity` of 16 scalar fields get any value of their type."""

    def __init__(self, draw: st.DrawFn, job_ids: list[str], oddity: int) -> None:
        self._draw = draw
        self._job_ids = job_ids
        self._oddity = oddity

    def message(self, descriptor: Descriptor) -> Message:
        made = GetMessageClass(descriptor)()
        if descriptor is options_pb2.InputImage.DESCRIPTOR:
            self._fill_image(made)
            return made
        # One draw decides which fields of a message are set: a draw per field would take most of the test's time.
        chosen = self._draw(st.integers(0, 2**63 - 1))
        for number, field in enumerate(descriptor.fields):
            if self._needed(field) or (chosen >> number % 60) & 3 == 3:
                self._fill(made, field)
        return made

    def _needed(self, field: FieldDescriptor) -> bool:
        """Whether to set the field in any case: a request without it is refused. An odd message leaves it out."""
        if field.name in ("styles", "content", "image", "job_id", "options", "size", "iterations", "layer"):
            return not self._odd()
        return False

    def _odd(self) -> bool:
        return bool(self._oddity) and self._draw(st.integers(0, 15)) < self._oddity

    def _fill(self, made: Message, field: FieldDescriptor) -> None:
        if field.is_repeated:
            values = [self._value(field) for _ in range(self._draw(st.integers(1, 3)))]
            getattr(made, field.name).extend(values)
        elif field.message_type is not None:
            getattr(made, field.name).CopyFrom(self._value(field))
        else:
            setattr(made, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        if field.message_type is not None:
            return self.message(field.message_type)
        return self._draw(self._anything(field) if self._odd() else self._sensible(field))

    def _sensible(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        if field.enum_type is not None:
            return st.sampled_from([value.number for value in field.enum_type.values])
        if field.name == "job_id" and self._job_ids:
            return st.sampled_from(self._job_ids)
        if field.name in SENSIBLE:
            return SENSIBLE[field.name]
        if field.type == F.TYPE_DOUBLE:
            return st.floats(0.1, 0.9)
        return self._anything(field)

    def _anything(self, field: FieldDescriptor) -> st.SearchStrategy[Any]:
        match field.type:
            case F.TYPE_DOUBLE | F.TYPE_FLOAT:
                return st.one_of(st.sampled_from(NUMBERS), st.floats())
            case F.TYPE_INT32:
                return st.one_of(st.sampled_from(INTEGERS), st.integers(-(2**31), 2**31 - 1))
            case F.TYPE_UINT32:
                return st.one_of(st.sampled_from([0, 1, 7, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
            case F.TYPE_INT64:
                return st.one_of(st.sampled_from(LONG_INTEGERS), st.integers(-(2**63), 2**63 - 1))
            case F.TYPE_ENUM:
                return st.one_of(st.integers(0, 9), st.sampled_from(INTEGERS))
            case F.TYPE_BOOL:
                return st.booleans()
            case F.TYPE_BYTES:
                return st.one_of(st.sampled_from([*PICTURES, *NOT_PICTURES]), st.binary(max_size=200))
            case F.TYPE_STRING:
                return st.one_of(st.sampled_from([*STRINGS, UPLOADED]), st.text(max_size=20))
        raise AssertionError(f"no strategy for {field.full_name}")

    def _fill_image(self, image: Message) -> None:
        assert isinstance(image, options_pb2.InputImage)
        if self._odd() and self._draw(st.booleans()):
            image.data = self._draw(st.one_of(st.sampled_from(NOT_PICTURES), st.binary(max_size=200)))
        elif self._odd():
            image.sha256 = self._draw(st.sampled_from(["", UPLOADED, "0" * 64, *STRINGS]))
        elif self._draw(st.integers(0, 4)) == 0:
            image.sha256 = UPLOADED
        else:
            image.data = self._draw(st.sampled_from(PICTURES))
