"""Writes HTTP/2 frames directly, for clients that begin calls and do not finish them."""

import socket
import struct
from types import TracebackType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_HEADERS = 4


class Connection:
    """A connection that has sent the HTTP/2 preface and settings.

    Args:
        address: host:port of the server.
    """

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host = host
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.sendall(PREFACE + _frame(_SETTINGS, 0, 0, b""))
        self._streams = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def begin(self, method: str, claimed: int, sent: bytes = b"", *, encoding: str = "identity") -> None:
        """Begins a call whose message claims to have `claimed` bytes, and sends only `sent` of it."""
        self._streams += 1
        stream = 2 * self._streams - 1
        headers = {
            ":method": "POST", ":scheme": "http", ":path": method, ":authority": self._host,
            "content-type": "application/grpc", "te": "trailers", "grpc-encoding": encoding,
        }  # fmt: skip
        block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
        message = bytes([encoding != "identity"]) + struct.pack(">I", claimed) + sent
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))
        for start in range(0, len(message), 16_000):
            self._socket.sendall(_frame(_DATA, 0, stream, message[start : start + 16_000]))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data  # HPACK literal of up to 126 bytes, without Huffman coding.
