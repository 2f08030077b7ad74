"""The provider that all cases call: on one port as it is, and, if that is measured, on another one behind TLS."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from bench.processes import Process, cores_for, running, wait_listening
from gateway.proofs.grounds import free_port

_HOST: Final = "127.0.0.1"
#: Beside the address, for whoever looks only for names.
TLS_NAME: Final = "localhost"
_A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Upstream:
    """`port` speaks plain HTTP. Behind `tls_port` it is the same provider with a certificate of its own authority."""

    port: int
    tls_port: int = 0
    certificate: Path | None = None

    @property
    def base_url(self) -> str:
        """Of what a gateway calls."""
        if self.certificate is not None:
            return f"https://{_HOST}:{self.tls_port}/v1"
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def trust(self) -> dict[str, str]:
        """The environment in which OpenSSL knows its certificate."""
        return {} if self.certificate is None else {"SSL_CERT_FILE": str(self.certificate)}


@contextmanager
def serving(
    folder: Path, chunks: int, interval_ms: int, tls: bool
) -> Iterator[tuple[Process, Upstream]]:
    """The provider as a process of its own. Raises BenchFailed."""
    upstream = Upstream(free_port())
    command = [sys.executable, "-m", "gateway.proofs.upstream", str(upstream.port)]
    command += [str(chunks), str(interval_ms)]
    if tls:
        certificate, key = _identity(folder)
        upstream = Upstream(upstream.port, free_port(), certificate)
        command += ["0", str(upstream.tls_port), str(certificate), str(key)]
    with running(command, cores_for(1).load, folder / "upstream.log") as process:
        wait_listening(process, upstream.tls_port or upstream.port)
        yield process, upstream


def _identity(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that vouches for itself, and its key, as PEM files; good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Gatehouse's benchmark")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _A_DAY)
        .not_valid_after(now + _A_DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(IPv4Address(_HOST)), x509.DNSName(TLS_NAME)]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "upstream.pem", folder / "upstream.key"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files
