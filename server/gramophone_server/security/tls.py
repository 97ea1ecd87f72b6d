"""Encrypted connections, and the rule about where a server may do without."""

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from gramophone.credentials import is_loopback

from ..files import FileVersion, file_version, read_file
from ..settings import SecuritySettings

if TYPE_CHECKING:
    from .certificates import ClientCertificates

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20


class SecurityError(Exception):
    """The server's keys and certificates cannot be used, or leave it open; the message says what to do."""


def check_security(security: SecuritySettings, host: str) -> None:
    """Checks that the settings fit together and are enough for the address.

    Raises:
        SecurityError: they are not.
    """
    has_certificate = security.tls_certificate is not None
    if has_certificate != (security.tls_key is not None):
        given, missing = ("--tls-certificate", "--tls-key") if has_certificate else ("--tls-key", "--tls-certificate")
        raise SecurityError(f"{given} needs {missing} beside it")
    if security.client_ca is not None and not has_certificate:
        raise SecurityError(
            "--client-ca needs --tls-certificate and --tls-key: only encrypted connections have certificates"
        )
    if security.admins and not security.authenticates:
        raise SecurityError("--admin needs --tokens or --client-ca: without them every client may do everything")
    # Who may use a socket is for the permissions of its folder to say.
    if is_loopback(host) or is_unix(host):
        return
    wanted = []
    if not security.authenticates:
        wanted.append("--tokens FILE or --client-ca FILE, so that it knows its clients")
    if not has_certificate:
        wanted.append("--tls-certificate FILE and --tls-key FILE, so that nobody on the way can listen")
    if wanted and security.insecure:
        log.warning("anybody who reaches %s can use or overhear this server, as --insecure allows", host or "it")
    elif wanted:
        raise SecurityError(
            f"others can reach {host or 'every address'}; add {', and '.join(wanted)}. "
            "Or add --insecure to serve without"
        )


def open_certificates(security: SecuritySettings) -> "Certificates | None":
    """The certificates of an encrypted port; None for a plaintext one.

    Raises:
        SecurityError: a file is missing or damaged, or the key is not the certificate's.
    """
    if security.tls_certificate is None or security.tls_key is None:
        return None
    return Certificates(security.tls_certificate, security.tls_key, security.client_ca)


def is_unix(host: str) -> bool:
    """Whether that is a socket in the file system."""
    return host.startswith("unix:")


class Certificates:
    """The files of a server's certificate, which may be replaced while it runs.

    Raises:
        SecurityError: a file is missing or damaged, or the key is not the certificate's.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._version: list[FileVersion | None] | None = self._stat()
        # All that it has shown as its own.
        self._served: frozenset[bytes] = frozenset()
        self._first = self.read()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials of a port. New connections use the files as they are by then."""
        asks = self._client_ca is not None
        # None for "as before" is what gRPC documents, if not what its type stubs say.
        return grpc.dynamic_ssl_server_credentials(self._first, self.changed, asks)  # type: ignore[arg-type]

    def of_clients(self) -> "ClientCertificates | None":
        """What judges the certificates of clients; None if they are not asked for any.

        Raises:
            SecurityError: the package for it is not installed.
        """
        if self._client_ca is None:
            return None
        try:
            # Only whoever asks for certificates pays for it.
            from .certificates import ClientCertificates
        except ImportError as error:
            raise SecurityError("--client-ca needs cryptography: pip install 'gramophone[server]'") from error
        return ClientCertificates(lambda: self._served)

    def reload(self) -> None:
        """Has new connections use the files as they are, and says in the log whether they can be used. Blocks."""
        try:
            self.read()
        except SecurityError as error:
            log.warning("new connections still get the certificates from before: %s", error)
        else:
            self._version = None
            log.info("certificates read again")

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is in them if they have changed since the last look; for gRPC's threads, at each new connection."""
        version, known = self._stat(), self._version
        if version == known:
            return None
        self._version = version
        try:
            configuration = self.read()
        except SecurityError as error:
            # Perhaps one has been replaced and the other is about to be.
            log.warning("new connections still get the certificates from before: %s", error)
            return None
        if known is not None:
            log.info("certificates read again")
        return configuration

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What is in them; raises SecurityError, see Certificates."""
        pair = (_read(self._key, "--tls-key"), _read(self._certificate, "--tls-certificate"))
        authorities = None if self._client_ca is None else _read(self._client_ca, "--client-ca")
        # gRPC says no more than that something is wrong; OpenSSL in the standard library says what.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise SecurityError(f"{self._key} is not the key of the certificate in {self._certificate}") from error
            raise SecurityError(
                f"{self._certificate} and {self._key} are not a PEM certificate and its private key without a password"
            ) from error
        if authorities is not None:
            try:
                context.load_verify_locations(cadata=authorities.decode())
            except (ssl.SSLError, ValueError) as error:
                raise SecurityError(f"{self._client_ca} has no PEM certificates in it") from error
        self._served |= {_leaf(pair[1])}
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _stat(self) -> list[FileVersion | None]:
        return [file_version(path) for path in (self._certificate, self._key, self._client_ca) if path is not None]


def _read(path: Path, option: str) -> bytes:
    try:
        return read_file(path, _MOST_BYTES)
    except OSError as error:
        raise SecurityError(f"{option} {path} cannot be read: {error.strerror}") from error


def _leaf(chain: bytes) -> bytes:
    """The first certificate in a PEM file."""
    return chain[chain.find(b"-----BEGIN CERTIFICATE") :]


def _no_password() -> str:
    # Without this OpenSSL would ask for one on the terminal.
    return ""
