"""Makes certificates and certificate authorities for tests."""

import datetime
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_DAY = datetime.timedelta(days=1)
_LOOPBACK = (x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1")))


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Writes both to files in `folder`; returns the paths of the certificate and the key."""
        paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
        for path, data in zip(paths, (self.certificate, self.key), strict=True):
            path.write_bytes(data)
        return str(paths[0]), str(paths[1])


class Authority:
    """A certificate authority with a self-signed certificate."""

    def __init__(self, name: str = "Authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder(self._name, self._name, self._key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 10 * _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self,
        name: str | None,
        *,
        dns: str | None = None,
        days: int = 1,
        usages: Sequence[x509.ObjectIdentifier] = (),
        authority: bool = False,
    ) -> Pair:
        """Returns a certificate that this authority signs, with its key.

        Args:
            name: the common name; with None the subject is empty.
            dns: the only DNS name; by default the certificate is for the loopback addresses.
            days: days until it expires; if negative, it has expired already.
            usages: its extended key usages; without any, the extension is left out.
            authority: whether the certificate may sign other certificates.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.now(datetime.UTC)
        hosts = _LOOPBACK if dns is None else [x509.DNSName(dns)]
        builder = (
            x509.CertificateBuilder(self._name, _name(name), key.public_key(), x509.random_serial_number())
            .not_valid_before(now - 9 * _DAY)
            .not_valid_after(now + days * _DAY)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if authority:
            builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))

    def trust(self, pair: Pair | None = None) -> grpc.ChannelCredentials:
        """Returns channel credentials of a client that trusts this authority and presents `pair`, if given."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.certificate)
        return grpc.ssl_channel_credentials(self.certificate, pair.key, pair.certificate)


def private_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Returns a private key as PEM, encrypted if a password is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _name(name: str | None) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)] if name is not None else [])
