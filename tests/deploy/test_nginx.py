"""deploy/nginx.conf in a real nginx: TLS in front, streams unbuffered, and the caller's address is the one that counts."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.gateway.door import PROMPT, Door, eventually, opened
from tests.providers.test_transport_tls import Authority
from tests.support import services
from tests.support.environment import ROOT
from tests.support.server import Yard, _free_port, _listens

NAME = "gatehouse.example.com"
CALLER, STRANGER = "127.0.0.2", "127.0.0.3"
#: What a site's operator puts in, and what a test does.
_MAIN = """
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    {site}
}}
"""

pytestmark = pytest.mark.sqlite


@dataclass
class Site:
    door: Door
    tls_port: int
    port: int
    authority: Authority

    def client(self, address: str = CALLER) -> httpx.Client:
        """A caller at that address, who knows the site by its name."""
        context = ssl.create_default_context(cafile=self.authority.file)
        transport = httpx.HTTPTransport(verify=context, local_address=address)
        return httpx.Client(
            transport=transport,
            base_url=f"https://127.0.0.1:{self.tls_port}",
            headers={"host": NAME, **self.door.key.bearer},
            timeout=30,
        )


def configuration(folder: Path, gateway: int, tls_port: int, port: int) -> str:
    site = (ROOT / "deploy/nginx.conf").read_text()
    for ours, theirs in {
        "server 127.0.0.1:8000;": f"server 127.0.0.1:{gateway};",
        "listen 80;": f"listen 127.0.0.1:{port};",
        "listen 443 ssl;": f"listen 127.0.0.1:{tls_port} ssl;",
        "/etc/ssl/gatehouse.crt": f"{folder}/server.pem",
        "/etc/ssl/gatehouse.key": f"{folder}/server.pem",
    }.items():
        assert site.count(ours) == 1, ours
        site = site.replace(ours, theirs)
    # Started by root its workers would be somebody else, who may not enter a test's folder.
    user = "user root;" if os.geteuid() == 0 else ""
    return _MAIN.format(folder=folder, site=site, user=user)


@contextmanager
def nginx(folder: Path, gateway: int) -> Iterator[tuple[int, int]]:
    """Its ports for TLS and for plain HTTP."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        services.absent("nginx is not installed")
    tls_port, port = _free_port(), _free_port()
    file = folder / "nginx.conf"
    file.write_text(configuration(folder, gateway, tls_port, port))
    command = [str(program), "-p", str(folder), "-c", str(file), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        eventually(lambda: _listens(tls_port) and _listens(port))
        yield tls_port, port
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def site(yard: Yard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    authority = Authority.make(folder)
    authority.server(NAME, "127.0.0.1")
    env = {"TRUSTED_PROXIES": "127.0.0.1", "PUBLIC_URL": f"https://{NAME}"}
    with (
        opened(yard, tmp_path_factory.mktemp("behind"), env) as door,
        nginx(folder, door.server.port) as (tls_port, port),
    ):
        yield Site(door, tls_port, port, authority)


def test_a_chunk_arrives_while_the_provider_is_still_talking(site: Site) -> None:
    body = {"model": "oracle/drip:40x0.05", "messages": PROMPT, "stream": True}
    with (
        site.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        assert next(pieces).startswith(b"data: ")
        assert not site.door.oracle.calls[-1].finished.is_set()
        rest = b"".join(pieces)
    assert rest.endswith(b"data: [DONE]\n\n")
    assert site.door.row(answer)["tokens_out"] == 40


def test_the_callers_address_is_seen_and_what_they_say_of_it_is_not(site: Site) -> None:
    key = site.door.new_key(allowed_addresses=[CALLER])
    lie = {**key.bearer, "x-forwarded-for": CALLER}
    for address, headers, status in (
        (CALLER, key.bearer, 200),
        (STRANGER, key.bearer, 403),
        (STRANGER, lie, 403),
    ):
        with site.client(address) as client:
            body = {"model": "oracle/ok", "messages": PROMPT}
            answer = client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == status, answer.text


def test_a_caller_who_leaves_is_noticed_through_it(site: Site) -> None:
    body = {"model": "oracle/drip:2000x0.05", "messages": PROMPT, "stream": True}
    with (
        site.client() as client,
        client.stream("POST", "/v1/chat/completions", json=body) as answer,
    ):
        next(answer.iter_bytes())
    assert site.door.row(answer)["error_code"] == "client_gone"
    site.door.assert_nothing_left()


def test_plain_http_leads_to_tls_and_metrics_stay_inside(site: Site) -> None:
    plain = httpx.get(
        f"http://127.0.0.1:{site.port}/v1/models?x=1", headers={"host": NAME}, trust_env=False
    )
    assert plain.status_code == 308
    assert plain.headers["location"] == f"https://{NAME}/v1/models?x=1"
    with site.client() as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/readyz").status_code == 200
        answer = client.get("/v1/admin/auth/me")
    assert answer.status_code == 401
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_a_body_over_the_limit_is_refused_by_the_same_limit(site: Site) -> None:
    with site.client() as client:
        answer = client.post("/v1/chat/completions", content=b"x" * (33 * 1024 * 1024))
    assert answer.status_code == 413
