"""Whether it lives, whether it should get requests, and what an operator is told that nobody else is."""

import threading
import time
from typing import Any, NoReturn

import pytest
from django.db import OperationalError, connection
from django.test import Client

from gateway import checks, lifecycle
from gateway.checks import Look, State, Watch, has_wal_reset_bug
from tenants import audit_triggers, sealing
from tenants.actor import system_actor
from tenants.keyring import KEYRING
from tenants.operator_services import create_operator
from tenants.sign_in import sign_in

PASSWORD = "correct horse battery"

real_database = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh():
    KEYRING.forget()
    checks.WATCH.forget()


@pytest.fixture
def token(transactional_db) -> str:
    actor = system_actor("test")
    create_operator(actor=actor, username="ada", password=PASSWORD, role="viewer")
    return sign_in(actor=actor, username="ada", password=PASSWORD).token


def detail(token: str = "") -> Any:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return Client().get("/health/detail", headers=headers)


def fails() -> NoReturn:
    raise OperationalError("connection to server at db.internal failed for user house")


# --- /livez -----------------------------------------------------------------------------------------------------------


def test_it_lives_without_a_database():
    answer = Client().get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/health/detail", "/"])
def test_only_get_and_head_are_answered(path):
    assert Client().post(path).status_code == 405


def test_the_root_leads_to_the_console():
    answer = Client().get("/")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/console/")


# --- /readyz ----------------------------------------------------------------------------------------------------------


@real_database
def test_it_is_ready_when_everything_is_there():
    answer = Client().get("/readyz")
    assert answer.status_code == 200, answer.content
    assert answer.json() == {
        "status": "ready",
        "reasons": [],
        "checks": {"database": "ok", "migrations": "ok", "triggers": "ok", "keyring": "ok"},
    }


@pytest.mark.parametrize(
    ("move", "reason"),
    [(lifecycle.set_starting, "starting"), (lifecycle.set_draining, "draining")],
)
def test_it_is_not_ready_before_and_after_its_time(move, reason):
    move()
    answer = Client().get("/readyz")
    assert (answer.status_code, answer.json()["reasons"]) == (503, [reason])
    assert answer.headers["Retry-After"]


def test_a_draining_process_does_not_become_ready_again_nor_starts():
    lifecycle.set_draining()
    lifecycle.set_starting()
    assert lifecycle.draining()
    lifecycle.set_ready()
    assert lifecycle.draining()


@real_database
def test_it_is_not_ready_without_the_audit_triggers():
    audit_triggers.remove(connection)
    try:
        assert Client().get("/readyz").json()["reasons"] == ["triggers"]
    finally:
        audit_triggers.install(connection)


@real_database
def test_it_is_not_ready_with_the_wrong_kek(settings, token):
    settings.KEK = [sealing.Secret(bytes(range(32)))]
    assert Client().get("/readyz").json()["reasons"] == ["keyring"]


@real_database
def test_it_is_not_ready_with_pending_migrations(monkeypatch):
    monkeypatch.setattr(checks, "pending_migrations", lambda: ["usage.0002_more"])
    answer = Client().get("/readyz")
    assert answer.json()["reasons"] == ["migrations"]
    assert b"0002_more" not in answer.content


@pytest.fixture
def dead_database(monkeypatch):
    look = Look("database", fails)
    monkeypatch.setattr(checks, "DATABASE", look)
    monkeypatch.setattr(checks, "FOR_READINESS", (look, *checks.FOR_READINESS[1:]))
    monkeypatch.setattr(checks, "FOR_HEALTH", (look, *checks.FOR_HEALTH[1:]))


@real_database
@pytest.mark.usefixtures("dead_database")
def test_a_dead_database_is_a_reason_and_nothing_of_it_is_told():
    ready, whole = Client().get("/readyz"), Client().get("/health")
    assert ready.status_code == 503
    assert ready.json()["reasons"] == ["database", "migrations", "triggers", "keyring"]
    assert whole.json() == {"status": "degraded"}
    assert b"db.internal" not in ready.content + whole.content


# --- /health ----------------------------------------------------------------------------------------------------------


@real_database
def test_health_is_one_word():
    answer = Client().get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@real_database
def test_a_redis_that_does_not_answer_is_degraded_and_still_ready(settings):
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert Client().get("/health").json() == {"status": "degraded"}
    assert Client().get("/readyz").status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("authorization", ["", "Bearer x", "Bearer " + "x" * 5000, "Basic eDp4"])
def test_details_are_for_operators_only(authorization):
    answer = Client().get("/health/detail", headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "checks" not in answer.json()


@real_database
def test_details_tell_checks_version_epoch_and_reports(token):
    lifecycle.report_with("journal", lambda: {"records": 3})
    told = detail(token).json()
    assert (told["status"], told["phase"]) == ("ok", "ready")
    assert told["epoch"] > 0
    assert told["version"]
    assert told["reports"] == {"journal": {"records": 3}}
    names = [check["name"] for check in told["checks"]]
    assert names == ["database", "migrations", "triggers", "keyring", "journal", "redis"]
    assert all(check["message"] for check in told["checks"])


@real_database
def test_details_that_cannot_be_looked_up_are_503_and_not_401(token, monkeypatch):
    monkeypatch.setattr("gateway.api.principals.session_of", lambda token: fails())
    assert detail(token).status_code == 503


# --- looks ------------------------------------------------------------------------------------------------------------


def test_a_look_that_hangs_ends_in_time_and_is_not_started_again():
    release, started = threading.Event(), []

    def hang() -> checks.Outcome:
        started.append(1)
        release.wait(10)
        return State.OK, "late", {}

    look, watch = Look("slow", hang, reads_database=False), Watch(seconds=0.05)
    began = time.monotonic()
    findings = [watch.findings([look])[0] for _ in range(3)]
    assert time.monotonic() - began < 2
    assert {found.state for found in findings} == {State.FAILED}
    assert len(started) == 1
    release.set()
    watch = Watch(seconds=5)
    assert watch.findings([look])[0].state is State.OK


def test_many_visitors_cost_one_look():
    made = []

    def count() -> checks.Outcome:
        made.append(1)
        return State.OK, "", {}

    watch = Watch(fresh=60)
    for _ in range(10):
        watch.findings([Look("counted", count, reads_database=False)])
    assert len(made) == 1


def test_a_fault_in_a_look_itself_is_not_hidden():
    def broken() -> checks.Outcome:
        raise KeyError("bug")

    watch = Watch()
    look = Look("broken", broken, reads_database=False)
    for _ in range(2):
        with pytest.raises(KeyError):
            watch.findings([look])


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_the_wal_reset_bug_is_known_by_version(version, affected):
    assert has_wal_reset_bug(version) is affected
