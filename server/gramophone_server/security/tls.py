"""TLS certificates of the server, and the check of when a server must have TLS and authentication."""

import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc

from gramophone.credentials import is_loopback

from ..files import FileVersion, file_version, read_file
from ..settings import SecuritySettings

if TYPE_CHECKING:
    from .certificates import ClientCertificates

log = logging.getLogger(__name__)

_MAX_BYTES = 1 << 20


class SecurityError(Exception):
    """The security settings are invalid or insufficient, or their files cannot be used; the message says what to do."""


def check_security(security: SecuritySettings, host: str) -> None:
    """Checks that the settings are consistent, and sufficient for the address.

    Raises:
        SecurityError: they are not.
    """
    has_certificate = security.tls_certificate is not None
    if has_certificate != (security.tls_key is not None):
        given, missing = ("--tls-certificate", "--tls-key") if has_certificate else ("--tls-key", "--tls-certificate")
        raise SecurityError(f"{given} needs {missing} as well")
    if security.client_ca is not None and not has_certificate:
        raise SecurityError(
            "--client-ca needs --tls-certificate and --tls-key: only encrypted connections have certificates"
        )
    if security.admins and not security.authenticates:
        raise SecurityError("--admin needs --tokens or --client-ca: without them every client may do everything")
    # The permissions of a Unix socket's folder control who may use it.
    if is_loopback(host) or is_unix(host):
        return
    missing_settings = []
    if not security.authenticates:
        missing_settings.append("--tokens FILE or --client-ca FILE to authenticate clients")
    if not has_certificate:
        missing_settings.append("--tls-certificate FILE and --tls-key FILE to encrypt connections")
    if missing_settings and security.insecure:
        log.warning("--insecure: everyone who can reach %s can use this server or read its traffic", host or "it")
    elif missing_settings:
        raise SecurityError(
            f"other machines can reach {host or 'every address'}; add {', and '.join(missing_settings)}. "
            "Or add --insecure to serve without"
        )


def open_certificates(security: SecuritySettings) -> "Certificates | None":
    """Returns the certificates of a TLS port; None for a plaintext port.

    Raises:
        SecurityError: a file is missing or damaged, or the key does not belong to the certificate.
    """
    if security.tls_certificate is None or security.tls_key is None:
        return None
    return Certificates(security.tls_certificate, security.tls_key, security.client_ca)


def is_unix(host: str) -> bool:
    """Returns whether a host is a Unix socket."""
    return host.startswith("unix:")


class Certificates:
    """The certificate files of a server, which may be replaced while the server runs.

    Raises:
        SecurityError: a file is missing or damaged, or the key does not belong to the certificate.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._version: list[FileVersion | None] | None = self._stat()
        # All server certificates since the start.
        self._own: frozenset[bytes] = frozenset()
        self._first = self.read()

    def credentials(self) -> grpc.ServerCredentials:
        """Returns the credentials of a port. Each new connection uses the current files."""
        requires = self._client_ca is not None
        # gRPC documents that the callback may return None for "unchanged"; its type stubs do not allow it.
        return grpc.dynamic_ssl_server_credentials(self._first, self.changed, requires)  # type: ignore[arg-type]

    def ssl_context(self) -> ssl.SSLContext:
        """Returns the context of a port of asyncio. Each new connection uses the current files."""
        return _CurrentContext(self._context, self._stat)

    def client_certificates(self) -> "ClientCertificates | None":
        """Returns the check of client certificates; None if the server requires none.

        Raises:
            SecurityError: the package cryptography is not installed.
        """
        if self._client_ca is None:
            return None
        try:
            # Import on demand: cryptography costs time at the start.
            from .certificates import ClientCertificates
        except ImportError as error:
            raise SecurityError("--client-ca needs cryptography: pip install 'gramophone[server]'") from error
        return ClientCertificates(lambda: self._own)

    def reload(self) -> None:
        """Reads the files again for new connections, and logs whether they are valid. Blocks."""
        try:
            self.read()
        except SecurityError as error:
            log.warning("new connections still use the previous certificates: %s", error)
        else:
            self._version = None
            log.info("certificates reloaded")

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the files' content if they changed since the last call; gRPC's threads call it at each connection."""
        version, known = self._stat(), self._version
        if version == known:
            return None
        self._version = version
        try:
            configuration = self.read()
        except SecurityError as error:
            # Perhaps only one of the two files has been replaced so far.
            log.warning("new connections still use the previous certificates: %s", error)
            return None
        if known is not None:
            log.info("certificates reloaded")
        return configuration

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Reads and checks the files; raises SecurityError as the class does."""
        pair = (_read(self._key, "--tls-key"), _read(self._certificate, "--tls-certificate"))
        authorities = None if self._client_ca is None else _read(self._client_ca, "--client-ca")
        # gRPC does not say what is wrong with a file; the ssl module does.
        self._context()
        self._own |= {_leaf(pair[1])}
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _context(self) -> ssl.SSLContext:
        """Returns a context with the files as they are now; raises SecurityError as the class does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SecurityError(f"{self._key} is not the key of the certificate in {self._certificate}") from error
            raise SecurityError(
                f"{self._certificate} and {self._key} are not a PEM certificate and its private key without a password"
            ) from error
        except OSError as error:
            raise SecurityError(f"{self._certificate} or {self._key} cannot be read: {error.strerror}") from error
        if self._client_ca is not None:
            try:
                context.load_verify_locations(cadata=_read(self._client_ca, "--client-ca").decode())
            except (ssl.SSLError, ValueError) as error:
                raise SecurityError(f"{self._client_ca} has no PEM certificates in it") from error
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _stat(self) -> list[FileVersion | None]:
        return [file_version(path) for path in (self._certificate, self._key, self._client_ca) if path is not None]


class _CurrentContext(ssl.SSLContext):
    """A context that makes each connection with the current files.

    Args:
        make: returns a context with the files as they are now; raises SecurityError.
        version: returns a value that changes with the files.
    """

    def __new__(cls, *_: Any) -> "_CurrentContext":
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, make: Callable[[], ssl.SSLContext], version: Callable[[], object]) -> None:
        self._make = make
        self._version = version
        self._known = version()
        self._current = make()

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Returns the TLS state of a new connection."""
        if (version := self._version()) != self._known:
            self._known = version
            try:
                self._current = self._make()
            except SecurityError as error:
                # Perhaps only one of the two files has been replaced so far.
                log.warning("new HTTP connections still use the previous certificates: %s", error)
        return self._current.wrap_bio(*args, **options)


def _read(path: Path, option: str) -> bytes:
    try:
        return read_file(path, _MAX_BYTES)
    except OSError as error:
        raise SecurityError(f"{option} {path} cannot be read: {error.strerror}") from error


def _leaf(chain: bytes) -> bytes:
    """Returns a PEM file from its first certificate on."""
    return chain[chain.find(b"-----BEGIN CERTIFICATE") :]


def _no_password() -> str:
    # Without this callback OpenSSL would prompt for a password on the terminal.
    return ""
