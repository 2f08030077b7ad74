"""The audit log: what is written, what is kept out of it, and that no change of it goes unnoticed."""

import itertools
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from tenants import audit, audit_triggers
from tenants.actor import Actor, system_actor
from tenants.audit import Entry, Target
from tenants.models import AuditEvent, AuditHead
from tenants.sealing import Secret
from tests.support.threads import at_once

SCOPE = "0b9dd6bc-4b2e-4b9e-8f35-5d4ae8d1a4f5"
ROWS = 12


def write(scope: str = SCOPE, **details: Any) -> AuditEvent:
    target = Target("tenant", str(uuid4()), "Acme (acme)")
    with transaction.atomic():
        return audit.write(
            Entry(system_actor("staging"), "tenant.updated", target, scope, details=details)
        )


@pytest.fixture
def chain(db: None) -> list[AuditEvent]:
    """A chain in the middle of others."""
    write(audit.PLATFORM)
    rows = [write(number=number, name=f"row {number}") for number in range(ROWS)]
    write(audit.PLATFORM)
    return rows


@contextmanager
def triggers_lifted() -> Iterator[None]:
    """What somebody who owns the database can do; the chain is there for them."""
    audit_triggers.remove(connection)
    try:
        yield
    finally:
        audit_triggers.install(connection)


def sql(statement: str, *parameters: Any) -> None:
    with triggers_lifted(), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = ON")
        cursor.execute(statement, parameters)
        if connection.vendor == "sqlite":
            cursor.execute("PRAGMA ignore_check_constraints = OFF")


def found() -> list[tuple[str, str, int]]:
    return [(it.kind, it.scope, it.seq) for it in audit.verify().findings]


# --- what is written --------------------------------------------------------------------------------------------------


def test_rows_follow_one_another_from_the_beginning(chain):
    assert [row.seq for row in chain] == list(range(1, ROWS + 1))
    assert bytes(chain[0].prev_hash) == audit.GENESIS
    for before, after in itertools.pairwise(chain):
        assert bytes(after.prev_hash) == bytes(before.row_hash)
    verdict = audit.verify()
    assert (verdict.rows, verdict.scopes, verdict.findings) == (ROWS + 2, 2, [])
    assert audit.heads()[SCOPE] == (ROWS, bytes(chain[-1].row_hash).hex())


@pytest.mark.django_db
def test_rows_are_read_in_pages_and_all_of_them(monkeypatch):
    monkeypatch.setattr(audit, "_PAGE", 5)
    for _ in range(10):
        write()
    assert audit.verify().rows == 10
    write()
    assert (audit.verify().rows, audit.verify().findings) == (11, [])


@pytest.mark.django_db(transaction=True)
def test_a_row_is_only_written_inside_of_a_transaction():
    with pytest.raises(RuntimeError, match="inside the transaction"):
        audit.write(Entry(system_actor("x"), "x", Target("x", "x")))
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize("name", ["type", "id", "label", "method", "source", "request_id"])
def test_there_is_no_actor_without_a(name):
    circumstances = dict.fromkeys(("type", "id", "label", "method", "source", "request_id"), "x")
    with pytest.raises(ValueError, match=name):
        Actor(**circumstances | {name: ""})


@pytest.mark.django_db
def test_what_python_has_and_json_has_not_is_written_and_still_verifies():
    moment = timedelta(days=1)
    row = write(
        id=UUID(SCOPE),
        names={"b", "a"} - {"b"},
        pair=(1, None),
        flag=True,
        number=10**30,
        fraction=0.1,
        span=moment,
        nested={"ü": "e\u0301", 5: ["x\0y", "\ud800"]},
        secret=Secret(b"hush-hush"),
    )
    row.refresh_from_db()
    assert row.details == {
        "id": SCOPE,
        "names": ["a"],
        "pair": [1, None],
        "flag": True,
        "number": 10**30,
        "fraction": "0.1",
        "span": "1 day, 0:00:00",
        "nested": {"ü": "é", "5": ["x\\u0000y", "\\ud800"]},
        "secret": "***",
    }
    assert audit.verify().findings == []


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.django_db
def test_whatever_the_details_are_the_chain_verifies():
    @given(st.dictionaries(st.text(max_size=9), _json, max_size=4))
    def every(details):
        with transaction.atomic():
            target = Target("tenant", "x")
            audit.write(Entry(system_actor("x"), "x", target, SCOPE, details=details))

    every()
    assert audit.verify().findings == []


@pytest.mark.django_db
def test_no_column_of_a_row_keeps_a_credential():
    credential = "gwk_" + "aB3" * 16 + "x"
    actor = Actor(
        type="operator",
        id=credential,
        label=credential,
        method="session",
        source="api",
        request_id="request-1",
        address=credential,
        user_agent=f"curl {credential}",
    )
    details = {"a": credential, credential: 1, "deep": [{"b": {"c": f"x {credential}"}}]}
    with transaction.atomic():
        row = audit.write(
            Entry(actor, "x", Target("x", credential, credential), SCOPE, details=details)
        )
    row.refresh_from_db()
    values = {name: str(getattr(row, name)) for name in audit_columns()}
    assert [name for name, text in values.items() if credential in text] == []
    assert row.target_id == row.actor_id == "***"


# --- tampering --------------------------------------------------------------------------------------------------------


def audit_columns() -> list[str]:
    return [str(field.column) for field in AuditEvent._meta.concrete_fields]


OTHER_VALUES: dict[str, Any] = {
    "created_at": "2001-01-01 00:00:00+00:00",
    "duration_ms": 77,
    "details": '{"number": 5}',
    "outcome": "failed",
    "source": "api",
    "seq": 1_000,
    "id": uuid4().hex,
    **dict.fromkeys(("details_salt", "details_digest", "prev_hash", "row_hash"), b"\1" * 16),
}


@pytest.mark.parametrize("column", audit_columns())
@pytest.mark.parametrize("seq", [1, 6, ROWS])
def test_an_edit_of_any_column_is_found_at_its_row(chain, column, seq):
    value = OTHER_VALUES.get(column, "another")
    where = "WHERE scope = %s AND seq = %s"
    sql(f"UPDATE tenants_auditevent SET {column} = %s {where}", value, SCOPE, seq)
    altered = [seq_ for kind, scope, seq_ in found() if (kind, scope) == ("altered", SCOPE)]
    truncated = [scope for kind, scope, _ in found() if kind == "truncated"]
    if seq == ROWS and column == "scope":
        assert SCOPE in truncated  # the last row is gone from its chain
    else:
        assert altered == [seq]


@pytest.mark.parametrize("seq", [1, 6, ROWS - 1])
def test_a_row_that_was_deleted_is_found(chain, seq):
    sql("DELETE FROM tenants_auditevent WHERE scope = %s AND seq = %s", SCOPE, seq)
    assert found() == [("altered", SCOPE, seq)]


@pytest.mark.parametrize("seq", [1, 6, ROWS - 1])
def test_a_row_that_was_deleted_and_the_gap_closed_is_found(chain, seq):
    sql("DELETE FROM tenants_auditevent WHERE scope = %s AND seq = %s", SCOPE, seq)
    for later in range(seq + 1, ROWS + 1):
        where = "WHERE scope = %s AND seq = %s"
        sql(f"UPDATE tenants_auditevent SET seq = seq - 1 {where}", SCOPE, later)
    assert found() == [("altered", SCOPE, seq)]


def test_two_rows_that_were_swapped_are_found(chain):
    for was, becomes in ((4, 1000), (7, 4), (1000, 7)):
        where = "WHERE scope = %s AND seq = %s"
        sql(f"UPDATE tenants_auditevent SET seq = %s {where}", becomes, SCOPE, was)
    assert found() == [("altered", SCOPE, 4)]


def _copy(row: AuditEvent, **changes: Any) -> AuditEvent:
    values = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    return AuditEvent.objects.create(**values | {"id": uuid4()} | changes)


def test_a_row_that_was_inserted_is_found(chain):
    _copy(chain[-1], seq=ROWS + 1, prev_hash=chain[-1].row_hash, row_hash=secrets.token_bytes(32))
    assert found() == [("altered", SCOPE, ROWS + 1)]


def test_a_row_that_was_replayed_is_found(chain):
    _copy(chain[3], seq=ROWS + 1)
    assert found() == [("altered", SCOPE, ROWS + 1)]


def test_a_row_that_was_replayed_with_its_head_is_found(chain):
    copy = _copy(chain[3], seq=ROWS + 1)
    AuditHead.objects.filter(pk=SCOPE).update(seq=ROWS + 1, row_hash=copy.row_hash)
    assert found() == [("altered", SCOPE, ROWS + 1)]


def test_a_row_of_another_chain_is_found(chain):
    platform = AuditEvent.objects.filter(scope=audit.PLATFORM).earliest("seq")
    _copy(platform, scope=SCOPE, seq=ROWS + 1)
    assert found() == [("altered", SCOPE, ROWS + 1)]


def test_a_tail_that_was_cut_is_found(chain):
    sql("DELETE FROM tenants_auditevent WHERE scope = %s AND seq > %s", SCOPE, ROWS - 2)
    assert found() == [("truncated", SCOPE, ROWS - 2)]


def test_a_chain_that_was_emptied_is_found(chain):
    sql("DELETE FROM tenants_auditevent WHERE scope = %s", SCOPE)
    assert found() == [("truncated", SCOPE, 0)]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"row_hash": b"\1" * 32}, ("altered", SCOPE, ROWS)),
        ({"seq": ROWS + 1}, ("truncated", SCOPE, ROWS)),
        ({"seq": ROWS - 1}, ("altered", SCOPE, ROWS - 1)),
        ({"scope": "another"}, ("truncated", "another", 0)),
    ],
)
def test_a_head_that_was_altered_is_found(chain, change, finding):
    AuditHead.objects.filter(pk=SCOPE).update(**change)
    assert finding in found()


def test_a_head_that_was_set_back_to_an_earlier_row_is_found(chain):
    AuditHead.objects.filter(pk=SCOPE).update(seq=5, row_hash=chain[4].row_hash)
    assert found() == [("altered", SCOPE, 6)]


def test_a_head_that_was_deleted_is_found(chain):
    AuditHead.objects.filter(pk=SCOPE).delete()
    assert found() == [("truncated", SCOPE, ROWS)]


def test_a_truncation_with_the_head_set_back_is_found_by_heads_kept_elsewhere(chain):
    anchors = audit.heads()
    sql("DELETE FROM tenants_auditevent WHERE scope = %s AND seq > 4", SCOPE)
    AuditHead.objects.filter(pk=SCOPE).update(seq=4, row_hash=chain[3].row_hash)
    assert found() == []  # consistent in itself, which is why heads are kept elsewhere
    (finding,) = audit.verify(anchors).findings
    assert (finding.kind, finding.scope, finding.seq) == ("truncated", SCOPE, 4)


def test_a_chain_that_was_deleted_with_its_head_is_found_by_heads_kept_elsewhere(chain):
    anchors = audit.heads()
    sql("DELETE FROM tenants_auditevent WHERE scope = %s", SCOPE)
    AuditHead.objects.filter(pk=SCOPE).delete()
    assert found() == []
    (finding,) = audit.verify(anchors).findings
    assert (finding.kind, finding.scope, finding.seq) == ("truncated", SCOPE, 0)


def test_a_chain_that_was_written_anew_is_found_by_heads_kept_elsewhere(chain):
    """Somebody with the key as well: nothing inside of the database could tell."""
    anchors = audit.heads()
    sql("DELETE FROM tenants_auditevent WHERE scope = %s", SCOPE)
    AuditHead.objects.filter(pk=SCOPE).delete()
    for _ in range(ROWS):
        write()
    assert found() == []
    (finding,) = audit.verify(anchors).findings
    assert (finding.kind, finding.scope, finding.seq) == ("altered", SCOPE, ROWS)


def test_heads_kept_elsewhere_stay_true_while_the_log_grows(chain):
    anchors = audit.heads()
    write()
    write("another scope")
    assert audit.verify(anchors).findings == []


def _another(value: Any, chance: random.Random) -> Any:
    """The value with one thing changed: a bit of bytes, a character of a text, an amount."""
    if isinstance(value, memoryview | bytes):
        raw = bytearray(value)
        raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        return bytes(raw)
    if isinstance(value, int):
        return value ^ (1 << chance.randrange(20))
    place = chance.randrange(len(value) + 1)
    return value[:place] + chance.choice("abc019 _{}") + value[place:]


def _random_edit(chance: random.Random) -> Callable[[], None]:
    seq = chance.randint(1, ROWS)
    column = chance.choice(
        [name for name in audit_columns() if name not in ("id", "created_at", "seq", "details")]
        + ["seq", "details", "created_at"]
    )
    where = "WHERE scope = %s AND seq = %s"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM tenants_auditevent {where}", [SCOPE, seq])
        value = cursor.fetchone()[0]
    if column == "created_at":
        other: Any = f"2024-01-01 00:00:00.{chance.randrange(10**6):06d}+00:00"
    elif column == "details":
        other = f'{{"number": {chance.randint(100, 10**6)}}}'
    elif column == "outcome":
        other = "failed"
    elif column == "source":
        other = chance.choice(["api", "console", "mcp"])
    elif column == "seq":
        other = ROWS + chance.randint(1, 10**6)
    else:
        other = _another(value, chance)
        other = other[:60] if isinstance(other, str) else other
    statement = f"UPDATE tenants_auditevent SET {column} = %s {where}"
    return lambda: sql_lifted(statement, other, SCOPE, seq)


def sql_lifted(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


class Undo(Exception):
    pass


@pytest.mark.sqlite  # what is checked is read before
@pytest.mark.slow
def test_two_thousand_random_edits_are_found(chain):
    chance = random.Random(20261121)
    assert found() == []
    missed = []
    with triggers_lifted():
        for number in range(2_000):
            try:
                with transaction.atomic():
                    _random_edit(chance)()
                    if not audit.verify(scope=SCOPE).findings:
                        missed.append(number)
                    raise Undo
            except Undo:
                pass
    assert missed == []
    assert found() == []


@pytest.mark.sqlite
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "no uuid"),
        ("created_at", "no time"),
        ("created_at", 5),
        ("created_at", b"\xff"),
        ("details", "no json"),
        ("details", "[]"),
        ("details", "null"),
        ("details", "[" * 5_000 + "]" * 5_000),
        ("details_digest", "text"),
        ("details_salt", "text"),
        ("prev_hash", "text"),
        ("row_hash", "text"),
        ("seq", "text"),
        ("seq", 6.5),
        ("duration_ms", "text"),
        ("duration_ms", 10**400),
        ("action", b"\xff\xfe"),
        ("actor_label", 5),
        ("scope", b"\xff\xfe"),
    ],
)
def test_what_no_column_of_its_type_could_hold_is_found_and_stops_nothing(chain, column, value):
    """SQLite keeps whatever it is given."""
    value = str(value) if isinstance(value, int) and value > 2**63 else value
    where = "WHERE scope = %s AND seq = 6"
    sql(f"UPDATE tenants_auditevent SET {column} = %s {where}", value, SCOPE)
    assert ("altered", SCOPE, 6) in found()


@pytest.mark.sqlite
@pytest.mark.parametrize("column", ["scope", "action"])
def test_a_text_that_is_no_text_is_found(chain, column):
    where = "WHERE scope = %s AND seq = 6"
    sql(f"UPDATE tenants_auditevent SET {column} = CAST(x'fffe' AS TEXT) {where}", SCOPE)
    assert ("altered", SCOPE, 6) in found()


@pytest.mark.sqlite
@pytest.mark.parametrize(("column", "value"), [("seq", "text"), ("row_hash", "text")])
def test_a_head_that_cannot_be_read_is_found(chain, column, value):
    sql(f"UPDATE tenants_audithead SET {column} = %s WHERE scope = %s", value, SCOPE)
    assert ("altered", SCOPE, 0) in found()


# --- many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_eight_writers_of_one_chain_leave_no_gap():
    def some() -> None:
        for _ in range(10):
            write()

    at_once(*[some] * 8)
    seqs = AuditEvent.objects.filter(scope=SCOPE).order_by("seq").values_list("seq", flat=True)
    assert list(seqs) == list(range(1, 81))
    assert found() == []


@pytest.mark.django_db(transaction=True)
def test_verifying_while_others_write_finds_nothing():
    def some() -> list[Any]:
        return [write().seq for _ in range(15)]

    def look() -> list[Any]:
        return [audit.verify().findings for _ in range(10)]

    write()
    *_, looks = at_once(some, some, look)
    assert looks == [[]] * 10
