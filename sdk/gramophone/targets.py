"""Addresses of servers: which a client accepts, and what to write instead of others."""

from __future__ import annotations

import ipaddress
import re

PORT = 50051
"""The default port of `gramophone serve`. (gRPC uses 443 for an address without a port.)"""

# Other kinds of gRPC addresses, passed on unchanged (https://grpc.github.io/grpc/core/md_doc_naming.html).
_UNCHECKED = re.compile(r"(unix|unix-abstract|vsock|xds):(?!\d+$).")
_RESOLVED = re.compile(r"(?P<scheme>dns|ipv4|ipv6):(?!\d+$)(?P<slashes>//[^/]*/)?(?P<hosts>.+)")
_HOST_AND_PORT = re.compile(r"(?P<host>\[[^\[\]\s/]+\]|[^:/\[\]\s@]+):(?P<port>\d+)", re.ASCII)


def checked(target: str) -> str:
    """Returns the address for gRPC, without surrounding spaces.

    Raises:
        ValueError: the target is not an address, or gRPC would misread it; the message says what to write.
    """
    if not isinstance(target, str):
        raise ValueError(f"target must be a server's address such as 'localhost:{PORT}', not {type(target).__name__}")
    target = target.strip()
    if not target:
        raise ValueError(f"target is empty; write the server's address, such as 'localhost:{PORT}'")
    if _UNCHECKED.match(target):
        return target
    if (found := _RESOLVED.fullmatch(target)) is not None:
        hosts = found["hosts"].split(",")
        if all(_is_host_and_port(host) for host in hosts):
            return target
        better = ",".join(host if _is_host_and_port(host) else suggestion(host) for host in hosts)
        raise ValueError(f"target {target!r} lacks a port; write '{found['scheme']}:{found['slashes'] or ''}{better}'")
    if _is_host_and_port(target):
        return target
    tls = " with tls=True" if target.startswith(("https://", "grpcs://")) else ""
    what = "is a URL" if "://" in target else "is not a host and a port"
    raise ValueError(f"target {target!r} {what}; write '{suggestion(target)}'{tls}")


def suggestion(target: str) -> str:
    """Returns the host and port that the user most likely meant."""
    rest = re.sub(r"\s", "", target.rpartition("://")[2].rpartition("@")[2])
    rest = re.sub(r"[/?#].*", "", rest)
    if _is_ipv6(rest):
        return f"[{rest}]:{PORT}"
    host, port = rest, ""
    if (found := re.fullmatch(r"(.*?)(?::([^:\]]*))?", rest)) is not None:
        host, port = found[1], found[2] or ""
    if _is_ipv6(host):
        host = f"[{host}]"
    elif not _HOST_AND_PORT.fullmatch(f"{host}:1"):
        host = "localhost"
    return f"{host or 'localhost'}:{port if _is_port(port) else PORT}"


def _is_host_and_port(target: str) -> bool:
    found = _HOST_AND_PORT.fullmatch(target)
    return found is not None and _is_port(found["port"])


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
