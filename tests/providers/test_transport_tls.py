"""TLS to upstreams: who is trusted, and what a session carries over."""

import asyncio
import datetime
import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from providers.transport import UpstreamTls, upstream_tls
from providers.types import FailureKind, Origin, Timeouts
from tests.providers.faultserver import OK, FaultServer, Peer, answering
from tests.providers.upstreams import (
    answer_to,
    opened,
    request_to,
    start,
    until,
    with_body,
    with_letterhead,
)

pytestmark = pytest.mark.asyncio


@dataclass(frozen=True)
class Authority:
    """A certificate authority that lives for one test run."""

    folder: Path
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own authority")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            _builder(name, name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, key, certificate)

    @property
    def file(self) -> str:
        return str(self.folder / "ca.pem")

    def server(self, *names: str, days: int = 1) -> ssl.SSLContext:
        """A server's context with a certificate for these names."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [
            x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
            for name in names
        ]
        certificate = (
            _builder(subject, self.certificate.subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        file = self.folder / "server.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 1
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


def trusting(authority: Authority) -> UpstreamTls:
    return upstream_tls(authority.file)


async def test_calls_go_over_tls_and_keep_their_connection(authority: Authority) -> None:
    async with (
        FaultServer(answering(OK), tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for count in range(3):
            call, got = start(transport, request_to(server, scheme="https"))
            assert (await got.over()).body == b"ok"
            assert (call.timings.tls > 0) == (count == 0)
        assert server.connections == 1


async def test_large_bodies_go_both_ways_over_tls(authority: Authority) -> None:
    async def echo(peer: Peer) -> None:
        while (request := await peer.request()) is not None:
            body = request[1]
            await peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    body = bytes(range(256)) * 4096 * 8
    async with (
        FaultServer(echo, tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for size in (1, 65_537, len(body)):
            request = with_body(request_to(server, scheme="https"), body[:size])
            got = await answer_to(transport, request)
            assert (got.body == body[:size], got.sent) == (True, 1)
        assert server.connections == 1


@pytest.mark.parametrize(
    ("names", "days"), [(("other.test",), 1), (("127.0.0.1",), 1), (("upstream.test",), -1)]
)
async def test_a_certificate_for_another_name_or_past_its_time_is_refused(
    authority: Authority, names: tuple[str, ...], days: int
) -> None:
    async with (
        FaultServer(answering(OK), tls=authority.server(*names, days=days)) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for _ in range(2):  # the second time there could be a session, if one had been kept
            got = await answer_to(transport, request_to(server, scheme="https"))
            assert got.failure is not None
            assert (got.failure.kind, got.failure.nothing_sent) == (FailureKind.TLS, True)
            assert got.failure.detail.startswith("certificate:")


async def test_an_unknown_authority_is_refused_by_default(authority: Authority) -> None:
    async with (
        FaultServer(answering(OK), tls=authority.server("upstream.test")) as server,
        opened() as transport,
    ):
        got = await answer_to(transport, request_to(server, scheme="https"))
        assert got.failure is not None
        assert got.failure.kind is FailureKind.TLS


async def test_a_literal_address_is_checked_against_the_certificate(authority: Authority) -> None:
    async with (
        FaultServer(answering(OK), tls=authority.server("127.0.0.1")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        origin = Origin("https", "127.0.0.1", server.port)
        request = with_letterhead(request_to(server), origin=origin)
        assert (await answer_to(transport, request)).body == b"ok"


async def test_a_server_that_does_not_speak_tls_is_a_tls_failure(authority: Authority) -> None:
    async with (
        FaultServer(answering(OK)) as server,
        FaultServer(_silent) as mute,
        opened(tls=trusting(authority)) as transport,
    ):
        for each in (server, mute):
            request = request_to(each, scheme="https", timeouts=Timeouts(tls=0.3))
            got = await answer_to(transport, request)
            assert got.failure is not None
            assert (got.failure.kind, got.failure.nothing_sent) == (FailureKind.TLS, True)


async def test_a_new_connection_resumes_the_last_session(authority: Authority) -> None:
    resumed: list[bool] = []

    async def script(peer: Peer) -> None:
        resumed.append(peer.session_reused)
        await peer.request()
        await peer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await peer.until_closed()

    async with (
        FaultServer(script, tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for _ in range(3):
            await answer_to(transport, request_to(server, scheme="https"))
    assert resumed == [False, True, True]


async def test_a_session_is_taken_from_openssl_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[ssl.SSLSession | None] = []
    resumed: list[bool] = []

    def session(self: ssl.SSLObject) -> ssl.SSLSession | None:
        taken.append(self._sslobj.session)  # type: ignore[attr-defined]
        return taken[-1]

    async def script(peer: Peer) -> None:
        resumed.append(peer.session_reused)
        await peer.request()
        await peer.write(OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
        await peer.until_closed()

    monkeypatch.setattr(ssl.SSLObject, "session", property(session))
    async with (
        FaultServer(script, tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for _ in range(5):
            await answer_to(transport, request_to(server, scheme="https"))
    assert resumed == [False, True, True, True, True]
    assert len(taken) == 1


async def test_a_closed_tls_connection_is_not_used_again(authority: Authority) -> None:
    async def one_answer(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await peer.close()

    async with (
        FaultServer(one_answer, tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for count in (1, 2, 3):
            got = await answer_to(transport, request_to(server, scheme="https"))
            assert (got.body, server.connections) == (b"ok", count)
            await until(lambda: transport.counts().connections == 0)


async def test_giving_up_in_the_middle_of_connecting_leaves_nothing_open(
    authority: Authority,
) -> None:
    open_now = 0

    async def counting(peer: Peer) -> None:
        nonlocal open_now
        open_now += 1
        await peer.until_closed()
        open_now -= 1

    async with (
        FaultServer(counting, tls=authority.server("upstream.test")) as server,
        opened(tls=trusting(authority)) as transport,
    ):
        for step in range(60):
            call, got = start(transport, request_to(server, scheme="https"))
            await asyncio.sleep(step / 20_000)
            call.abort()
            assert "failed" not in got.calls
        await until(lambda: (open_now, transport.counts().connections) == (0, 0))


async def _silent(peer: Peer) -> None:
    await peer.until_closed()
