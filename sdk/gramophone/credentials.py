"""Credentials of a client: token, certificates and TLS."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import grpc

from .brief import Value
from .channel import MetadataChannel

_Channel = TypeVar("_Channel", grpc.Channel, grpc.aio.Channel)
Options = list[tuple[str, Any]]
Pem = str | os.PathLike[str] | bytes
"""Keys or certificates: the path of a PEM file, or the bytes of such a file."""


@dataclass(frozen=True, repr=False)
class Credentials(Value):
    """Token, certificates and TLS settings of a client; see gramophone.Client for the fields."""

    # Representations appear in logs: they must not contain the token or a key.
    _shown = ("tls", "insecure")

    token: str | None = None
    tls: bool = False
    root_certificates: Pem | None = None
    certificate: Pem | None = None
    private_key: Pem | None = None
    insecure: bool = False

    def loaded(self, target: str) -> Credentials:
        """Returns the credentials with the contents of their files, checked for a server at `target`.

        Raises:
            ValueError: the token is malformed or would be sent unencrypted, or a certificate or key is missing.
            FileNotFoundError: a file does not exist.
        """
        self._check(target)
        roots, certificate, key = map(_pem, (self.root_certificates, self.certificate, self.private_key))
        return Credentials(self.token, self.tls, roots, certificate, key, self.insecure)

    def channel(self, target: str, options: Options) -> grpc.Channel:
        """Opens a synchronous channel to `target` with these channel options."""
        credentials = self._of_channel()
        if credentials is not None:
            return grpc.secure_channel(target, credentials, options=options)
        return self._with_token(grpc.insecure_channel(target, options=_plaintext_options(target, options)))

    def aio_channel(self, target: str, options: Options) -> grpc.aio.Channel:
        """Opens an asynchronous channel to `target`, bound to the running event loop."""
        credentials = self._of_channel()
        if credentials is not None:
            return grpc.aio.secure_channel(target, credentials, options=options)
        return self._with_token(grpc.aio.insecure_channel(target, options=_plaintext_options(target, options)))

    def _check(self, target: str) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ValueError("token is not valid; give a token that `gramophone tokens add` has printed")
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together: give both or neither")
        if self._plaintext and self.token is not None and not self.insecure and not is_loopback(_host(target)):
            raise ValueError(
                f"the token would be sent to {target} unencrypted; give tls=True, or root_certificates if the "
                "server's certificate is from your own certificate authority (on the command line: --tls, --ca)"
            )

    @property
    def _plaintext(self) -> bool:
        parts = (self.root_certificates, self.certificate, self.private_key)
        return not self.tls and all(part is None for part in parts)

    def _of_channel(self) -> grpc.ChannelCredentials | None:
        """Returns gRPC's credentials for the channel; None for plaintext."""
        if self._plaintext:
            return None
        roots, certificate, key = map(_pem, (self.root_certificates, self.certificate, self.private_key))
        credentials = grpc.ssl_channel_credentials(roots, key, certificate)
        if self.token is None:
            return credentials
        return grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(self.token))

    def _with_token(self, channel: _Channel) -> _Channel:
        # gRPC's own call credentials cannot be sent in plaintext, even to this machine.
        if self.token is None:
            return channel
        metadata = (("authorization", f"Bearer {self.token}"),)
        return cast(_Channel, MetadataChannel(channel, lambda: metadata))


def is_loopback(host: str) -> bool:
    """Whether a host is a loopback address or "localhost"; other names are not resolved and count as not loopback."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


def _plaintext_options(target: str, options: Options) -> Options:
    # gRPC would use $http_proxy even for loopback addresses: calls to this machine must not leave it.
    return [*options, ("grpc.enable_http_proxy", 0)] if is_loopback(_host(target)) else options


def _host(target: str) -> str:
    """Returns the host of a gRPC target (https://grpc.github.io/grpc/core/md_doc_naming.html)."""
    if target.startswith(("unix:", "unix-abstract:", "vsock:")):
        return "localhost"
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        if target.startswith(scheme):
            target = target.removeprefix(scheme).rpartition("/")[2]
    return target.rpartition(":")[0] if "]" in target or target.count(":") == 1 else target


def _pem(part: Pem | None) -> bytes | None:
    if part is None or isinstance(part, bytes):
        return part
    return Path(part).expanduser().read_bytes()
