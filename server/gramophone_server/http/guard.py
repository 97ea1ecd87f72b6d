"""Refuses requests that other web sites make through a visitor's browser, and allows those of the configured origins.

A server on a loopback address has no token to protect it, but every page that a user visits can send requests to it. So
the server checks which name it was called by (DNS rebinding gives a foreign name to a loopback address) and which page
calls (`Origin`, and `Sec-Fetch-Site` of https://www.w3.org/TR/fetch-metadata).
"""

import ipaddress
import re
from collections.abc import Collection

from .errors import CallError, Code
from .requests import Headers, Request

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ALLOWED_METHODS = "GET, HEAD, POST, PUT"
_ALLOWED_HEADERS = ", ".join(
    (
        "Authorization", "Connect-Protocol-Version", "Connect-Timeout-Ms", "Connect-Content-Encoding",
        "Connect-Accept-Encoding", "Content-Encoding", "Content-Range", "Content-Type", "Gramophone-Client",
        "Grpc-Timeout", "If-None-Match", "If-Range", "Last-Event-ID", "Range", "Traceparent", "Tracestate",
        "X-Grpc-Web", "X-User-Agent",
    )
)  # fmt: skip
_EXPOSED_HEADERS = ", ".join(
    (
        "Accept-Ranges", "Connect-Content-Encoding", "Content-Disposition", "Content-Encoding", "Content-Range", "ETag",
        "Grpc-Message", "Grpc-Status", "Grpc-Status-Details-Bin", "Location", "Retry-After", "Upload-Complete",
        "Upload-Offset", "WWW-Authenticate",
    )
)  # fmt: skip
# Seconds for which a browser remembers the answer to a preflight request; Chromium's maximum.
_MAX_AGE = 7200


class Guard:
    """Checks the host and the origin of requests.

    Args:
        address: the address that the server listens on.
        hosts: further names that requests may call the server by.
        origins: origins, such as "https://a.example", whose pages may call the server.
    """

    def __init__(self, address: str, hosts: Collection[str], origins: Collection[str]) -> None:
        self._any_address = _is_wildcard(address)
        names = {address.lower(), *(_name(host) for host in hosts)}
        self._names = frozenset(names | _LOOPBACK if self._any_address or names & _LOOPBACK else names)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def check_host(self, request: Request) -> None:
        """Checks the name that the request calls the server by.

        Raises:
            CallError: it is not one of the server's names.
        """
        host = request.header("host")
        name = _name(host or "")
        if name in self._names or (self._any_address and _is_address(name)):
            return
        raise CallError(
            Code.PERMISSION_DENIED,
            f"this server is not called {(host or 'nothing')[:200]!r}; if it should be, start it with --http-host NAME",
            status=421,
        )

    def check_origin(self, request: Request, *, is_page: bool) -> None:
        """Checks which web page makes the request.

        Args:
            is_page: whether the request asks for a file of the page, to which other sites may link.

        Raises:
            CallError: it is a page of another site.
        """
        if self._is_allowed(request):
            return
        origin = request.header("origin")
        site = request.header("sec-fetch-site")
        is_link = is_page and request.header("sec-fetch-mode") == "navigate" and request.method == "GET"
        if origin is not None and not _is_same(origin, request.header("host") or ""):
            raise _refusal(origin)
        if origin is None and site in ("cross-site", "same-site") and not is_link:
            raise _refusal("another site")

    def headers(self, request: Request) -> Headers:
        """Returns the response headers that let a page of an allowed origin read the response."""
        if not self._origins:
            return []
        if not self._is_allowed(request):
            return [("vary", "Origin")]
        allowed = request.header("origin") or ""
        return [
            ("vary", "Origin"),
            ("access-control-allow-origin", allowed),
            ("access-control-expose-headers", _EXPOSED_HEADERS),
        ]

    def preflight(self, request: Request) -> Headers | None:
        """Returns the additional headers that answer a preflight request; None if the request is none."""
        if request.method != "OPTIONS" or request.header("access-control-request-method") is None:
            return None
        return [
            ("access-control-allow-methods", _ALLOWED_METHODS),
            ("access-control-allow-headers", _ALLOWED_HEADERS),
            ("access-control-max-age", str(_MAX_AGE)),
        ]

    def _is_allowed(self, request: Request) -> bool:
        """Returns whether a page of a configured origin makes the request."""
        return (request.header("origin") or "").lower() in self._origins


def _refusal(origin: str) -> CallError:
    return CallError(
        Code.PERMISSION_DENIED,
        f"pages of {origin[:200]} may not call this server; if they should, start it with --http-origin ORIGIN",
    )


def _is_same(origin: str, host: str) -> bool:
    """Returns whether an origin is a page of this server: it has the host and the port that the request was sent to.

    The scheme may differ: a proxy may add TLS.
    """
    match = re.fullmatch(r"(https?)://([^/?#@]+)", origin.lower())
    if match is None:
        return False
    default = {"http": ":80", "https": ":443"}[match[1]]
    return match[2].removesuffix(default) == host.lower().removesuffix(default)


def _name(host: str) -> str:
    """Returns a Host header without its port and brackets, in lower case; empty if it is malformed."""
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:/?#@\[\]\s]+)(:\d{1,5})?", host.strip().lower())
    return match[1].strip("[]").rstrip(".") if match else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_wildcard(address: str) -> bool:
    return address in ("", "*") or (_is_address(address) and ipaddress.ip_address(address).is_unspecified)
