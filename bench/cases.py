"""What is measured: the provider itself, nginx in front of it, other gateways, and Gatehouse in each of its modes."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench import peers
from bench.house import LIMITS, Houses
from bench.peers import Peer
from bench.processes import Process, cores_for, running, wait_listening
from bench.upstream import TLS_NAME, Upstream
from gateway import compiled
from gateway.proofs.grounds import free_port

DIRECT: Final = "direct"
NGINX: Final = "nginx"
_INTERPRETED: Final = {"GATEHOUSE_COMPILED": "off"}
#: What each mode of Gatehouse sets beyond what is set anyway.
MODES: Final[Mapping[str, dict[str, str]]] = MappingProxyType(
    {
        "compiled": {},
        "express": _INTERPRETED,
        "drf": {"GATEHOUSE_EXPRESS": "off", **_INTERPRETED},
        "httpx": {"GATEHOUSE_TRANSPORT": "httpx", **_INTERPRETED},
    }
)
WORKERS: Final = (1, 2)
#: The modes that are ordinary ones; the others are measured with all limits on, and only if asked for.
_ORDINARY: Final = ("compiled", "express")
#: Of these, what a stream costs is measured without being asked for: nothing on, and everything on.
_STREAMED: Final = tuple(
    f"{mode}{rest}" for mode in _ORDINARY for rest in ("-1", "-1-budget", "-2-budget")
)
_HOW_TO_COMPILE: Final = "Gatehouse is not compiled, so those cases are left out: make compile."
HOW_TO_INSTALL_NGINX: Final = (
    "nginx is not installed, so its case is left out: on Debian, apt-get install nginx-light."
)

_NGINX_CONFIG: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 16384; }}
http {{
  access_log off; keepalive_timeout 300; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_buffer_size 128k; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 4096; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass {scheme}://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
      {trust}
    }}
  }}
}}
"""


@dataclass(frozen=True)
class Target:
    """Where calls go. What is measured is `process`; of a direct call nothing is between. `settle` waits for its books."""

    port: int
    headers: dict[str, str]
    process: Process | None
    started_in: float
    settle: Callable[[int], None]


@dataclass(frozen=True)
class Case:
    """`started` gives it anew for every round; `processes` is how many cores are kept for its server.

    Of `most_streams` at once it takes part in the loads, and in none that has more.
    """

    name: str
    processes: int
    started: Callable[[], AbstractContextManager[Target]]
    most_streams: int = 0


#: All that are asked for.
_ANY: Final = 1_000_000
#: A call of LiteLLM takes 25 ms of processor time: of more streams than these the last would not begin within a minute.
_STREAMS_OF_LITELLM: Final = 500


def all_cases(folder: Path, upstream: Upstream, houses: Houses, full: bool) -> list[Case]:
    """In the order of the table, without what is not installed. `full`: each takes part in every load that it can bear."""
    found = [Case(DIRECT, 1, lambda: _direct(upstream.port), _ANY)]
    if nginx_program():
        found.append(Case(NGINX, 1, lambda: _nginx(folder, upstream), _ANY))
    for name, made in ((peers.LITELLM, peers.litellm), (peers.PORTKEY, peers.portkey)):
        if upstream.certificate is None and peers.installed(name):
            most = 0 if not full else _STREAMS_OF_LITELLM if name == peers.LITELLM else _ANY
            found.append(_peer(name, made, folder, upstream.port, most))
    for mode, workers, limits in _gatehouses():
        if mode == "compiled" and compiled.look() != "ready":
            continue
        case = _gatehouse(houses, mode, workers, limits)
        found.append(replace(case, most_streams=_ANY if full or case.name in _STREAMED else 0))
    return found


def _gatehouses() -> Iterator[tuple[str, int, str]]:
    """Mode, workers, and what limits the key."""
    for mode in MODES:
        for workers in WORKERS:
            for limits in LIMITS if mode in _ORDINARY else (list(LIMITS)[-1],):
                yield mode, workers, limits


def _name(mode: str, workers: int, limits: str) -> str:
    return f"{mode}-{workers}" + ("" if limits == "none" else f"-{limits}")


def names() -> list[str]:
    return [DIRECT, NGINX, *peers.NAMES, *(_name(*each) for each in _gatehouses())]


def usual() -> list[str]:
    """What is measured unless somebody asks for more."""
    return [name for name in names() if not name.startswith(("drf", "httpx"))]


def is_gatehouse(name: str) -> bool:
    return name not in {DIRECT, NGINX, *peers.NAMES}


def missing(chosen: Sequence[str], tls: bool) -> list[str]:
    """A sentence for each of these that is not installed, or cannot take part."""
    absent = [
        f"{name} {peers.HOW_TO_INSTALL}"
        for name in chosen
        if name in peers.NAMES and not tls and not peers.installed(name)
    ]
    if NGINX in chosen and not nginx_program():
        absent.insert(0, HOW_TO_INSTALL_NGINX)
    if compiled.look() != "ready" and any(name.startswith("compiled") for name in chosen):
        absent.append(_HOW_TO_COMPILE)
    return absent


@contextmanager
def _direct(upstream_port: int) -> Iterator[Target]:
    yield Target(upstream_port, {}, None, 0.0, lambda calls: None)


def _nginx_trust(certificate: Path) -> str:
    """It knows a certificate by its name and not by its address."""
    return f"proxy_ssl_verify on; proxy_ssl_name {TLS_NAME}; proxy_ssl_trusted_certificate {certificate};"


@contextmanager
def _nginx(folder: Path, upstream: Upstream) -> Iterator[Target]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        _NGINX_CONFIG.format(
            folder=folder,
            port=port,
            scheme="https" if upstream.certificate else "http",
            upstream=upstream.tls_port or upstream.port,
            trust=_nginx_trust(upstream.certificate) if upstream.certificate else "",
        )
    )
    command = [nginx_program(), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    started = time.monotonic()
    with running(command, cores_for(1).server, folder / "nginx.log") as process:
        wait_listening(process, port)
        yield Target(port, {}, process, time.monotonic() - started, lambda calls: None)


def _peer(
    name: str, made: Callable[[Path, int, int], Peer], folder: Path, upstream: int, most: int
) -> Case:
    @contextmanager
    def started() -> Iterator[Target]:
        port = free_port()
        peer = made(folder, port, upstream)
        env = {"PATH": os.defpath, **peer.settings}
        began = time.monotonic()
        with running(peer.command, cores_for(1).server, folder / f"{name}.log", env) as process:
            wait_listening(process, port, peers.START_SECONDS)
            took = time.monotonic() - began
            yield Target(port, peer.headers, process, took, lambda calls: None)

    return Case(name, 1, started, most)


def _gatehouse(houses: Houses, mode: str, workers: int, limits: str) -> Case:
    @contextmanager
    def started() -> Iterator[Target]:
        with houses.serving(workers, MODES[mode]) as house:
            headers = {"authorization": f"Bearer {house.keys[limits]}"}
            yield Target(house.port, headers, house.process, house.started_in, house.wait_for_books)

    return Case(_name(mode, workers, limits), workers, started)


def nginx_program() -> str:
    """Where it is, for it is often not on a user's PATH; empty if it is nowhere."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


def nginx_version() -> str:
    done = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.rpartition("/")[2].strip()
