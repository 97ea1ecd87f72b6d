"""Codecs that leave requests as bytes, so that they are parsed and checked where gRPC's requests are."""

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from .json_requests import parsed


@dataclass(frozen=True)
class RawRequest:
    """A request as it arrived: in JSON or serialized."""

    data: bytes
    is_json: bool

    def serialized(self, kind: type[Message]) -> bytes:
        """Returns the serialized message; raises as `json_requests.parsed`."""
        return parsed(self.data, kind).SerializeToString() if self.is_json else self.data


class RawCodec:
    """A codec for connectrpc.

    Args:
        name: "json" or "proto", as in content types.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        """Returns the name of the codec."""
        return self._name

    def encode(self, message: Message) -> bytes:
        """Returns a response as bytes."""
        return to_json(message) if self._name == "json" else message.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> RawRequest:
        """Returns a request without parsing it."""
        return RawRequest(bytes(data), self._name == "json")


def to_json(message: Message) -> bytes:
    """Returns a message as proto3 JSON on one line."""
    return json_format.MessageToJson(message, indent=None).encode()
