"""A Redis of one's own that can be frozen, killed, emptied and filled: `redis-server` as a process. Nothing of it lasts."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from gateway.proofs.grounds import free_port

_START_SECONDS = 10.0


def program() -> str:
    """Where it is; empty if it is nowhere."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or ""


class RedisProcess:
    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def start(self) -> None:
        """Empty, on the same port as before. Raises AssertionError."""
        assert self._process is None
        quiet = ("--save", "", "--appendonly", "no", "--daemonize", "no")
        self._process = subprocess.Popen(
            [program(), "--port", str(self.port), "--bind", "127.0.0.1", *quiet],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It takes connections (the kernel does) and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def spoil(self) -> None:
        """Every key now holds something of another kind."""
        with self.client() as client:
            for key in client.scan_iter(count=1000):
                kind = client.type(key)
                client.delete(key)
                if kind == b"list":
                    client.set(key, "spoiled")
                else:
                    client.rpush(key, "spoiled")

    def fill(self, full: bool) -> None:
        """No memory left for anything that writes; or enough again."""
        with self.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1" if full else "0")

    def commands_run(self) -> int:
        """How many it has run since its start, but for what a connection begins with and what asks for this number."""
        with self.client() as client:
            stats: Any = client.info("commandstats")
        return sum(
            its["calls"]
            for name, its in stats.items()
            if not name.startswith(("cmdstat_client", "cmdstat_info", "cmdstat_hello"))
        )

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
