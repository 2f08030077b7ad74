"""No request hides in another: what could be read in two ways is refused, and its connection ends."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from tests.gateway.door import Door, eventually
from tests.gateway.smuggling import Variant, variants

# Where a request ends is decided before any database is asked.
pytestmark = [pytest.mark.data_plane, pytest.mark.sqlite]

IS_BEHIND_GUNICORN = os.environ.get("TEST_EXPRESS") == "off"
#: Its parser passes over trailers whatever is in them, and lets a coding that changes nothing stand before the chunks.
READ_BY_GUNICORN = ("trailer ", "coding b'identity, chunked'")

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIG = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ }}
http {{
  log_format ids "$status $request_method $request_id $upstream_http_x_request_id"; access_log {log} ids;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_header_timeout 3s;
  upstream house {{ server 127.0.0.1:{behind}; keepalive 4; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://house; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_set_header Host gatehouse; proxy_set_header X-Request-Id $request_id;
    }}
  }}
}}
"""


def followed(port: int, variant: Variant, key: str) -> list[tuple[int, bool]]:
    """The answers on a connection that carried this and then a good request, its last: status, and whether it is that one's."""
    own = uuid4().hex
    good = (
        f"GET /v1/models HTTP/1.1\r\nhost: gatehouse\r\nauthorization: Bearer {key}\r\n"
        f"x-request-id: {own}\r\nconnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), timeout=15.0) as caller:
        seen = b""
        try:
            caller.sendall(variant.sent)
            caller.sendall(good.encode())
            while piece := caller.recv(65536):
                seen += piece
        except ConnectionError:
            pass  # refused and closed while we were still sending
    return list(answers(seen, own.encode()))


def answers(seen: bytes, own: bytes) -> Iterator[tuple[int, bool]]:
    """Raises AssertionError for bytes that are no answer. nginx answers what is no HTTP/1 without a head."""
    while seen:
        if not seen.startswith(b"HTTP/1.1 "):
            assert b"<html>" in seen[:10], seen[:200]
            yield 400, False
            return
        head, _, seen = seen.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if fields.get(b"transfer-encoding") == b"chunked":
            _, _, seen = seen.partition(b"0\r\n\r\n")
        else:
            seen = seen[int(fields.get(b"content-length", b"0")) :]
        yield int(head.split(b" ", 2)[1]), fields.get(b"x-request-id") == own


def assert_nothing_hides(door: Door) -> int:
    corpus = list(variants(door.key.secret))
    assert len({variant.name for variant in corpus}) == len(corpus)
    outcomes = sent_through(door.server.port, corpus, door.key.secret)
    wrong = [
        f"{variant.name}: {got}"
        for variant, got in zip(corpus, outcomes, strict=True)
        if not is_good(variant, got)
    ]
    assert not wrong, "\n".join(wrong)
    return len(corpus)


def sent_through(port: int, corpus: list[Variant], key: str) -> list[list[tuple[int, bool]]]:
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda variant: followed(port, variant, key), corpus))


def is_good(variant: Variant, got: list[tuple[int, bool]]) -> bool:
    if IS_BEHIND_GUNICORN and variant.name.startswith(READ_BY_GUNICORN):
        return True
    statuses, whose = [status for status, _ in got], [mine for _, mine in got]
    if whose == [False, True]:
        # Both were answered, each for itself.
        return statuses[1] == 200 and not variant.is_refused
    if any(whose) or any(status < 400 for status in statuses):
        return False
    # One refusal, and nothing after it was read; a reset may have swallowed even that. A good request may be refused for what it
    # asks, and what follows it for what it is.
    return len(whose) <= (1 if variant.is_refused else 2)


def canaries(door: Door) -> int:
    return sum(call.model == "canary" for call in door.oracle.made())


def test_no_request_hides_in_another(door: Door) -> None:
    before = canaries(door)
    assert assert_nothing_hides(door) >= 300
    assert canaries(door) == before or IS_BEHIND_GUNICORN
    door.assert_nothing_left()


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
def test_every_answer_behind_nginx_is_to_the_request_that_nginx_sent(
    door: Door, tmp_path: Path
) -> None:
    """nginx reads some of them as two good requests, and passes both on. That is no harm as long as we count as it does."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = tmp_path / "nginx.conf", tmp_path / "log"
    config.write_text(CONFIG.format(folder=tmp_path, port=port, behind=door.server.port, log=log))
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(config), "-e", "stderr"]
    before = canaries(door)
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as nginx:
        try:
            eventually(lambda: is_listening(port))
            sent_through(port, list(variants(door.key.secret)), door.key.secret)
        finally:
            nginx.terminate()
    lines = [line.split() for line in log.read_text().splitlines()]
    good = [line for line in lines if line[0] == "200"]
    assert len(good) > 50
    assert all(sent == answered for _, _, sent, answered in good)
    hidden = [line for line in good if line[1] == "POST"]
    assert canaries(door) - before == len(hidden)
    door.assert_nothing_left()


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
