"""Counters of several workers as one sum, which no worker's death makes smaller.

Every worker counts in files (the Prometheus client's multi-process mode), and whoever is scraped adds all of them up. A file
belongs to a *seat*, not to a process: whoever takes the place of a dead worker counts on in its files. So sums never fall, and
there are never more files than workers at once.

`$GATEHOUSE_VAR/metrics/<id>/` belongs to one master and its workers, who hold its lock for as long as any of them lives; a
master that starts removes the folders that nobody holds. Two servers on one `GATEHOUSE_VAR` do not disturb each other.
"""

import fcntl
import logging
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from prometheus_client import multiprocess, values

log = logging.getLogger(__name__)

#: Bytes set apart for each file before it is used, enough for some 5,000 series. The client maps its files into memory, and a
#: process that writes into a mapped page for which the disk has no room is killed.
_RESERVED: Final = 1024 * 1024
_FILES: Final = ("counter", "histogram", "gauge_livesum", "gauge_livemax")
_SEAT: Final = "gatehouse_metrics_seat"


class _Place:
    folder: Path | None = None


_place = _Place()


def folder() -> Path | None:
    """Where the workers of this server count; None in a process that `serve` did not start."""
    return _place.folder


class SharedFiles:
    """The files of one server. Made by its master, before there are workers; the methods are gunicorn's hooks."""

    def __init__(self, base: Path) -> None:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(base):
            _remove_abandoned(base)
            self.folder = base / uuid.uuid4().hex
            self.folder.mkdir(mode=0o700)
            # Inherited by every worker, and let go by the kernel when the last of them has gone.
            self._lock = os.open(self.folder, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def assign_seat(self, arbiter: Any, worker: Any) -> None:
        """Before the fork: the lowest seat that no living worker has."""
        taken = {getattr(other, _SEAT, None) for other in arbiter.WORKERS.values()}
        setattr(worker, _SEAT, next(seat for seat in range(len(taken) + 1) if seat not in taken))

    def take_seat(self, worker: Any) -> None:
        """In the worker, before anything counts: from here on the client counts in files."""
        seat: int = getattr(worker, _SEAT)
        _place.folder = self.folder
        try:
            for kind in _FILES:
                _reserve(self.folder / f"{kind}_{seat}.db")
        except OSError as fault:
            log.warning("This worker counts for itself alone: no room (%s).", fault.strerror)
            return
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(self.folder)
        values.ValueClass = values.MultiProcessValue(lambda: seat)

    def clear_seat(self, arbiter: Any, worker: Any) -> None:
        """In the master, when a worker has ended: what it had counted stays, how it stood just then goes."""
        multiprocess.mark_process_dead(getattr(worker, _SEAT), str(self.folder))

    def remove(self) -> None:
        """At the end of the master."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _reserve(path: Path) -> None:
    """Raises OSError when there is no room for the whole file."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _RESERVED)
    finally:
        os.close(descriptor)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time: a folder that was made and is not locked yet would look abandoned."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(base: Path) -> None:
    for folder in base.iterdir():
        if folder.is_dir() and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        return True
    finally:
        os.close(descriptor)
