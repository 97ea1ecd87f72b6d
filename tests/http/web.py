"""A small HTTP client for tests, which shows exactly what the server sends."""

import base64
import gzip
import http.client
import json
import ssl
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

JSON = {"Content-Type": "application/json"}
Headers = dict[str, str]


@dataclass
class Response:
    """A response; the names of its headers are in lower case."""

    status: int
    headers: Headers
    data: bytes

    def json(self) -> Any:
        """Returns the body, which must be JSON."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.data)

    def error(self) -> tuple[str, dict[str, str]]:
        """Returns the error's code, and the reason of each wrong field."""
        return error_of(self.json())


def request(
    url: str, method: str, path: str, body: bytes | None = None, headers: Headers | None = None, **options: Any
) -> Response:
    """Makes one request over a connection of its own."""
    connection = connect(url, **options)
    try:
        connection.request(method, path, body, headers or {})
        return read(connection)
    finally:
        connection.close()


def connect(url: str, tls: ssl.SSLContext | None = None, timeout: float = 30) -> http.client.HTTPConnection:
    """Returns a connection to the server of a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, context=tls, timeout=timeout)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def read(connection: http.client.HTTPConnection) -> Response:
    """Reads the whole response."""
    answer = connection.getresponse()
    return Response(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


def post_json(url: str, path: str, message: Message | dict[str, Any], headers: Headers | None = None) -> Response:
    """Posts JSON."""
    body = json.dumps(message).encode() if isinstance(message, dict) else json_format.MessageToJson(message).encode()
    return request(url, "POST", path, body, JSON | (headers or {}))


def envelope(data: bytes, flags: int = 0) -> bytes:
    """Returns a message of a stream of Connect or gRPC-Web."""
    return struct.pack(">BI", flags, len(data)) + data


def envelopes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields (flags, content) of each message of a stream."""
    while data:
        flags, size = struct.unpack(">BI", data[:5])
        assert len(data) >= 5 + size
        yield flags, data[5 : 5 + size]
        data = data[5 + size :]


def error_of(error: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Returns the code and the wrong fields of an error of Connect; checks that the readable form says the same."""
    found: dict[str, str] = {}
    for detail in error.get("details", ()):
        if detail["type"] == "google.rpc.BadRequest":
            wrong = error_details_pb2.BadRequest.FromString(base64.b64decode(detail["value"] + "=="))
            assert detail["debug"] == json_format.MessageToDict(wrong)
            found |= {v.field: v.description for v in wrong.field_violations}
    return error["code"], found


def connect_unary(url: str, path: str, message: Message, codec: str) -> Response:
    """Calls a method with one response by Connect."""
    data = message.SerializeToString() if codec == "proto" else json_format.MessageToJson(message).encode()
    return request(url, "POST", path, data, {"Content-Type": f"application/{codec}"})


def connect_stream(url: str, path: str, message: Message, codec: str) -> tuple[list[bytes], dict[str, Any]]:
    """Calls a streaming method by Connect; returns its messages and the end of the stream."""
    data = message.SerializeToString() if codec == "proto" else json_format.MessageToJson(message).encode()
    answer = request(url, "POST", path, envelope(data), {"Content-Type": f"application/connect+{codec}"})
    assert (answer.status, answer.headers["content-type"]) == (200, f"application/connect+{codec}"), answer
    *messages, (flags, end) = envelopes(answer.data)
    assert flags == 2 and all(flag == 0 for flag, _ in messages)
    return [content for _, content in messages], json.loads(end)


def grpc_web(url: str, path: str, message: Message, headers: Headers | None = None) -> tuple[list[bytes], Headers]:
    """Calls a method by gRPC-Web; returns its messages and the trailers."""
    wanted = {"Content-Type": "application/grpc-web+proto", "X-Grpc-Web": "1"} | (headers or {})
    answer = request(url, "POST", path, envelope(message.SerializeToString()), wanted)
    assert answer.status == 200, answer
    messages, trailers = [], {name: value for name, value in answer.headers.items() if name.startswith("grpc-")}
    for flags, content in envelopes(answer.data):
        if flags & 0x80:
            lines = content.decode().strip().split("\r\n")
            trailers |= {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        else:
            messages.append(content)
    return messages, trailers


def status_of(trailers: Headers) -> status_pb2.Status:
    """Returns the status of gRPC-Web trailers, with its details."""
    details = trailers.get("grpc-status-details-bin")
    if details is not None:
        return status_pb2.Status.FromString(base64.b64decode(details + "=="))
    return status_pb2.Status(code=int(trailers["grpc-status"]), message=unquote(trailers.get("grpc-message", "")))


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (id, data) of server-sent events; the id of a comment is empty, that of an error "problem"."""
    event_id, kind, data = "", "message", ""
    for raw in lines:
        line = raw.decode().rstrip("\n")
        name, _, value = line.partition(": ")
        if line == "" and data:
            yield event_id if kind == "message" else kind, json.loads(data)
            kind, data = "message", ""
        elif line.startswith(":"):
            yield "", {}
        elif name == "id":
            event_id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data += value


def compressed(data: bytes) -> bytes:
    """Returns data compressed by gzip."""
    return gzip.compress(data)
