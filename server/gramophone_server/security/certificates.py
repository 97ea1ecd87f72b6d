"""Checks which certificates of the trusted authorities are valid client certificates. Imported on demand."""

from collections.abc import Callable
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class ClientCertificates:
    """Checks certificates whose signature, dates and extended key usage TLS has already verified.

    A certificate without an extended key usage is valid for any purpose. So this check rejects the server's own
    certificates and those of authorities.

    Args:
        own: returns the server's certificates as PEM, including earlier ones.
    """

    def __init__(self, own: Callable[[], frozenset[bytes]]) -> None:
        self._own = own
        self._refusal = lru_cache(maxsize=256)(_refusal)

    def refusal(self, pem: bytes) -> str | None:
        """Returns why the certificate is not a valid client certificate; None if it is."""
        return self._refusal(pem, self._own())


def _refusal(pem: bytes, own: frozenset[bytes]) -> str | None:
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
