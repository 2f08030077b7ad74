"""Tenants are apart: at every door of theirs, another's things are as if there were none. And the proof of it can fail."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any
from uuid import UUID

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Q
from django.test import Client

from gateway.api.reach import Reach
from gateway.proofs import isolation, sides
from gateway.proofs.doors import Attempt, Door, Name, Request, attempts, doors
from gateway.proofs.prying import Answer, Found, Pryer, Side, belongings
from keys.models import APIKey
from keys.warrants import Warrant
from tenants.models import Tenant
from tests.cast import Api, person_of
from tests.gateway.api.calls import log_row

#: Doors that need no relay.
STATE = ("v1/key", "v1/keys", "v1/projects", "v1/traces", "v1/usage", "v1/analytics")
ADMIN = ("v1/admin/",)


@pytest.fixture
def admin(owner) -> sides.Admin:
    api = Api().signed_in(owner)

    def call(method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        answer = api.call(method, path, dict(body)) if body else api.call(method, path)
        assert answer.status_code < 300, (path, answer.content)
        return answer.json()

    return call


def logged(key: str, model: str, correlation: str, trace: str) -> str:
    """As if the call had been made."""
    made = APIKey.objects.filter(secrets__prefix=key[:10]).get()
    row = log_row(
        tenant_id=made.tenant_id,
        tenant=made.tenant.slug,
        key_id=made.id,
        key_prefix=key[:10],
        model=model,
        correlation_id=correlation,
        trace_id=UUID(trace),
    )
    return str(row.request_id)


@pytest.fixture
def two(admin, settings) -> tuple[Side, Side]:
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    base_url = "http://127.0.0.1:9/v1"
    one, other = (sides.furnished(admin, logged, base_url, it) for it in ("one", "other"))
    return one, other


def asking(credential: str) -> Callable[[Request], Answer]:
    def ask(request: Request) -> Answer:
        answer = Client().generic(
            request.method,
            request.path,
            request.body,
            content_type="application/json",
            headers={"authorization": f"Bearer {credential}"},
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status_code, headers, answer.content)

    return ask


def below(*prefixes: str) -> list[Door]:
    return [door for prefix in prefixes for door in doors(prefix)]


def tried(door: Door, victim: Side, by: Side) -> Iterable[Attempt]:
    """Of the names those that could fit, so that it does not take minutes: the proof itself tries them all."""
    fitting = [name for name in victim.names if not door.parts or name.kind in _kinds(door)]
    for attempt in attempts(door, fitting, by.own):
        if door.parts or attempt.names[0].is_uuid:
            yield attempt


def _kinds(door: Door) -> set[str]:
    of = {"request_id": "call", "user_id": "user", "model_id": "model"}
    return {of.get(part, part.removesuffix("_id")) for part in door.parts} | {"inner"}


def snapshot(side: Side) -> dict[str, str]:
    def read(statement: str) -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    return belongings(read, [model._meta.db_table for model in apps.get_models()], side)


def half_of(role: str) -> slice:
    """Every second attempt, from the first or from the second on: the roles share what there is between them, and change halves
    with the database, so that the whole suite tries everything as either. The proof itself leaves nothing out.
    """
    return slice(["owner", "member"].index(role) ^ (connection.vendor == "postgresql"), None, 2)


def pry(
    credential: str,
    pair: tuple[Side, Side],
    at: Iterable[Door],
    part: slice = slice(None),
) -> Found:
    """The first of the sides tries what the second has. `part` is of the attempts at all doors in a row."""
    by, victim = pair
    found = Found()
    before = snapshot(victim)
    pryer = Pryer("one", asking(credential), victim, found)
    everything = (attempt for door in at for attempt in tried(door, victim, by))
    pryer.pry(islice(everything, part.start, part.stop, part.step))
    for table, digest in snapshot(victim).items():
        if digest != before[table]:
            found.fault(f"rows of {table} have changed")
    return found


@pytest.fixture
def key(admin, two, monkeypatch) -> str:
    monkeypatch.setattr("keys.self_service.MOST_A_MINUTE", 100_000)
    return sides.key_of(admin, two[0])


@pytest.mark.slow
def test_a_key_finds_nothing_of_another_tenant_at_any_door_of_its_own(two, key):
    found = pry(key, two, below(*STATE))
    assert found.faults == []
    assert found.attempts > 400
    assert set(found.statuses) <= {200, 201, 400, 404, 405}
    assert found.routes == {door.route for door in below(*STATE)}


@pytest.mark.slow
@pytest.mark.parametrize("role", ["owner", "member"])
def test_a_member_finds_nothing_of_another_tenant_at_any_door_of_the_admin_api(two, role):
    tenant = Tenant.objects.get(pk=two[0].own["tenant"])
    person = person_of(tenant, role, f"person-{secrets.token_hex(4)}")
    token = Api().signed_in(person).token
    assert token is not None
    open_to_members = [door for door in below(*ADMIN) if not door.route.startswith("v1/admin/auth")]
    found = pry(token, two, open_to_members, half_of(role))
    assert found.faults == []
    assert found.routes == {door.route for door in open_to_members}
    assert found.methods == {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
    assert found.attempts > 500
    assert set(found.statuses) <= {200, 201, 400, 403, 404, 405}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "v1/keys/{key}"),
        ("PATCH", "v1/keys/{key}"),
        ("DELETE", "v1/keys/{key}"),
        ("POST", "v1/keys/{key}/rotate"),
        ("GET", "v1/projects/{project}"),
        ("DELETE", "v1/projects/{project}"),
        ("GET", "v1/traces/{call}"),
    ],
)
def test_what_is_somebody_elses_is_the_404_of_what_never_was_byte_for_byte(two, key, method, path):
    theirs = {name.kind: name.theirs for name in two[1].names if name.is_uuid}
    nobodys = dict.fromkeys(theirs, sides.NOBODY)
    answers = [asking(key)(Request(method, f"/{path.format(**it)}")) for it in (theirs, nobodys)]
    assert {answer.status for answer in answers} == {404}
    assert answers[0].body == answers[1].body
    fresh = {"x-request-id", "request-id"}
    kept = [{k: v for k, v in it.headers.items() if k not in fresh} for it in answers]
    assert kept[0] == kept[1]


# --- that it can fail -------------------------------------------------------------------------------------------------


EVERYBODYS = property(lambda self: Q())


@pytest.mark.parametrize(
    ("broken", "at", "seen"),
    [
        ("keys", "v1/keys/{key_id}", ("200, where it is 404", "rows of keys_apikey have changed")),
        ("keys", "v1/keys/{key_id}/rotate", ("201, where it is 404", "rows of keys_keysecret")),
        ("keys", "v1/keys", ("the answer says ",)),
        ("projects", "v1/projects/{project_id}", ("204, where it is 404", "tenants_project have")),
    ],
)
def test_a_door_that_forgets_whose_it_is_is_found(two, key, monkeypatch, broken, at, seen):
    monkeypatch.setattr(Warrant, broken, EVERYBODYS)
    found = pry(key, two, [door for door in doors(at) if door.route == at])
    if at == "v1/keys":
        answer = asking(key)(Request("GET", "/v1/keys"))
        victim = two[1]
        request = Request("GET", "/v1/keys?limit=200")
        attempt = Attempt(doors(at)[0], request, request, (), is_steady=False)
        Pryer("one", asking(key), victim, found).pry([attempt])
        assert answer.status == 200
    assert not found.holds
    for sentence in seen:
        assert any(sentence in fault for fault in found.faults), (sentence, found.faults)


def test_an_admin_api_that_forgets_whose_it_is_is_found(two, monkeypatch):
    tenant = Tenant.objects.get(pk=two[0].own["tenant"])
    token = Api().signed_in(person_of(tenant, "member", "a-member")).token
    assert token is not None
    monkeypatch.setattr(Reach, "wanted", lambda self, column="tenant_id": Q())
    found = pry(token, two, [door for door in doors("v1/admin/keys/") if len(door.parts) == 1])
    assert any("200, where it is 404" in fault for fault in found.faults)


def test_a_different_word_in_the_answer_is_a_leak():
    door = Door("x/{id}", ("id",), frozenset())
    name = Name("key", "theirs-1", "nobody-1", False)
    victim = Side("other", {}, [name, Name("key", "secret-name", "nobody-2", False)])

    def faults_of(answer: Callable[[Request], tuple[int, bytes]]) -> list[str]:
        found = Found()
        ask = lambda request: Answer(answer(request)[0], {}, answer(request)[1])  # noqa: E731
        asked, control = Request("GET", "/x/theirs-1"), Request("GET", "/x/nobody-1")
        Pryer("one", ask, victim, found).pry([Attempt(door, asked, control, (name,), True)])
        return found.faults

    assert faults_of(lambda it: (404, f"no {it.path[3:]}".encode())) == []
    assert faults_of(lambda it: (404, b"12345678-1234-1234-1234-123456789abc")) == []
    assert len(faults_of(lambda it: (404, b"not" + b" yours" * ("theirs" in it.path)))) == 1
    assert len(faults_of(lambda it: (403 if "theirs" in it.path else 404, b""))) == 1
    assert len(faults_of(lambda it: (404, b"it is secret-name"))) == 1
    assert len(faults_of(lambda it: (500, b""))) == 1


def test_no_attempt_is_no_proof():
    assert not Found().holds


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.sqlite
@pytest.mark.usefixtures("yard")
def test_the_command_proves_it_on_a_server_of_its_own(capsys):
    report = isolation.run(isolation.Plan(workers=1, only="v1/projects/"), lambda sentence: None)
    assert report.holds, report.found.faults
    assert report.found.routes == {"v1/projects/{project_id}"}
    assert report.found.methods == {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
    told = isolation.lines(report)
    assert any(line.split() == ["Leaks", "0"] for line in told)
    assert isolation.data(report)["leaks"] == 0


def test_a_leak_is_an_exit_code(monkeypatch, capsys):
    report = isolation.Report(isolation.Plan(workers=1), Found(attempts=1, faults=["there: it is"]))
    monkeypatch.setattr(isolation, "run", lambda plan, tell: report)
    with pytest.raises(CommandError, match="Tenants are not apart: there: it is") as refusal:
        call_command("prove", "isolation", "--json")
    assert refusal.value.returncode == 1
    assert '"leaks": 1' in capsys.readouterr().out


def test_a_door_that_is_not_there_cannot_be_proved():
    with pytest.raises(CommandError, match="no door that begins like that"):
        call_command("prove", "isolation", "--only", "v1/nothing")


def test_every_route_of_the_urlconf_is_a_door():
    routes = {door.route for door in doors()}
    assert {
        "v1/keys/{key_id}/rotate",
        "v1/admin/tenants/{tenant_id}",
        "v1/models/{model}",
    } <= routes
    assert "openai/deployments/{model}/chat/completions" in routes
    assert not [route for route in routes if "(" in route or "<" in route or "\\" in route]
