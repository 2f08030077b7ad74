"""Processes of a benchmark: started on given cores, weighed by /proc, stopped with everything that they started. Linux only."""

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.proofs.grounds import ROOT

STOP_SECONDS: Final = 60.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PROC: Final = Path("/proc")


class BenchFailed(Exception):
    """There is no figure to report; the message says why."""


@dataclass(frozen=True)
class Cores:
    """Which processors the measured server has, and which the callers and the provider."""

    server: frozenset[int]
    load: frozenset[int]

    @property
    def shared(self) -> bool:
        return bool(self.server & self.load)


def cores_for(processes: int) -> Cores:
    """One for each process of the server and the rest for the load. Where there is no rest, both have all."""
    here = sorted(os.sched_getaffinity(0))
    server, rest = here[:processes], here[processes:]
    if not rest:
        server = rest = here
    return Cores(frozenset(server), frozenset(rest))


@dataclass(frozen=True)
class Weight:
    """MiB of a process and all that it started: resident sets added up, and with shared pages counted once (PSS)."""

    rss: float
    pss: float


class Process:
    """A running program and whatever it starts."""

    def __init__(self, popen: "subprocess.Popen[bytes]", log: Path) -> None:
        self._popen = popen
        self._log = log

    def family(self) -> list[int]:
        """Its process and all below it."""
        children: dict[int, list[int]] = {}
        for pid, fields in _stats():
            children.setdefault(int(fields[1]), []).append(pid)
        found = [self._popen.pid]
        for pid in found:
            found += children.get(pid, [])
        return found

    def cpu_seconds(self) -> float:
        """Processor time so far of all that still run, in steps of the kernel's tick (10 ms)."""
        family = set(self.family())
        return sum(
            (int(fields[11]) + int(fields[12])) / _TICKS
            for pid, fields in _stats()
            if pid in family
        )

    def weight(self) -> Weight:
        kib = {"Rss": 0, "Pss": 0}
        for pid in self.family():
            try:
                text = (_PROC / str(pid) / "smaps_rollup").read_text()
            except OSError:
                continue
            for name in kib:
                found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
                kib[name] += int(found[1]) if found else 0
        return Weight(kib["Rss"] / 1024, kib["Pss"] / 1024)

    def move(self, cores: frozenset[int]) -> None:
        """To other cores, as far as it has one thread."""
        os.sched_setaffinity(self._popen.pid, cores)

    def check_alive(self) -> None:
        """Raises BenchFailed, with the end of its log."""
        if self._popen.poll() is not None:
            told = self._log.read_text(errors="replace")[-2000:]
            raise BenchFailed(f"{self._popen.args!r} ended with {self._popen.returncode}:\n{told}")

    def stop(self) -> None:
        """SIGTERM, and after a while SIGKILL, to all of it."""
        self._popen.terminate()
        try:
            self._popen.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()


def _stats() -> Iterator[tuple[int, list[str]]]:
    """Every process with the fields of its stat file that follow the name: the state is 0, the parent 1 (proc(5))."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except OSError:
                continue
            yield int(entry.name), text.rpartition(")")[2].split()


@contextmanager
def running(
    command: Sequence[str], cores: frozenset[int], log: Path, env: dict[str, str] | None = None
) -> Iterator[Process]:
    """A program on those cores, in a session of its own, its output in `log`."""
    with log.open("ab") as output:
        popen = subprocess.Popen(
            list(command),
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
    process = Process(popen, log)
    try:
        yield process
    finally:
        process.stop()


def wait_listening(process: Process, port: int, within: float = 30.0) -> None:
    """Until the port takes connections. Raises BenchFailed."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        process.check_alive()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise BenchFailed(f"nothing listened on port {port} within {within:.0f} s")
