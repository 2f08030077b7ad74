import os
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from tests.usage.samples import attempt, call_id, intent, refusal, settlement
from usage import segments
from usage.calls import Call, Item
from usage.journal import Journal, JournalUnavailable, OutOfOrder
from usage.orphans import orphans
from usage.records import Record, Refusal, decode, encode


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def whole_call(journal: Journal, number: int) -> None:
    journal.append(intent(number))
    journal.append(attempt(number))
    journal.append(settlement(number))


def drain(journal: Journal) -> list[Item]:
    items: list[Item] = []
    while (batch := journal.take(3)).items:
        items += batch.items
        journal.flushed(batch)
    journal.flushed(batch)
    return items


def replayed(folder: Path) -> dict[int, Item]:
    """Everything in orphaned journals, by the number of the call; their files are gone afterwards."""
    found: dict[int, Item] = {}
    for orphan in orphans(folder):
        for item in orphan.items():
            first = item if isinstance(item, Refusal) else item.intent
            found[first.request_id.int - call_id(0).int] = item
        orphan.discard()
    return found


def abandon(journal: Journal) -> None:
    """As a killed process leaves it: the kernel closes the files."""
    journal.close(keep=True)


# In memory


def test_a_call_that_ended_before_it_was_taken_is_handed_on_once_and_whole(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    (call,) = drain(journal)
    assert call == Call(intent(1), (attempt(1),), settlement(1), held=False)
    assert (journal.pending, journal.open_calls) == (0, 0)


def test_an_open_call_is_handed_on_and_again_when_it_ends(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(intent(1))
    journal.append(attempt(1))
    assert drain(journal) == [Call(intent(1), (attempt(1),), None, held=False)]
    journal.append(attempt(1, 2))
    journal.append(settlement(1))
    assert drain(journal) == [
        Call(intent(1), (attempt(1), attempt(1, 2)), settlement(1), held=True)
    ]


def test_calls_come_out_in_the_order_in_which_they_began(folder: Path) -> None:
    journal = Journal(folder)
    for number in (3, 1, 2):
        journal.append(intent(number))
    journal.append(refusal(4))
    journal.append(settlement(1))
    firsts = [item if isinstance(item, Refusal) else item.intent for item in drain(journal)]
    assert [first.correlation_id[-1] for first in firsts] == ["3", "1", "2", "4"]


def test_a_record_that_does_not_fit_its_call_is_a_loud_fault(folder: Path) -> None:
    journal = Journal(folder)
    with pytest.raises(OutOfOrder):
        journal.append(attempt(1))
    with pytest.raises(OutOfOrder):
        journal.append(settlement(1))
    journal.append(intent(1))
    with pytest.raises(OutOfOrder):
        journal.append(intent(1))
    journal.append(settlement(1))
    with pytest.raises(OutOfOrder):
        journal.append(settlement(1))
    abandon(journal)
    assert list(replayed(folder)) == [1]


def test_too_much_waiting_refuses_new_calls_but_never_the_end_of_one(folder: Path) -> None:
    journal = Journal(folder, max_records=4)
    for number in (1, 2, 3, 4):
        journal.append(intent(number))
    with pytest.raises(JournalUnavailable):
        journal.append(intent(5))
    with pytest.raises(JournalUnavailable):
        journal.append(refusal(5))
    journal.append(attempt(1))
    journal.append(settlement(1))
    assert len(drain(journal)) == 4
    journal.append(intent(5))


def test_large_contents_count_by_their_bytes(folder: Path) -> None:
    journal = Journal(folder, max_bytes=100_000)
    journal.append(intent(1))
    journal.append(settlement(1, content=bytes(200_000)))
    with pytest.raises(JournalUnavailable):
        journal.append(intent(2))
    drain(journal)
    journal.append(intent(2))


def test_a_batch_is_bounded_by_its_bytes_as_well(folder: Path) -> None:
    journal = Journal(folder)
    for number in range(12):
        journal.append(intent(number))
    for number in range(12):
        journal.append(settlement(number, content=bytes(100_000)))
    taken = []
    while (batch := journal.take(200, 250_000)).items:
        taken.append(len(batch.items))
        journal.flushed(batch)
    journal.flushed(batch)
    assert taken == [3, 3, 3, 3]
    assert journal.pending == 0


def test_a_call_larger_than_a_batch_goes_alone(folder: Path) -> None:
    journal = Journal(folder)
    for number in range(3):
        journal.append(intent(number))
        journal.append(settlement(number, content=bytes(1_000)))
    journal.append(refusal(3))
    assert [len(journal.take(200, 1).items) for _ in range(4)] == [1, 1, 1, 1]


def test_the_flusher_is_woken_when_enough_has_gathered(folder: Path) -> None:
    journal, woken = Journal(folder), []
    journal.notify(3, lambda: woken.append(journal.pending))
    for number in range(5):
        journal.append(refusal(number))
    assert woken == [3]


def test_one_thread_appends_while_another_takes(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=20_000)
    ended = threading.Event()
    items: list[Item] = []

    def flush() -> None:
        while not ended.is_set() or journal.pending:
            items.extend(drain(journal))

    flusher = threading.Thread(target=flush)
    flusher.start()
    for number in range(3_000):
        whole_call(journal, number)
    ended.set()
    flusher.join(30)
    ends = [item for item in items if isinstance(item, Call) and item.settlement]
    assert [end.intent for end in ends] == [intent(number) for number in range(3_000)]
    assert all(end.attempts for end in ends)
    journal.close()
    assert list(folder.iterdir()) == []


# On disk


def test_the_folder_and_its_files_are_for_their_owner_only(folder: Path) -> None:
    journal = Journal(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]
    folder.chmod(0o755)
    journal.close()
    Journal(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_what_a_dead_worker_appended_is_read_back(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    journal.append(intent(2))
    journal.append(attempt(2))
    journal.append(refusal(3))
    journal.append(intent(4))
    abandon(journal)
    assert replayed(folder) == {
        1: Call(intent(1), (attempt(1),), settlement(1)),
        2: Call(intent(2), (attempt(2),)),
        3: refusal(3),
        4: Call(intent(4)),
    }
    assert list(folder.iterdir()) == []


class ByteByByte:
    """A segment's mapping that is slow: a reader looks at the file after every byte of a store of more than a header."""

    def __init__(self, segment: segments.Segment) -> None:
        self.seen: list[list[Record]] = []
        self.torn = 0
        self._real = segment._map
        self._path = segment.path
        segment._map = self  # type: ignore[assignment]

    def __setitem__(self, where: slice, data: bytes) -> None:
        step = 1 if len(data) > 8 else 8
        for at in range(0, len(data), step):
            begin = where.start + at
            self._real[begin : begin + step] = data[at : at + step]
            reading = segments.Reading()
            self.seen.append(list(segments.read(self._path.read_bytes(), reading)))
            self.torn += reading.torn
            assert reading.damaged == 0

    def close(self) -> None:
        self._real.close()


def test_an_append_that_ends_anywhere_is_seen_whole_or_not_at_all(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=4_000)
    slow = ByteByByte(journal._segment)
    journal.append(intent(1), attempt(1))
    assert all(seen == [] for seen in slow.seen[:-1])
    assert slow.seen[-1] == [intent(1), attempt(1)]
    assert slow.torn
    journal.append(settlement(1))
    assert slow.seen[-2:] == [[intent(1), attempt(1)], [intent(1), attempt(1), settlement(1)]]


def test_an_intent_and_its_first_attempt_are_one_record_to_the_flusher(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(intent(1), attempt(1))
    assert (journal.pending, journal.open_calls) == (1, 1)
    assert journal.take(9).items == [Call(intent(1), (attempt(1),), held=False)]
    abandon(journal)
    assert replayed(folder) == {1: Call(intent(1), (attempt(1),))}


def test_a_drained_journal_leaves_no_file(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    drain(journal)
    journal.close()
    journal.close()
    assert list(folder.iterdir()) == []
    with pytest.raises(JournalUnavailable):
        journal.append(intent(2))


def test_a_closed_journal_that_was_not_drained_is_an_orphan(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    journal.close()
    assert list(replayed(folder)) == [1]


def test_a_file_that_was_cut_gives_what_is_whole_and_says_that_it_is_damaged() -> None:
    frames = [
        segments.frame(record) for record in (intent(1), attempt(1), settlement(1), refusal(2))
    ]
    data = b"".join(frames)
    ends = [sum(map(len, frames[:i])) for i in range(len(frames) + 1)]
    for cut in range(len(data) + 1):
        reading = segments.Reading()
        records = list(segments.read(data[:cut], reading))
        assert len(records) == sum(end <= cut for end in ends[1:])
        assert (reading.torn, reading.damaged) == (0, cut not in ends)


def test_a_flipped_bit_anywhere_is_noticed_and_yields_no_wrong_record() -> None:
    records: list[Record] = [intent(1), attempt(1), settlement(1)]
    data = b"".join(segments.frame(record) for record in records)
    for at in range(len(data)):
        reading = segments.Reading()
        broken = bytearray(data)
        broken[at] ^= 0x10
        found = list(segments.read(bytes(broken) + bytes(500), reading))
        assert found == records[: len(found)]
        assert len(found) < 3
        assert (reading.torn, reading.damaged) == (0, 1)


@pytest.mark.parametrize("room", [0, 1, 7, 8, 64])
def test_room_that_was_never_used_is_not_torn(room: int) -> None:
    reading = segments.Reading()
    data = segments.frame(intent(1)) + bytes(room)
    assert list(segments.read(data, reading)) == [intent(1)]
    assert (reading.torn, reading.damaged) == (0, 0)


def test_of_an_append_that_nobody_finished_the_bytes_are_counted() -> None:
    reading = segments.Reading()
    data = segments.frame(intent(1)) + bytes(8) + b"half a frame" + bytes(500)
    assert list(segments.read(data, reading)) == [intent(1)]
    assert (reading.torn, reading.damaged) == (20, 0)


def test_a_damaged_journal_gives_what_it_can_and_is_kept(folder: Path) -> None:
    payload = b"\x93no record"
    strange = len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little")
    one, two = (
        segments.frame(intent(number)) + segments.frame(settlement(number)) for number in (1, 2)
    )
    folder.mkdir()
    path = folder / segments.file_name(str(call_id(1)), 1)
    path.write_bytes(one + strange + payload + two + bytes(100))
    for orphan in orphans(folder):
        assert len(list(orphan.items())) == 2
        assert orphan.reading.damaged == 1
        orphan.discard()
    assert [kept.name for kept in folder.iterdir()] == [f"rejected-{path.name}"]
    assert list(orphans(folder)) == []


# Full disks


def fill_the_disk(patch: pytest.MonkeyPatch) -> None:
    """From now on there is no room for another segment."""

    def refuse(descriptor: int, begin: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    patch.setattr(os, "posix_fallocate", refuse)


def fill(journal: Journal) -> int:
    """Appends refusals until one is refused itself; how many there are."""
    for taken in range(1_000):
        try:
            journal.append(refusal(100 + taken))
        except JournalUnavailable:
            return taken
    pytest.fail("The journal has no end")


def test_without_room_for_its_first_segment_there_is_no_journal(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_the_disk(monkeypatch)
    with pytest.raises(OSError, match="No space"):
        Journal(folder)
    assert list(folder.iterdir()) == []


def test_without_room_for_a_new_segment_the_old_one_goes_on_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder, segment_bytes=20_000)
    journal.append(intent(1), attempt(1))
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        taken = fill(journal)
        assert fill(journal) == 0
    assert 20_000 - 300 < journal._segment.used <= 20_000
    assert len(list(folder.iterdir())) == journal.segments == 1
    whole_call(journal, 2)
    assert journal.segments == 2
    abandon(journal)
    found = replayed(folder)
    assert found.pop(1) == Call(intent(1), (attempt(1),))
    assert found.pop(2) == Call(intent(2), (attempt(2),), settlement(2))
    assert sorted(found) == list(range(100, 100 + taken))


def test_the_end_of_a_call_is_not_refused_by_a_full_disk(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(folder, segment_bytes=2_000)
    for number in (1, 2):
        journal.append(intent(number), attempt(number))
    with monkeypatch.context() as patch:
        fill_the_disk(patch)
        fill(journal)
        journal.append(settlement(1, content=bytes(2_000)))
    assert journal.unwritten == 1
    journal.append(settlement(2))
    assert journal.unwritten == 1
    calls = [item for item in drain(journal) if isinstance(item, Call)]
    assert [call.settlement is not None for call in calls] == [True, True]


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from tests.usage.samples import *
from usage.journal import Journal, JournalUnavailable
journal = Journal(Path(sys.argv[1]), segment_bytes=4_000)
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
taken = 0
try:
    for taken in range(100):
        journal.append(refusal(taken))
except JournalUnavailable:
    print(taken, flush=True)
"""


def test_a_real_limit_on_the_file_leaves_whole_frames_only(folder: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", FILE_LIMIT, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    taken = int(run.stdout)
    assert 0 < taken < 100
    for orphan in orphans(folder):
        assert len(list(orphan.items())) == taken
        assert (orphan.reading.torn, orphan.reading.damaged) == (0, 0)
    assert len(list(folder.iterdir())) == 1


# Rotation


def test_a_full_segment_goes_when_the_tables_have_it_and_open_calls_move_on(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=2_000)
    journal.append(intent(1))
    journal.append(attempt(1))
    for number in range(2, 50):
        whole_call(journal, number)
    assert journal.segments > 3
    drain(journal)
    assert journal.segments == 1
    assert len(list(folder.iterdir())) == 1
    abandon(journal)
    found = replayed(folder)
    assert found[1] == Call(intent(1), (attempt(1),))


def test_a_call_is_whole_across_segments(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1_000)
    journal.append(intent(1))
    journal.append(attempt(1))
    for number in range(2, 20):
        whole_call(journal, number)
    journal.append(attempt(1, 2))
    for number in range(20, 40):
        whole_call(journal, number)
    journal.append(settlement(1))
    assert journal.segments > 5
    abandon(journal)
    found = replayed(folder)
    assert found[1] == Call(intent(1), (attempt(1), attempt(1, 2)), settlement(1))
    assert all(isinstance(item, Call) and item.settlement for item in found.values())
    assert list(found) == [*range(2, 40), 1]
    assert list(folder.iterdir()) == []


def test_a_record_larger_than_a_segment_gets_one_of_its_own(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1_000)
    journal.append(intent(1), attempt(1))
    journal.append(intent(2), attempt(2))
    large = settlement(1, content=bytes(100_000))
    journal.append(large)
    journal.append(settlement(2))
    abandon(journal)
    assert replayed(folder) == {
        1: Call(intent(1), (attempt(1),), large),
        2: Call(intent(2), (attempt(2),), settlement(2)),
    }


def test_many_open_calls_are_not_copied_for_every_few_records(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1_000)
    for number in range(1_000):
        journal.append(intent(number), attempt(number))
    before = journal.segments
    assert before < 50
    for number in range(1_000):
        journal.append(settlement(number))
    assert journal.segments - before <= 2
    abandon(journal)
    assert len(replayed(folder)) == 1_000


# Owners


def test_nobody_replays_the_journal_of_a_living_worker(folder: Path) -> None:
    journal = Journal(folder, segment_bytes=1_000)
    for number in range(20):
        whole_call(journal, number)
    assert journal.segments > 2
    assert list(orphans(folder)) == []
    assert list(orphans(folder, own=journal.boot)) == []


def test_an_orphan_that_was_not_discarded_is_found_again(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    abandon(journal)
    for orphan in orphans(folder):
        assert list(orphans(folder)) == []
        assert len(list(orphan.items())) == 1
    assert list(replayed(folder)) == [1]


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    names = {"rejected-x.wal", "x-000001.wal", "notes.txt", ".wal", f"{call_id(1)}-1x.wal"}
    for name in names:
        (folder / name).write_bytes(b"?")
    (folder / f"{call_id(1)}-000001.wal").symlink_to(folder / "notes.txt")
    assert list(orphans(folder)) == []
    assert names < {path.name for path in folder.iterdir()}


def test_a_segment_that_appears_while_we_lock_means_that_its_worker_lives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker begins segment 2 and deletes segment 1 between our look into the folder and our lock."""
    journal = Journal(folder, segment_bytes=500)
    real = segments.lock

    def lock(path: Path) -> int | None:
        if journal.segments == 1 and path.name.endswith("1.wal"):
            descriptor = os.open(path, os.O_RDWR)
            for number in range(4):
                whole_call(journal, number)
            drain(journal)
            return descriptor
        return real(path)

    monkeypatch.setattr(segments, "lock", lock)
    assert list(orphans(folder)) == []
    assert journal.segments == 1


RACE = """
import sys
from pathlib import Path
from usage.orphans import orphans
sys.stdin.read(1)
for orphan in orphans(Path(sys.argv[1])):
    print(orphan.boot, len(list(orphan.items())), flush=True)
    orphan.discard()
"""


def test_two_processes_that_race_for_orphans_replay_each_once(folder: Path) -> None:
    boots = []
    for number in range(40):
        journal = Journal(folder, segment_bytes=600)
        for i in range(5):
            whole_call(journal, 10 * number + i)
        boots.append(journal.boot)
        abandon(journal)
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("x")
        racer.stdin.flush()
    lines = "".join(racer.communicate(timeout=60)[0] for racer in racers).splitlines()
    found = dict(line.split() for line in lines)
    left = {segments.boot_of(path.name) for path in folder.iterdir()}
    assert len(lines) == len(found)
    assert set(found) | left == set(boots)
    assert set(found.values()) == {"5"}
    assert all(racer.returncode == 0 for racer in racers)


KILLED = """
import sys
from pathlib import Path
from tests.usage.samples import *
from usage.journal import Journal
journal = Journal(Path(sys.argv[1]), segment_bytes=50_000)
number = 0
while True:
    number += 1
    journal.append(intent(number))
    print("i", number, flush=True)
    journal.append(attempt(number))
    journal.append(settlement(number))
    print("s", number, flush=True)
"""


@pytest.mark.parametrize("read_lines", [1, 50, 501, 2000])
def test_a_kill_loses_nothing_that_was_acknowledged(folder: Path, read_lines: int) -> None:
    victim = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    lines = [victim.stdout.readline() for _ in range(read_lines)]
    victim.send_signal(signal.SIGKILL)
    lines += victim.stdout.readlines()
    victim.wait(30)
    victim.stdout.close()
    told = [line.split() for line in lines if line.endswith("\n")]
    found = replayed(folder)
    assert {int(number) for kind, number in told if kind == "i"} <= set(found)
    for kind, number in told:
        item = found[int(number)]
        assert isinstance(item, Call)
        assert kind == "i" or item.settlement is not None
    assert list(folder.iterdir()) == []


def append_until_killed(folder: Path, segment_bytes: int, calls: list[Call], tell: int) -> None:
    """In a child. A byte for each `append` that returned."""
    journal = Journal(folder, segment_bytes=segment_bytes)
    for call in calls:
        journal.append(call.intent, call.attempts[0])
        os.write(tell, b"i")
        assert call.settlement is not None
        journal.append(call.settlement)
        os.write(tell, b"s")
    signal.pause()


def appends_before_a_kill(folder: Path, segment_bytes: int, calls: list[Call]) -> int:
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            append_until_killed(folder, segment_bytes, calls, tell)
        finally:
            os._exit(1)
    os.close(tell)
    select.select([hear], [], [], 30)
    time.sleep(random.uniform(0, 0.003))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    told = len(os.read(hear, 65_536))
    os.close(hear)
    return told


@pytest.mark.parametrize("segment_bytes", [3_000, 100_000])
def test_a_kill_in_the_middle_of_an_append_damages_nothing(
    folder: Path, segment_bytes: int
) -> None:
    calls = [
        Call(intent(number), (attempt(number),), settlement(number)) for number in range(1_500)
    ]
    for _ in range(100):
        told = appends_before_a_kill(folder, segment_bytes, calls)
        found = replayed(folder)
        ended = sum(
            isinstance(item, Call) and item.settlement is not None for item in found.values()
        )
        assert len(found) + ended in {told, told + 1}
        for number, call in enumerate(calls[: len(found)]):
            settled = call.settlement if number < ended else None
            assert found[number] == Call(call.intent, call.attempts, settled)
        assert list(folder.iterdir()) == []


def test_a_child_of_the_worker_does_not_keep_its_journal_alive(folder: Path) -> None:
    journal = Journal(folder)
    whole_call(journal, 1)
    ready, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b"x")
        signal.pause()
    try:
        os.read(ready, 1)
        assert list(orphans(folder)) == []
        abandon(journal)
        assert list(replayed(folder)) == [1]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def test_a_record_survives_its_frame() -> None:
    for record in (intent(1), attempt(1), settlement(1, content=b"\x00\xff"), refusal(1)):
        assert list(segments.read(segments.frame(record), segments.Reading())) == [record]
        assert segments.frame(record)[8:] == encode(record)


def test_a_record_of_an_older_version_is_read_and_a_newer_one_by_the_older():
    """What came later stands at the end: it has a default, and who does not know it passes over it."""
    trace = UUID(int=7)
    for record in (intent(1), refusal(2)):
        newer = msgspec.structs.replace(record, trace_id=trace)
        whole = msgspec.msgpack.decode(encode(newer))
        assert whole[-1] == trace.bytes
        assert decode(msgspec.msgpack.encode(whole[:-1])) == record
        assert decode(msgspec.msgpack.encode([*whole, "of a later version"])) == newer
