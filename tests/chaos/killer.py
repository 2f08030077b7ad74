"""Kills workers, and keeps what lay open in each one's journal at that moment: every call that may end `unknown`."""

import os
import random
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from tests.support.server import Server
from usage import segments
from usage.records import AttemptStarted, Intent, Settlement

#: Seconds between two kills: so short that some workers die young, so long that most have calls to lose.
_PAUSE: Final = (0.05, 1.2)
#: Share of kills that take any worker, one that is only just starting as well; the others wait for one that serves.
_ANY: Final = 0.15


@dataclass(frozen=True)
class Kill:
    """`open_attempts`: ids as the upstream sees them; `undispatched`: calls that had not got as far as an attempt."""

    number: int
    at: float
    pid: int
    serving: bool
    open_attempts: frozenset[str] = field(default_factory=frozenset)
    undispatched: frozenset[str] = field(default_factory=frozenset)


class Killer:
    def __init__(self, server: Server, seed: int) -> None:
        self.kills: list[Kill] = []
        self._server = server
        self._random = random.Random(seed)

    def kill(self, times: int) -> None:
        """Sends that many SIGKILLs, at random moments, to random workers."""
        while len(self.kills) < times:
            time.sleep(self._random.uniform(*_PAUSE))
            pids = self._choose()
            if pids:
                self._kill(self._random.choice(pids))

    def _choose(self) -> list[int]:
        pids = self._server.worker_pids()
        if self._random.random() < _ANY:
            return pids
        serving = [pid for pid in pids if any(_journals(pid))]
        if not serving:
            time.sleep(0.05)
        return serving

    def _kill(self, pid: int) -> None:
        """The journal is opened before the blow and read after it: by then somebody may have replayed and deleted it."""
        try:
            end = os.pidfd_open(pid)
            files = [os.open(path, os.O_RDONLY) for path in _journals(pid)]
            os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            return
        at = time.time()
        select.select([end], [], [], 10)
        os.close(end)
        open_attempts, undispatched = _left_open(files)
        for file in files:
            os.close(file)
        self.kills.append(
            Kill(len(self.kills) + 1, at, pid, bool(files), open_attempts, undispatched)
        )


def _journals(pid: int) -> Iterator[str]:
    """The journal segments that a process has open, as paths to open them by (Linux), in their order."""
    # By its target: a segment that is mapped is open twice.
    found = {}
    try:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            try:
                target = str(link.readlink())
            except FileNotFoundError:
                continue
            if target.endswith(segments.SUFFIX):
                found[target] = str(link)
    except (FileNotFoundError, ProcessLookupError):
        return
    yield from (link for _, link in sorted(found.items()))


def _left_open(files: list[int]) -> tuple[frozenset[str], frozenset[str]]:
    """The attempts, and the calls without one, of which these journals know the beginning and not the end."""
    calls: dict[UUID, set[int]] = {}
    for file in files:
        for record in segments.read(_content(file), segments.Reading()):
            if isinstance(record, Intent):
                calls.setdefault(record.request_id, set())
            elif isinstance(record, AttemptStarted):
                calls.setdefault(record.request_id, set()).add(record.n)
            elif isinstance(record, Settlement):
                calls.pop(record.request_id, None)
    attempts = frozenset(f"{call.hex}-{n}" for call, numbers in calls.items() for n in numbers)
    return attempts, frozenset(call.hex for call, numbers in calls.items() if not numbers)


def _content(file: int) -> bytes:
    with open(file, "rb", closefd=False) as opened:
        opened.seek(0)
        return opened.read()
