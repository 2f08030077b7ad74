"""The client on top of the address filter, against real sockets on this machine."""

import asyncio
import datetime
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tenants.fetch import async_http_client, get, get_json, http_client
from tenants.outbound import (
    AddressFilter,
    AddressRefused,
    BadAnswer,
    BadUrl,
    NameNotFound,
    Unreachable,
)
from tests.tenants.test_outbound import FakeResolver, NoSuchName

LOOPBACK = "127.0.0.0/8"


class Server:
    """A web server whose answers are scripted by path, and which remembers who asked for what."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.tls_names: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}))
                ANSWERS.get(self.path, ok)(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if context is not None:
            context.sni_callback = lambda _socket, name, _context: self.tls_names.append(name)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def answer(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def handle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return handle


def drip_head(handler: BaseHTTPRequestHandler) -> None:
    drip(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000)


def drip_body(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    drip(handler, b"1" * 1000)


def drip(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    try:
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        pass


ok = answer(200, b'{"ok": true}', Content_Type="application/json")
ANSWERS: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {
    "/missing": answer(404, b"{}"),
    "/html": answer(200, b"<html>", Content_Type="text/html"),
    "/huge": answer(200, b"[" + b"1," * 300_000 + b"1]"),
    "/gzip": answer(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip"),
    "/deep": answer(200, b"[" * 100_000),
    "/redirect": answer(302, b"", Location="http://169.254.169.254/latest/meta-data/"),
    "/drip-head": drip_head,
    "/drip-body": drip_body,
}


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def open_filter(*answers: Sequence[str]) -> AddressFilter:
    return AddressFilter([LOOPBACK, "api.example.com"], FakeResolver(*(answers or [["127.0.0.1"]])))


def test_json_is_fetched_with_the_callers_headers(server: Server) -> None:
    url = f"http://127.0.0.1:{server.port}/v1/models"
    assert get_json(url, addresses=open_filter(), headers={"x-test": "1"}) == {"ok": True}
    path, headers = server.requests[0]
    assert path == "/v1/models"
    assert headers["x-test"] == "1"
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == "gatehouse"


@pytest.mark.parametrize(
    ("path", "words", "status"),
    [
        ("/missing", "status 404", 404),
        ("/html", "not JSON", 200),
        ("/deep", "not JSON", 200),
        ("/huge", "more than 262144 bytes", 200),
        ("/gzip", "compressed", 0),
        ("/redirect", "status 302", 302),
    ],
)
def test_an_unfit_answer_is_refused(server: Server, path: str, words: str, status: int) -> None:
    with pytest.raises(BadAnswer, match=words) as caught:
        get_json(f"http://127.0.0.1:{server.port}{path}", addresses=open_filter())
    assert caught.value.status == status
    assert len(server.requests) == 1


def test_a_status_that_is_no_200_is_an_answer_to_get(server: Server) -> None:
    answer = get(f"http://127.0.0.1:{server.port}/missing", addresses=open_filter())
    assert (answer.status, answer.body) == (404, b"{}")


@pytest.mark.parametrize("path", ["/drip-head", "/drip-body"])
def test_the_whole_request_ends_at_its_deadline(server: Server, path: str) -> None:
    url = f"http://127.0.0.1:{server.port}{path}"
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"within 0\.4 seconds"):
        get(url, addresses=open_filter(), timeout=0.4)
    assert time.monotonic() - started < 1.0

    async def fetch() -> None:
        async with async_http_client(open_filter(), timeout=0.4) as client:
            await client.get(url)

    started = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        asyncio.run(fetch())
    assert time.monotonic() - started < 1.0


def test_the_client_connects_to_judged_addresses_only(server: Server) -> None:
    url = f"https://rebind.example:{server.port}/"
    addresses = AddressFilter([], FakeResolver(["127.0.0.1"]))
    with pytest.raises(AddressRefused):
        get(url, addresses=addresses)
    with http_client(addresses) as client, pytest.raises(AddressRefused):
        client.get(f"http://localhost:{server.port}/")

    async def fetch() -> None:
        async with async_http_client(addresses) as client:
            await client.get(f"http://127.0.0.1:{server.port}/")

    with pytest.raises(AddressRefused):
        asyncio.run(fetch())
    assert server.requests == []


def test_a_name_is_looked_up_once_per_connection(server: Server) -> None:
    """The address that was judged is the address connected to: a second answer would be another one."""
    resolver = FakeResolver(["127.0.0.1"], ["127.9.9.9"])
    addresses = AddressFilter([LOOPBACK, "api.example.com"], resolver)
    for expected in range(1, 4, 2):
        assert get_json(f"http://api.example.com:{server.port}/", addresses=addresses) == {
            "ok": True
        }
        assert resolver.lookups == expected
        with pytest.raises(Unreachable):
            get_json(f"http://api.example.com:{server.port}/", addresses=addresses)
    assert server.requests[0][1]["host"] == f"api.example.com:{server.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(server: Server) -> None:
    addresses = open_filter(["127.9.9.9", "127.0.0.1"])
    assert get_json(f"http://api.example.com:{server.port}/", addresses=addresses) == {"ok": True}

    async def fetch() -> httpx.Response:
        async with async_http_client(addresses) as client:
            return await client.get(f"http://api.example.com:{server.port}/")

    assert asyncio.run(fetch()).json() == {"ok": True}


def test_proxies_and_netrc_of_the_environment_are_not_used(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trap = Server()
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login trap password trap\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ):
        monkeypatch.setenv(name, f"http://127.0.0.1:{trap.port}")
    get(f"http://127.0.0.1:{server.port}/", addresses=open_filter())
    trap.close()
    assert trap.requests == []
    assert "authorization" not in server.requests[0][1]


def test_bad_urls_and_unknown_names_say_so() -> None:
    with pytest.raises(BadUrl):
        get("file:///etc/passwd", addresses=open_filter())
    with pytest.raises(NameNotFound):
        get("https://later.example", addresses=AddressFilter([], NoSuchName()))


def certificate(host: str, folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "cert.pem"
    path.write_bytes(
        built.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_tls_is_verified_against_the_name_not_the_address(tmp_path: Path) -> None:
    pem = certificate("api.example.com", tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = Server(context)
    verify = ssl.create_default_context(cafile=str(pem))
    try:
        good = f"https://api.example.com:{server.port}/"
        assert get_json(good, addresses=open_filter(), verify=verify) == {"ok": True}
        assert server.tls_names == ["api.example.com"]
        with pytest.raises(Unreachable):
            get(f"https://other.example:{server.port}/", addresses=open_filter(), verify=verify)
        with pytest.raises(Unreachable):
            get(good, addresses=open_filter())
    finally:
        server.close()
    assert len(server.requests) == 1
