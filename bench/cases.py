"""What is measured: the provider itself, nginx in front of it, and Gatehouse in each of its modes."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.house import Houses
from bench.processes import Process, cores_for, free_port, running, wait_listening

DIRECT: Final = "direct"
NGINX: Final = "nginx"
#: What each mode of Gatehouse sets beyond what is set anyway.
MODES: Final[Mapping[str, dict[str, str]]] = MappingProxyType(
    {
        "express": {},
        "drf": {"GATEHOUSE_EXPRESS": "off"},
        "httpx": {"GATEHOUSE_TRANSPORT": "httpx"},
    }
)
WORKERS: Final = (1, 2)
HOW_TO_INSTALL_NGINX: Final = (
    "nginx is not installed, so its case is left out: on Debian, apt-get install nginx-light."
)

_NGINX_CONFIG: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_timeout 300; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_buffer_size 128k; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
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
    """`started` gives it anew for every round; `processes` is how many cores are kept for its server."""

    name: str
    processes: int
    started: Callable[[], AbstractContextManager[Target]]


def all_cases(folder: Path, upstream_port: int, houses: Houses) -> list[Case]:
    """In the order of the table. Without nginx, its case is left out."""
    found = [Case(DIRECT, 1, lambda: _direct(upstream_port))]
    if nginx_program():
        found.append(Case(NGINX, 1, lambda: _nginx(folder, upstream_port)))
    return found + [_gatehouse(houses, mode, workers) for mode in MODES for workers in WORKERS]


def names() -> list[str]:
    return [DIRECT, NGINX, *(f"{mode}-{workers}" for mode in MODES for workers in WORKERS)]


@contextmanager
def _direct(upstream_port: int) -> Iterator[Target]:
    yield Target(upstream_port, {}, None, 0.0, lambda calls: None)


@contextmanager
def _nginx(folder: Path, upstream_port: int) -> Iterator[Target]:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX_CONFIG.format(folder=folder, upstream=upstream_port, port=port))
    command = [nginx_program(), "-p", str(folder), "-c", str(config), "-e", "stderr"]
    started = time.monotonic()
    with running(command, cores_for(1).server, folder / "nginx.log") as process:
        wait_listening(process, port)
        yield Target(port, {}, process, time.monotonic() - started, lambda calls: None)


def _gatehouse(houses: Houses, mode: str, workers: int) -> Case:
    @contextmanager
    def started() -> Iterator[Target]:
        with houses.serving(workers, MODES[mode]) as house:
            headers = {"authorization": f"Bearer {house.key}"}
            yield Target(house.port, headers, house.process, house.started_in, house.wait_for_books)

    return Case(f"{mode}-{workers}", workers, started)


def nginx_program() -> str:
    """Where it is, for it is often not on a user's PATH; empty if it is nowhere."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or ""


def nginx_version() -> str:
    done = subprocess.run([nginx_program(), "-v"], capture_output=True, text=True, check=True)
    return done.stderr.rpartition("/")[2].strip()
