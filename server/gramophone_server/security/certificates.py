"""Which certificates are a client's, of those that the authorities vouch for. Imported where clients have some."""

from collections.abc import Callable
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class ClientCertificates:
    """Judges certificates that TLS has verified: signature, dates, and that an extended key usage allows clients.

    Without one, a certificate is good for anything; so the server's own, and those of authorities, are looked for here.

    Args:
        own: the server's own certificates as PEM, those of before included.
    """

    def __init__(self, own: Callable[[], frozenset[bytes]]) -> None:
        self._own = own
        self._judge = lru_cache(maxsize=256)(_judge)

    def refusal(self, pem: bytes) -> str | None:
        """Why the certificate is not a client's; None if it is."""
        return self._judge(pem, self._own())


def _judge(pem: bytes, own: frozenset[bytes]) -> str | None:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        if _key(certificate) in {_key(x509.load_pem_x509_certificate(known)) for known in own}:
            return "the certificate of this connection is the server's own; a client needs one of its own"
        if _is_authority(certificate):
            return "the certificate of this connection is an authority's; a client needs one of its own"
    except (ValueError, x509.DuplicateExtension):
        return "the certificate of this connection cannot be read"
    return None


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
