"""Housekeeping: what is over goes, in batches, and nothing else; what is money stays for ever."""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import psycopg
import pytest
from django.core.management import call_command

from gateway import housekeeping
from gateway.housekeeping import CHORES
from keys.services import issue_key
from tenants import audit, changes, chores, duties
from tenants.actor import system_actor
from tenants.chores import Sweep
from tenants.clock import SYSTEM
from tenants.models import AuditEvent, ConfigChange, Duty, Invitation, Session, SpentTicket
from tests.gateway.api.calls import log_row
from tests.gateway.door import eventually, opened
from tests.support.contents import contents
from tests.support.server import Server
from tests.support.threads import at_once
from tests.usage.samples import MONTH, PROVIDER_ID, settled
from usage import windows
from usage.budget_books import Key
from usage.budget_starts import make
from usage.ledger import apply
from usage.models import (
    Attempt,
    Balance,
    HoldSlice,
    IdempotentCall,
    LedgerEntry,
    RequestContent,
    RequestLog,
    Rollup,
)

ACTOR = system_actor("a test")
OF_THE_RUN = ("tenants_auditevent", "tenants_audithead", "tenants_duty", "tenants_rootsecret")
CALLS = ("usage_requestlog", "usage_attempt", "usage_requestcontent")
#: Summed up before calls go, and anew when some come late.
QUARTERS = ("usage_quarter", "usage_quartersum")


def ago(days: float) -> datetime:
    return SYSTEM.now() - timedelta(days=days)


def aged(rows: Any, days: float, column: str = "created_at") -> None:
    rows.update(**{column: ago(days)})


@pytest.fixture
def keeping(db, settings):
    """Ninety days, whatever the environment of the tests says."""
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    settings.AUDIT_RETENTION_DAYS = 0


def told(manage, *arguments: str) -> dict[str, int]:
    done = manage("housekeeping", "--json", *arguments)
    assert done.code == 0, done.err
    rows: dict[str, int] = done.json["rows"]
    # Nothing of these goes.
    rows.pop("quarters", None)
    assert done.json["total"] == sum(rows.values())
    return {name: number for name, number in rows.items() if number}


# --- calls ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def history(keeping):
    """Forty calls that were charged, with budgets that hold them: the first ten are of 91 days ago, the next of 89."""
    apply([settled(number, content=b"sealed", attempts=2) for number in range(1, 41)])
    names = sorted(RequestLog.objects.values_list("request_id", flat=True), key=lambda it: it.int)
    for ids, days in ((names[:10], 91), (names[10:20], 89)):
        aged(RequestLog.objects.filter(request_id__in=ids), days)
        aged(Attempt.objects.filter(request_id__in=ids), days, "started_at")
        aged(LedgerEntry.objects.filter(request_id__in=ids), days)
    RequestContent.objects.exclude(request_id__in=names[:10]).delete()
    of = Key(PROVIDER_ID, windows.TOTAL, "nano_usd"), Key(PROVIDER_ID, f"month:{MONTH}", "tokens")
    make(of, {PROVIDER_ID: "provider"})
    return names


def test_rows_of_91_days_ago_are_gone_and_the_books_are_what_they_were(manage, history):
    def reconciled() -> Any:
        done = manage("usage", "reconcile", "--month", MONTH, "--json")
        assert done.code == 0
        assert done.json["ok"] is True
        assert done.json["calls"] == 40
        return done.json["balances"]

    balances = reconciled()
    assert balances == 2
    before = contents(*OF_THE_RUN)
    assert told(manage) == {"bodies": 10, "logs": 10}
    after = contents(*OF_THE_RUN)
    kept = set(RequestLog.objects.values_list("request_id", flat=True))
    assert kept == set(history[10:])
    assert set(Attempt.objects.values_list("request_id", flat=True)) == kept
    assert not RequestContent.objects.exists()
    assert {name for name in before if before[name] != after[name]} == {*CALLS, *QUARTERS}
    assert (Rollup.objects.count(), Balance.objects.count()) == (1, 2)
    assert reconciled() == balances
    assert audit.verify().findings == []
    row = AuditEvent.objects.get(action="housekeeping.done")
    assert (row.details, row.actor_type) == ({"bodies": 10, "logs": 10}, "command")


def test_a_dry_run_counts_what_a_run_deletes_and_changes_nothing(manage, history):
    before = contents()
    counted = told(manage, "--dry-run")
    assert contents() == before
    assert told(manage) == counted == {"bodies": 10, "logs": 10}


def test_a_second_run_has_nothing_to_do_and_says_nothing(manage, history):
    told(manage)
    before = contents("tenants_duty")
    assert told(manage) == {}
    assert contents("tenants_duty") == before


def test_a_journal_that_turns_up_after_the_log_is_gone_is_charged_no_second_time(manage, history):
    told(manage)
    books = contents(*OF_THE_RUN, *CALLS, *QUARTERS)
    apply([settled(number, attempts=2) for number in range(1, 41)])
    assert contents(*OF_THE_RUN, *CALLS, *QUARTERS) == books


def test_null_keeps_the_log_for_ever(manage, api, history):
    api.patch("settings", {"log_retention_days": None})
    assert told(manage) == {"bodies": 10}
    api.patch("settings", {"log_retention_days": 80})
    assert told(manage) == {"logs": 20}


def test_what_was_broken_off_is_gone_on_with(history):
    stops = iter([True, True, False])
    sweep = Sweep(ACTOR, lambda: next(stops, False), rest=lambda seconds: None)
    logs = [chore for chore in CHORES if chore.name == "logs"]
    pile = next(iter(logs[0].piles(SYSTEM.now())))
    assert pile.take(4) == 4
    report = housekeeping.run(sweep, logs)
    assert report.is_whole is False
    assert report.rows == {"logs": 6}
    assert housekeeping.run(Sweep(ACTOR), logs).rows == {"logs": 0}
    assert Attempt.objects.count() == 30
    assert not RequestContent.objects.exists()


def test_only_what_was_asked_for_is_done(manage, history):
    aged(SpentTicket.objects.all(), 5)
    assert told(manage, "--only", "tickets", "--only", "sessions") == {}
    assert told(manage, "--only", "logs") == {"logs": 10}
    assert manage("housekeeping", "--only", "ledger").code != 0
    assert manage("housekeeping", "--only", "ledger").out == ""


def test_figures_for_people_name_every_table(manage, history):
    out = manage("housekeeping").out
    assert "10  logs: log rows of calls" in out
    assert out.splitlines()[-1] == "20 rows went."
    assert len(out.splitlines()) == len(CHORES) + 1


# --- what else is over ------------------------------------------------------------------------------------------------


def body(tenant_id: UUID, days: float) -> None:
    row = log_row(tenant_id=tenant_id)
    RequestContent.objects.create(
        month=row.month,
        request_id=row.request_id,
        tenant_id=tenant_id,
        created_at=ago(days),
        sealed=b"sealed",
    )


def test_bodies_go_by_their_own_tenants_time_and_of_a_tenant_that_is_gone_at_once(
    manage, keeping, api, tenant, outsider
):
    for each, days in ((tenant, 10), (outsider, 50)):
        api.patch(f"tenants/{each.id}", {"content_retention_days": days})
        for age in (9, 11, 49, 51):
            body(each.id, age)
    body(uuid4(), 1)
    assert told(manage) == {"bodies": 3 + 1 + 1}
    left = RequestContent.objects.order_by("created_at").values_list("tenant_id", flat=True)
    assert list(left) == [outsider.id, outsider.id, tenant.id, outsider.id]
    assert RequestLog.objects.count() == 9


def test_sessions_tickets_and_answers_go_when_they_are_over(manage, keeping, api, tenant):
    session = Session.objects.get()
    copies = [
        Session(user=session.user, expires_at=ago(days), ended_at=ended)
        for days, ended in ((31, None), (31, ago(31.2)), (29, None), (-0.1, ago(40)))
    ]
    Session.objects.bulk_create(copies)
    for days in (1, 3):
        SpentTicket.objects.create(nonce=f"n{days}")
        aged(SpentTicket.objects.filter(nonce=f"n{days}"), days)
    for hours, state in ((23, "closed"), (25, "closed"), (25, "open")):
        IdempotentCall.objects.create(
            id=uuid4(),
            tenant_id=tenant.id,
            key_id=uuid4(),
            name=b"n",
            body=b"b",
            boot=uuid4(),
            request_id=uuid4(),
            created_at=ago(hours / 24),
            state=state,
        )
    assert told(manage) == {"sessions": 2, "tickets": 1, "answers": 2}
    assert Session.objects.count() == 3
    # What went each hour is nobody's to look up, and no row of the audit log.
    assert AuditEvent.objects.get(action="housekeeping.done").details == {"sessions": 2}
    assert api.get("auth/me").status_code == 200


def test_invitations_go_when_their_day_is_long_over(manage, keeping, tenant):
    for days in (29, 31):
        Invitation.objects.create(
            tenant=tenant,
            secret_hash=bytes([days]) * 32,
            expires_at=ago(days),
            created_by_type="operator",
            created_by_id="x",
            created_by_label="x",
        )
    assert told(manage) == {"invitations": 1}
    assert Invitation.objects.get().secret_hash[0] == 29


def test_of_the_change_log_the_newest_lines_stay(manage, keeping, monkeypatch):
    first = changes.epoch()
    ConfigChange.objects.bulk_create(
        ConfigChange(seq=first + number, kind="tenant", object_id=uuid4())
        for number in range(1, 31)
    )
    monkeypatch.setattr("tenants.forgetting._CHANGES_KEPT", 20)
    assert told(manage) == {"changes": first + 10}
    assert changes.epoch() == first + 30
    assert ConfigChange.objects.count() == 20


def balance(window: str, held: int = 0, unit: str = "tokens") -> Balance:
    return Balance.objects.create(
        level_kind="key",
        level_id=uuid4(),
        unit=unit,
        window=window,
        spent=5,
        held=held,
        ceiling=5 + held,
    )


def lend(of: Balance, amount: int, written_off: bool) -> HoldSlice:
    return HoldSlice.objects.create(
        boot=uuid4(),
        balance_id=of.id,
        amount=amount,
        lent=amount,
        deadline=SYSTEM.now(),
        written_off_at=ago(399) if written_off else None,
    )


def test_balances_of_windows_long_past_go_and_nothing_that_is_held(manage, keeping):
    long_ago, last_year = ago(402), ago(330)
    gone = [balance(f"day:{long_ago:%Y-%m-%d}"), balance(f"month:{ago(432):%Y-%m}")]
    lend(gone[0], 3, written_off=True)
    held = balance(f"day:{long_ago:%Y-%m-%d}", held=7)
    mine = lend(held, 7, written_off=False)
    stay = [
        held,
        balance(f"day:{last_year:%Y-%m-%d}"),
        balance(f"month:{last_year:%Y-%m}"),
        balance("total"),
        balance("prepaid", unit="nano_usd"),
    ]
    lost = lend(stay[1], 1, written_off=True)
    assert told(manage) == {"balances": 2}
    assert set(Balance.objects.all()) == set(stay)
    assert set(HoldSlice.objects.all()) == {mine, lost}


def test_money_lines_sums_and_credits_are_no_chore():
    assert {chore.name for chore in CHORES} == {
        *(
            "quarters",
            "logs",
            "bodies",
            "answers",
            "balances",
            "sessions",
            "tickets",
            "changes",
            "audit",
            "invitations",
        ),
    }


def test_audit_rows_go_into_files_if_there_is_a_time_and_a_folder(
    manage, keeping, api, tenant, settings, tmp_path, monkeypatch
):
    settings.AUDIT_SEGMENTS = str(tmp_path / "segments")
    rows = AuditEvent.objects.count()
    now = SYSTEM.now() + timedelta(days=31)
    monkeypatch.setattr(SYSTEM, "now", lambda: now)
    assert told(manage) == {"sessions": 1}
    settings.AUDIT_RETENTION_DAYS = 30
    settings.AUDIT_SEGMENTS = ""
    assert told(manage) == {}
    settings.AUDIT_SEGMENTS = str(tmp_path / "segments")
    assert told(manage, "--dry-run") == {"audit": rows}
    assert told(manage) == {"audit": rows}
    assert sum(len(path.read_text().splitlines()) for path in tmp_path.rglob("*.jsonl")) == rows
    assert audit.verify().findings == []
    assert told(manage) == {}


# --- beside others ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_two_that_sweep_at_once_take_each_row_once(settings, monkeypatch):
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    monkeypatch.setattr(chores, "_MOST", 25)
    apply([settled(number) for number in range(1, 601)])
    aged(RequestLog.objects.all(), 91)
    logs = [chore for chore in CHORES if chore.name == "logs"]

    def sweep() -> int:
        return housekeeping.run(Sweep(ACTOR), logs).rows["logs"]

    assert sum(at_once(sweep, sweep, sweep)) == 600
    assert (RequestLog.objects.count(), Attempt.objects.count()) == (0, 0)
    assert audit.verify().findings == []


@pytest.mark.django_db(transaction=True)
def test_a_key_is_issued_while_a_sweep_runs(settings, tenant):
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    apply([settled(number) for number in range(1, 2_001)])
    aged(RequestLog.objects.all(), 91)

    def sweep() -> int:
        return housekeeping.run(Sweep(ACTOR)).total

    def others() -> int:
        for number in range(20):
            issue_key(actor=ACTOR, tenant_id=tenant.id, name=f"k{number}")
        return 20

    assert at_once(sweep, others) == [2_000, 20]


# --- in a worker ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_worker_does_it_once_a_day_and_never_two_at_once(settings, monkeypatch):
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    apply([settled(number) for number in range(1, 101)])
    aged(RequestLog.objects.all(), 91)
    workers = [housekeeping.Housekeeper() for _ in range(4)]
    at_once(*(worker.look for worker in workers))
    assert RequestLog.objects.count() == 0
    assert sum(worker.runs for worker in workers) == 2
    assert AuditEvent.objects.filter(action="housekeeping.done").count() == 1
    for worker in workers:
        worker.look()
    assert sum(worker.runs for worker in workers) == 2
    tomorrow = SYSTEM.now() + timedelta(days=1, seconds=1)
    monkeypatch.setattr(SYSTEM, "now", lambda: tomorrow)
    workers[0].look()
    assert workers[0].runs >= 2


@pytest.mark.django_db(transaction=True)
def test_what_a_dead_worker_had_begun_is_gone_on_with_when_its_turn_has_run_out(
    settings, monkeypatch
):
    settings.SET_BY_ENVIRONMENT, settings.RETENTION_DAYS = frozenset(), 90
    apply([settled(number) for number in range(1, 101)])
    aged(RequestLog.objects.all(), 91)
    assert duties.take(housekeeping.DAILY, "dead", SYSTEM.now(), timedelta(days=1))
    worker = housekeeping.Housekeeper()
    worker.look()
    assert RequestLog.objects.count() == 100
    later = SYSTEM.now() + duties.LEASE + timedelta(seconds=1)
    monkeypatch.setattr(SYSTEM, "now", lambda: later)
    worker.look()
    assert RequestLog.objects.count() == 0
    assert duties.renew(housekeeping.DAILY, "dead", later) is False


@pytest.mark.django_db(transaction=True)
def test_doctor_says_when_it_was_done_last(manage):
    def look() -> dict[str, Any]:
        (found,) = [
            it for it in manage("doctor", "--json").json["checks"] if it["name"] == "housekeeping"
        ]
        return dict(found)

    Duty.objects.all().delete()
    assert look()["state"] == "ok"
    told(manage)
    assert "It was done at" in look()["message"]
    Duty.objects.update(done_at=ago(3))
    assert look()["state"] == "warning"


def _age_everything(server: Server, days: int) -> None:
    statement, moment = "UPDATE usage_requestlog SET created_at = ", ago(days)
    if urlsplit(server.database_url).scheme == "sqlite":
        connection = sqlite3.connect(urlsplit(server.database_url).path[1:], timeout=20)
        with connection:
            text = f"{moment.astimezone(UTC).replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}"
            connection.execute(f"{statement} ?", [text])
        connection.close()
    else:
        with psycopg.connect(server.database_url) as other:
            other.execute(f"{statement} %s".encode(), [moment])


def test_workers_forget_by_themselves_while_they_serve(yard, tmp_path):
    with opened(yard, tmp_path, {"GATEHOUSE_HOUSEKEEPING": "off"}) as door:
        server = door.server
        for _ in range(5):
            assert door.chat("oracle/ok").status_code == 200
        eventually(lambda: door.count("usage_requestlog") == 5)
        assert "housekeeping" not in door.admin.detail()["reports"]
        _age_everything(server, 91)
        dry = server.manage("housekeeping", "--dry-run")
        assert dry["rows"]["logs"] == 5
        server.stop()
        del server.env["GATEHOUSE_HOUSEKEEPING"]
        server.start(workers=2)
        assert door.chat("oracle/ok").status_code == 200
        eventually(lambda: door.count("usage_requestlog") == 1, within=40.0)
        assert door.count("usage_ledgerentry") == 6
        assert server.manage("audit", "verify")["ok"] is True
        assert server.manage("usage", "reconcile")["ok"] is True
        ran = door.server.query(
            "SELECT COUNT(*) FROM tenants_auditevent WHERE action = 'housekeeping.done'"
        )
        assert ran == [(1,)]


def test_the_command_works_where_no_terminal_is(history, capsys):
    call_command("housekeeping")
    assert "20 rows went." in capsys.readouterr().out


def test_usage_prune_is_the_part_that_is_about_calls(history, manage):
    money = contents(*OF_THE_RUN, *CALLS, *QUARTERS)
    counted = manage("usage", "prune", "--dry-run", "--json")
    assert (counted.code, counted.json["rows"]["logs"]) == (0, 10)
    assert RequestLog.objects.count() == 40

    done = manage("usage", "prune", "--json")
    assert done.json["rows"] == counted.json["rows"]
    assert RequestLog.objects.count() == 30
    assert contents(*OF_THE_RUN, *CALLS, *QUARTERS) == money
    row = AuditEvent.objects.get(action="usage.pruned")
    assert row.details["logs"] == 10
    assert manage("usage", "prune", "--json").json["total"] == 0
