"""Taking old rows off the audit log: what went can be proved, what stays verifies, and no crash or hand in it goes unnoticed."""

import itertools
import json
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants import audit, audit_marks, audit_prune, audit_triggers
from tenants.actor import system_actor
from tenants.audit import Entry, Target
from tenants.changes import note
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid
from tenants.models import AuditEvent, AuditHead, AuditPrune
from tests.support.contents import contents
from tests.support.threads import at_once
from tests.tenants.test_audit import Undo, _another, audit_columns, triggers_lifted

ACTOR = system_actor("a test")
SCOPE = "0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5"
ROWS = 12
Write = Callable[[int], list[AuditEvent]]


class Clock:
    """Moments that one can choose."""

    def __init__(self) -> None:
        self.moment = SYSTEM.now() - timedelta(days=200)

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(SYSTEM, "now", clock)
    return clock


@pytest.fixture
def write(db: None, clock: Clock) -> Write:
    """Rows of one chain, an hour apart."""

    def some(number: int, scope: str = SCOPE) -> list[AuditEvent]:
        rows: list[AuditEvent] = []
        for _ in range(number):
            clock.moment += timedelta(hours=1)
            entry = Entry(ACTOR, "tenant.updated", Target("tenant", str(uuid4())), scope)
            entry.details = {"name": f"row {len(rows)}"}
            with transaction.atomic():
                rows.append(audit.write(entry))
        clock.moment += timedelta(minutes=5)
        return rows

    return some


def prune(folder: Path, before: datetime | None = None, **more: Any) -> audit_prune.Outcome:
    return audit_prune.prune(actor=ACTOR, before=before or SYSTEM.now(), folder=folder, **more)


def seqs(scope: str = SCOPE) -> list[int]:
    return list(
        AuditEvent.objects.filter(scope=scope).order_by("seq").values_list("seq", flat=True)
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def after(row: AuditEvent) -> datetime:
    return row.created_at + timedelta(minutes=1)


# --- what is done -----------------------------------------------------------------------------------------------------


def test_what_went_is_in_a_file_that_proves_it_and_the_chain_goes_on(write, tmp_path):
    rows = write(ROWS)
    outcome = prune(tmp_path / "segments", after(rows[7]))
    (mark,) = outcome.marks
    assert (outcome.rows, outcome.refused) == (8, {})
    assert (mark.from_seq, mark.to_seq, mark.noted_seq) == (1, 8, ROWS + 1)
    assert seqs() == [9, 10, 11, 12, 13]
    verdict = audit.verify()
    assert (verdict.findings, verdict.rows, verdict.pruned) == ([], 5, 8)
    (path,) = (tmp_path / "segments").iterdir()
    assert path.name == mark.file == f"{SCOPE}-000000001-000000008.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert audit_marks.file_digest(path) == bytes(mark.digest)
    found = lines(path)
    assert [row["seq"] for row in found] == list(range(1, 9))
    assert [row["id"] for row in found] == [str(row.id) for row in rows[:8]]
    for before, later in itertools.pairwise(found):
        assert later["prev_hash"] == before["row_hash"]
    assert found[-1]["row_hash"] == bytes(mark.head_hash).hex()
    told = AuditEvent.objects.get(action=audit.PRUNED)
    assert (told.scope, told.target_id, told.outcome) == (SCOPE, str(mark.id), "ok")
    assert (told.details["from_seq"], told.details["to_seq"]) == (1, 8)
    assert told.details["digest"].replace(" ", "") == bytes(mark.digest).hex()
    assert audit_triggers.missing(connection) == []


def test_the_log_is_append_only_again_afterwards(write, tmp_path):
    write(ROWS)
    prune(tmp_path)
    write(2)
    for statement in (
        "DELETE FROM tenants_auditevent",
        "UPDATE tenants_auditevent SET action = 'x'",
    ):
        with (
            pytest.raises(DatabaseError, match="append-only"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)


def test_it_goes_by_segments_and_goes_on_where_it_was(write, tmp_path):
    rows = write(ROWS)
    assert [it.rows for it in prune(tmp_path, after(rows[6]), rows_at_once=3).marks] == [3, 3, 1]
    rows += write(4)
    again = prune(tmp_path, after(rows[9]), rows_at_once=100)
    assert [(it.from_seq, it.to_seq) for it in again.marks] == [(8, 10)]
    assert audit.verify().findings == []
    assert len(list(tmp_path.iterdir())) == 4


def test_a_row_that_is_older_than_one_before_it_waits_for_that_one(write, tmp_path, clock):
    rows = write(3)
    clock.moment += timedelta(days=10)
    young = write(1)[0]
    clock.moment -= timedelta(days=20)
    write(2)
    clock.moment += timedelta(days=30)
    assert prune(tmp_path, young.created_at).rows == 3
    assert seqs() == [4, 5, 6, 7]
    assert rows[0].seq == 1


def test_each_chain_is_pruned_by_itself(write, tmp_path):
    write(4)
    write(3, audit.PLATFORM)
    assert prune(tmp_path, scope=audit.PLATFORM).rows == 3
    assert (seqs(), seqs(audit.PLATFORM)) == ([1, 2, 3, 4], [4])
    assert prune(tmp_path).rows == 4
    assert audit.verify().findings == []
    assert audit.verify(scope=SCOPE).pruned == 4


def test_of_a_chain_in_which_nothing_happens_nothing_is_written_down_again(write, tmp_path, clock):
    write(3)
    assert prune(tmp_path).rows == 3
    clock.moment += timedelta(days=100)
    before = contents()
    assert prune(tmp_path).marks == []
    assert contents() == before
    write(1)
    assert prune(tmp_path).rows == 2


def test_a_dry_look_changes_nothing(write, tmp_path):
    rows = write(ROWS)
    before = contents()
    (found,) = audit_prune.old(after(rows[4]))
    assert (found.scope, found.first, found.last, found.rows) == (SCOPE, 1, 5, 5)
    assert audit_prune.old(rows[0].created_at) == []
    assert contents() == before


def test_neither_a_time_to_come_nor_a_folder_that_cannot_be_is_taken(write, tmp_path, clock):
    write(2)
    with pytest.raises(Invalid, match="future"):
        prune(tmp_path, clock.moment + timedelta(seconds=1))
    (tmp_path / "file").write_text("x")
    with pytest.raises(Invalid, match="cannot be"):
        prune(tmp_path / "file" / "below")
    assert seqs() == [1, 2]


def test_a_file_of_another_history_is_not_overwritten(write, tmp_path):
    write(3)
    other = tmp_path / f"{SCOPE}-000000001-000000003.jsonl"
    other.write_text("of another database\n")
    (mark,) = prune(tmp_path).marks
    assert mark.file == f"{SCOPE}-000000001-000000003-1.jsonl"
    assert other.read_text() == "of another database\n"


def test_heads_noted_before_are_understood(write, tmp_path):
    write(5)
    early = audit.heads()
    rows = write(5)
    at_the_cut = audit.heads()
    prune(tmp_path, after(rows[-1]))
    write(2)
    late = audit.heads()
    for anchors in (early, at_the_cut, late):
        assert audit.verify(anchors).findings == []
    wrong = {SCOPE: (10, "0" * 64)}
    assert [it.seq for it in audit.verify(wrong).findings] == [10]
    gone = {SCOPE: (99, "0" * 64)}
    assert [it.kind for it in audit.verify(gone).findings] == ["truncated"]


def test_files_that_are_missing_or_changed_are_found(write, tmp_path):
    rows = write(6)
    prune(tmp_path, after(rows[3]), rows_at_once=2)
    assert list(audit_marks.wrong_files(tmp_path)) == []
    first, second = sorted(tmp_path.iterdir())
    second.write_bytes(second.read_bytes().replace(b"row 3", b"row 9"))
    assert [mark.from_seq for mark, _ in audit_marks.wrong_files(tmp_path)] == [3]
    first.unlink()
    assert len(list(audit_marks.wrong_files(tmp_path))) == 2
    assert list(audit_marks.wrong_files(tmp_path, audit.PLATFORM)) == []


# --- what is not pruned -----------------------------------------------------------------------------------------------


def test_a_chain_that_does_not_hold_is_left_alone_and_others_are_pruned(write, tmp_path):
    rows = write(5)
    write(3, audit.PLATFORM)
    with triggers_lifted():
        AuditEvent.objects.filter(pk=rows[4].pk).update(actor_label="somebody else")
    outcome = prune(tmp_path, after(rows[1]))
    assert list(outcome.refused) == [SCOPE]
    assert "does not hold at 5" in outcome.refused[SCOPE]
    assert seqs() == [1, 2, 3, 4, 5]
    assert not any(path.name.startswith(SCOPE) for path in tmp_path.iterdir())


def test_a_row_that_is_changed_after_the_look_at_the_chain_is_not_exported(
    write, tmp_path, monkeypatch
):
    rows = write(5)
    monkeypatch.setattr(audit_prune, "_refuse_damaged", lambda scope: None)
    with triggers_lifted():
        AuditEvent.objects.filter(pk=rows[1].pk).update(actor_label="somebody else")
    assert "does not hold at 2" in prune(tmp_path).refused[SCOPE]
    assert (seqs(), list(tmp_path.iterdir())) == ([1, 2, 3, 4, 5], [])


def test_the_trigger_is_lifted_inside_a_transaction_only(transactional_db):
    with pytest.raises(RuntimeError), audit_triggers.deletion_allowed(connection):
        pass
    assert audit_triggers.missing(connection) == []


# --- crashes ----------------------------------------------------------------------------------------------------------


class Crash(BaseException):
    """As if the process ended here: nothing of ours catches it."""


def _crashing(*_: Any, **__: Any) -> Any:
    raise Crash


def _after(real: Callable[..., Any]) -> Callable[..., Any]:
    def does_and_crashes(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise Crash

    return does_and_crashes


STEPS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "before the file": (audit_prune, "_written", lambda real: _crashing),
    "in the file": (audit_prune, "_write", _after),
    "before the file is on the disk": (os, "fsync", lambda real: _crashing),
    "before the file has its name": (audit_prune, "_name", lambda real: _crashing),
    "when the file has its name": (audit_prune, "_sync", lambda real: _crashing),
    "before the transaction": (audit_prune, "_take_out", lambda real: _crashing),
    "before the mark is signed": (audit_marks, "sign", lambda real: _crashing),
    "when the mark is there": (AuditPrune, "save", _after),
    "while the trigger is lifted": (
        audit_prune.Segment,
        "events",
        lambda real: _on_call(real, 5),
    ),
    "when the rows are gone": (audit_prune, "_take_out", _after),
    "before the row that tells of it": (audit, "write", lambda real: _crashing),
    "before the commit": (audit, "write", _after),
}


def _on_call(real: Callable[..., Any], number: int) -> Callable[..., Any]:
    """The last look at the rows is the one that deletes them."""
    calls = itertools.count(1)

    def works_until_then(segment: audit_prune.Segment) -> Any:
        if next(calls) == number:
            raise Crash
        return real(segment)

    return works_until_then


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.django_db(transaction=True)
def test_a_crash_at_any_step_loses_nothing_and_the_next_run_finishes(
    step, write, tmp_path, monkeypatch
):
    rows = write(9)
    everything = {str(row.id) for row in rows}
    owner, name, make = STEPS[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, make(getattr(owner, name)))
        with pytest.raises(Crash):
            prune(tmp_path, after(rows[5]), rows_at_once=3)
    assert seqs() == list(range(1, 10))
    assert AuditPrune.objects.count() == 0
    assert audit_triggers.missing(connection) == []
    assert audit.verify().findings == []
    assert prune(tmp_path, after(rows[5]), rows_at_once=3).rows == 6
    assert audit.verify().findings == []
    assert list(audit_marks.wrong_files(tmp_path)) == []
    files = [tmp_path / mark.file for mark in AuditPrune.objects.all()]
    told = [row["id"] for path in files for row in lines(path)]
    kept = [
        str(each)
        for each in AuditEvent.objects.filter(action="tenant.updated").values_list("id", flat=True)
    ]
    assert sorted(told + kept) == sorted(everything)
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


@pytest.mark.django_db(transaction=True)
def test_a_crash_between_two_segments_leaves_the_first_one_done(write, tmp_path):
    rows = write(9)
    with pytest.raises(Crash):
        prune(tmp_path, after(rows[5]), rows_at_once=3, progress=_crashing)
    assert seqs() == [4, 5, 6, 7, 8, 9, 10]
    assert audit.verify().findings == []
    assert [it.from_seq for it in prune(tmp_path, after(rows[5]), rows_at_once=3).marks] == [4]


# --- two at once ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_that_prune_at_once_take_each_segment_once_while_others_write(write, tmp_path):
    rows = write(60)
    end = after(rows[49])

    def prunes() -> int:
        return prune(tmp_path, end, rows_at_once=5).rows

    def writes() -> int:
        for number in range(30):
            note(Entry(ACTOR, "x", Target("x", str(number)), SCOPE))
        return 0

    assert sum(at_once(prunes, prunes, writes)) <= 50
    prune(tmp_path, end)
    assert [it.rows for it in AuditPrune.objects.order_by("to_seq")][-1] <= 5
    assert sum(it.rows for it in AuditPrune.objects.all()) == 50
    assert audit.verify().findings == []
    assert audit_triggers.missing(connection) == []


@pytest.mark.django_db(transaction=True)
def test_who_verifies_while_another_prunes_finds_nothing(write, tmp_path, monkeypatch):
    rows = write(80)
    monkeypatch.setattr(audit, "_PAGE", 7)
    monkeypatch.setattr(audit, "_ATTEMPTS", 50)

    def prunes() -> list[Any]:
        prune(tmp_path, after(rows[69]), rows_at_once=5)
        return []

    def verifies() -> list[Any]:
        return [it for _ in range(10) for it in audit.verify().findings]

    assert at_once(prunes, verifies) == [[], []]


# --- hands in it ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 24), min_size=1, max_size=4), step=st.integers(1, 9))
def test_whatever_is_pruned_and_when_the_log_verifies(write, tmp_path, cuts, step):
    with undone():
        rows = write(20)
        gone = 0
        for cut in cuts:
            before = after(rows[min(cut, len(rows)) - 1]) if cut else rows[0].created_at
            gone += prune(tmp_path / uuid4().hex, before, rows_at_once=step).rows
            verdict = audit.verify()
            assert (verdict.findings, verdict.pruned) == ([], gone)
            assert verdict.rows == AuditEvent.objects.count()
            write(1)


@pytest.fixture
def pruned(write, tmp_path) -> list[AuditPrune]:
    """A chain of twenty rows, of which eight went by two marks."""
    rows = write(ROWS)
    marks = prune(tmp_path, after(rows[7]), rows_at_once=4).marks
    write(8)
    assert audit.verify().findings == []
    return marks


@contextmanager
def undone() -> Iterator[None]:
    """Nothing that happens in here has happened afterwards."""
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


def found() -> list[tuple[str, int]]:
    return [(it.scope, it.seq) for it in audit.verify().findings]


def test_a_mark_that_was_taken_away_is_found(pruned):
    for mark in pruned:
        with undone():
            AuditPrune.objects.filter(pk=mark.pk).delete()
            assert found()
    AuditPrune.objects.all().delete()
    assert found() == [(SCOPE, 1)]


MARK_COLUMNS = [str(it.column) for it in AuditPrune._meta.concrete_fields]


@pytest.mark.parametrize("column", MARK_COLUMNS)
@pytest.mark.parametrize("number", [0, 1])
def test_an_edit_of_any_column_of_a_mark_is_found(pruned, column, number):
    mark = pruned[number]
    field = AuditPrune._meta.get_field(column)
    value: Any = getattr(mark, column)
    if isinstance(value, int):
        value = value + 100 if column == "noted_seq" else value - 1
    elif isinstance(value, datetime):
        value += timedelta(seconds=1)
    elif isinstance(value, UUID):
        value = uuid4()
    else:
        value = b"\1" * 32 if isinstance(value, bytes | memoryview) else "another"
    try:
        with transaction.atomic():
            AuditPrune.objects.filter(pk=mark.pk).update(**{field.name: value})
    except DatabaseError:
        return
    assert audit.verify().findings or audit.verify(scope=SCOPE).findings


def test_rows_that_were_cut_with_a_forged_mark_are_found(pruned):
    """Somebody who can do everything to the tables, and has no key."""
    newest = AuditEvent.objects.filter(scope=SCOPE, seq=15).get()
    with triggers_lifted():
        AuditEvent.objects.filter(scope=SCOPE, seq__lte=15).delete()
    forged = AuditPrune(
        scope=SCOPE,
        from_seq=9,
        to_seq=15,
        head_hash=newest.row_hash,
        file="x",
        digest=b"\1" * 32,
        noted_seq=16,
        created_at=SYSTEM.now(),
        actor_type="x",
        actor_id="x",
        actor_label="x",
        mac=bytes(pruned[1].mac),
    )
    forged.save(force_insert=True)
    assert found() == [(SCOPE, 9)]


def test_a_row_that_is_put_back_is_found(pruned, tmp_path):
    kept = AuditEvent.objects.filter(scope=SCOPE).order_by("seq").first()
    assert kept is not None
    values = {it.attname: getattr(kept, it.attname) for it in kept._meta.concrete_fields}
    AuditEvent.objects.create(**values | {"id": uuid4(), "seq": 3})
    assert "is there again" in audit.verify().findings[0].sentence


def test_a_tail_that_was_cut_behind_a_mark_is_found(pruned):
    with triggers_lifted():
        AuditEvent.objects.filter(scope=SCOPE, seq__gt=12).delete()
    AuditHead.objects.filter(pk=SCOPE).update(
        seq=12, row_hash=AuditEvent.objects.get(scope=SCOPE, seq=12).row_hash
    )
    # With the head set back as well: the row that tells of the newest mark is gone.
    assert found() == [(SCOPE, 8)]


def test_a_chain_that_was_emptied_behind_its_marks_is_found(pruned):
    with triggers_lifted():
        AuditEvent.objects.filter(scope=SCOPE).delete()
    AuditHead.objects.filter(pk=SCOPE).delete()
    assert found() == [(SCOPE, 8)]


def _tamper(chance: random.Random) -> None:
    """One random thing that somebody with the database could do."""
    kept = AuditEvent.objects.filter(scope=SCOPE)
    seq = chance.choice(list(kept.values_list("seq", flat=True)))
    kind = chance.choice(("edit", "edit", "delete", "mark", "mark", "forget"))
    if kind == "edit":
        names = [
            it for it in audit_columns() if it not in ("created_at", "details", "outcome", "source")
        ]
        _edit("tenants_auditevent", chance.choice(names), "seq", seq, chance)
    elif kind == "delete":
        kept.filter(seq=seq).delete()
    elif kind == "mark":
        names = [it for it in MARK_COLUMNS if it != "created_at"]
        _edit("tenants_auditprune", chance.choice(names), "from_seq", chance.choice((1, 5)), chance)
    else:
        AuditPrune.objects.filter(from_seq=chance.choice((1, 5))).delete()


def _edit(table: str, column: str, by: str, at: int, chance: random.Random) -> None:
    with connection.cursor() as cursor:
        where = f"WHERE scope = %s AND {by} = %s"
        cursor.execute(f"SELECT {column} FROM {table} {where}", [SCOPE, at])
        value = cursor.fetchone()[0]
        other = uuid4().hex if column == "id" else _another(value, chance)
        other = other[:60] if isinstance(other, str) else other
        cursor.execute(f"UPDATE {table} SET {column} = %s {where}", [other, SCOPE, at])


@pytest.mark.sqlite  # what is checked is read before
@pytest.mark.slow
def test_twelve_hundred_random_hands_in_a_pruned_log_are_found(pruned):
    chance = random.Random(20261129)
    missed, refused = [], 0
    with triggers_lifted():
        for number in range(1_200):
            try:
                with transaction.atomic():
                    _tamper(chance)
                    if not audit.verify().findings:
                        missed.append(number)
                    raise Undo
            except Undo:
                pass
            except DatabaseError:
                refused += 1
    assert missed == []
    assert refused < 200
    assert audit.verify().findings == []


def test_what_the_marks_table_is_told_twice_it_does_not_take(pruned):
    values = {it.attname: getattr(pruned[0], it.attname) for it in AuditPrune._meta.concrete_fields}
    with pytest.raises(DatabaseError), transaction.atomic():
        AuditPrune.objects.create(**values | {"id": uuid4()})
    assert issubclass(audit_prune.Damaged, Conflict)
