"""Encrypted connections, and the rule about where a server may do without."""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from gramophone.credentials import is_loopback

from ..files import FileVersion, file_version, read_file

if TYPE_CHECKING:
    from .certificates import ClientCertificates

log = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20


class SecurityError(Exception):
    """The server's keys and certificates cannot be used, or leave it open; the message says what to do."""


@dataclass(frozen=True)
class Security:
    """How a server tells its clients apart, and keeps what they say from others.

    Attributes:
        tokens: file of tokens, see `gramophone tokens`.
        certificate, key: PEM files: the server's certificate with its chain, and its private key.
        client_ca: PEM file of the authorities that vouch for clients; every client then has to show a certificate.
        admins: names of clients that see everybody's jobs.
        insecure: whether to go without on any address.
    """

    tokens: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    admins: tuple[str, ...] = ()
    insecure: bool = False

    @property
    def authenticates(self) -> bool:
        """Whether it asks clients who they are."""
        return self.tokens is not None or self.client_ca is not None

    def check(self, host: str) -> None:
        """Sees that the parts fit together and are enough for the address.

        Raises:
            SecurityError: they are not.
        """
        if (self.certificate is None) != (self.key is None):
            given, missing = (
                ("--tls-certificate", "--tls-key") if self.certificate else ("--tls-key", "--tls-certificate")
            )
            raise SecurityError(f"{given} needs {missing} beside it")
        if self.client_ca is not None and self.certificate is None:
            raise SecurityError(
                "--client-ca needs --tls-certificate and --tls-key: only encrypted connections have certificates"
            )
        if self.admins and not self.authenticates:
            raise SecurityError("--admin needs --tokens or --client-ca: without them every client may do everything")
        # Who may use a socket is for the permissions of its folder to say.
        if is_loopback(host) or is_unix(host):
            return
        wanted = []
        if not self.authenticates:
            wanted.append("--tokens FILE or --client-ca FILE, so that it knows its clients")
        if self.certificate is None:
            wanted.append("--tls-certificate FILE and --tls-key FILE, so that nobody on the way can listen")
        if wanted and self.insecure:
            log.warning("anybody who reaches %s can use or overhear this server, as --insecure allows", host or "it")
        elif wanted:
            raise SecurityError(
                f"others can reach {host or 'every address'}; add {', and '.join(wanted)}. "
                "Or add --insecure to serve without"
            )

    def credentials(self) -> grpc.ServerCredentials | None:
        """The credentials of an encrypted port; None for a plaintext one. See `Certificates.credentials`."""
        certificates = self.certificates()
        return None if certificates is None else certificates.credentials()

    def certificates(self) -> "Certificates | None":
        """The certificates of an encrypted port; None for a plaintext one.

        Raises:
            SecurityError: a file is missing or damaged, or the key is not the certificate's.
        """
        if self.certificate is None or self.key is None:
            return None
        return Certificates(self.certificate, self.key, self.client_ca)


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
