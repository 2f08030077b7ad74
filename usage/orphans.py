"""Journals whose worker is gone: whoever gets their locks brings what they hold into the tables."""

import contextlib
import logging
import os
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import UUID

from usage import segments
from usage.calls import Call, Item
from usage.records import AttemptStarted, Intent, Refusal, Settlement

log = logging.getLogger(__name__)


class OrphanJournal:
    """All segments of a boot whose worker is gone, locked by us. Either `discard` or `release` ends it."""

    def __init__(self, boot: str, locked: dict[Path, int]) -> None:
        self.boot = boot
        self.reading = segments.Reading()
        self._locked = locked

    def items(self) -> Iterator[Item]:
        """Refusals and settled calls as they are read, then the calls that their worker left open (`settlement` None).

        A call's records may lie in several segments, and an intent twice where it was carried forward.
        """
        left_open: dict[UUID, tuple[Intent, dict[int, AttemptStarted]]] = {}
        for fd in self._locked.values():
            for record in segments.read(_content(fd), self.reading):
                match record:
                    case Refusal():
                        yield record
                    case Intent():
                        left_open.setdefault(record.request_id, (record, {}))
                    case AttemptStarted() if record.request_id in left_open:
                        left_open[record.request_id][1][record.n] = record
                    case Settlement() if record.request_id in left_open:
                        intent, attempts = left_open.pop(record.request_id)
                        yield Call(intent, tuple(attempts.values()), record)
                    case _:
                        # Its intent was in a frame that cannot be read any more.
                        self.reading.damaged += 1
        for intent, attempts in left_open.values():
            yield Call(intent, tuple(attempts.values()))

    def discard(self) -> None:
        """The tables have all of it: deletes the files, oldest first. Damaged ones are kept, as `rejected-…`."""
        for path in self._locked:
            if self.reading.damaged:
                path.rename(path.with_name(segments.REJECTED + path.name))
            else:
                path.unlink()
        self.release()

    def release(self) -> None:
        """Gives the locks back; what was not discarded is an orphan still."""
        for fd in self._locked.values():
            os.close(fd)
        self._locked = {}


def orphans(folder: Path, *, own: str = "") -> Generator[OrphanJournal]:
    """Every journal in `folder` that nobody holds, but never the boot `own`. Each is released when the next is asked for."""
    for boot, paths in _by_boot(folder).items():
        if boot == own:
            continue
        locked = _lock_all(folder, boot, paths)
        if locked is None:
            continue
        orphan = OrphanJournal(boot, locked)
        try:
            yield orphan
        finally:
            orphan.release()


def boots_in(folder: Path) -> set[str]:
    """Whose journals are at hand, of the living and of the dead."""
    return set(_by_boot(folder))


def _by_boot(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    with contextlib.suppress(FileNotFoundError):
        for path in sorted(folder.iterdir()):
            boot = segments.boot_of(path.name)
            if boot is not None:
                found[boot].append(path)
    return found


def _lock_all(folder: Path, boot: str, paths: list[Path]) -> dict[Path, int] | None:
    """The boot's segments, all locked; None when it lives, or another worker was faster.

    A worker always holds the lock of at least one segment that can be seen, and unlinks a segment before it lets its lock go.
    So when everything that is there *after* we got the locks is ours, nobody lives; and what vanished meanwhile says that
    somebody does, or that it has been replayed.
    """
    locked: dict[Path, int] = {}
    try:
        for path in paths:
            fd = segments.lock(path)
            if fd is None:
                break
            locked[path] = fd
        else:
            there = _by_boot(folder).get(boot)
            if there == paths and all(segments.is_named(fd, path) for path, fd in locked.items()):
                return locked
    except OSError as error:
        log.warning("A journal cannot be opened: %s", error)
    for fd in locked.values():
        os.close(fd)
    return None


def _content(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
