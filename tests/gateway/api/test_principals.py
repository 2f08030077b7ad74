"""What else opens the admin API than a password: service tokens, and the shared admin key where it is set."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine

from tenants.clock import SYSTEM
from tenants.errors import Invalid
from tenants.models import AuditEvent, ServiceToken, Tenant, User
from tenants.operator_services import disable_operator
from tenants.sealing import Secret
from tenants.service_tokens import SCOPES, issue_token, revoke_token
from tests.cast import Api

ADMIN_KEY = "a key for the whole of the house"


@pytest.fixture
def admin(settings, db) -> Api:
    settings.ADMIN_TOKEN = Secret(ADMIN_KEY.encode())
    return Api(admin_key=ADMIN_KEY)


def program(staging, user: User, *scopes: str, **fields) -> Api:
    issued = issue_token(actor=staging, user=user, name="nightly", scopes=[*scopes], **fields)
    return Api(issued.credential.reveal().decode())


def refused(answer: Any) -> bool:
    return bool(
        answer.status_code == 401 and answer.json()["error"]["code"] == "invalid_credentials"
    )


# --- the shared key ---------------------------------------------------------------------------------------------------


def test_without_the_setting_no_admin_key_opens_anything(db, settings):
    assert settings.ADMIN_TOKEN is None
    for offered in (ADMIN_KEY, "admin", "null", "x" * 5000, "é"):
        assert refused(Api(admin_key=offered).get("tenants"))


def test_the_admin_key_opens_the_admin_api_and_is_named_in_the_audit_log(admin):
    answer = admin.post("tenants", {"name": "Globex"})
    assert answer.status_code == 201
    row = AuditEvent.objects.get(action="tenant.created", target_label__startswith="Globex")
    named = (row.actor_type, row.actor_id, row.actor_label, row.method)
    assert named == ("admin-key",) * 4


@pytest.mark.parametrize("offered", [ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper(), "x"])
def test_what_is_not_quite_the_admin_key_opens_nothing(admin, offered):
    assert refused(Api(admin_key=offered).get("tenants"))


def test_the_admin_key_is_taken_from_its_own_header_alone(admin):
    assert refused(Api(ADMIN_KEY).get("tenants"))
    for header in ("x-api-key", "api-key"):
        assert Api().get("tenants", headers={header: ADMIN_KEY}).status_code == 401


def test_the_admin_key_has_no_session(admin):
    for method, path in (("GET", "auth/me"), ("POST", "auth/logout")):
        answer = admin.call(method, path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "session_required")


def test_two_credentials_in_one_request_are_none(admin, api, operator, staging):
    good = [api.token, program(staging, operator, "read").token, ADMIN_KEY]
    for token in good:
        assert refused(Api(token, admin_key=ADMIN_KEY).get("tenants"))
    assert refused(Api(api.token, admin_key="anything").get("tenants"))
    assert api.get("tenants").status_code == 200


# --- service tokens ---------------------------------------------------------------------------------------------------


def test_a_service_token_is_named_in_the_audit_log(operator, staging):
    assert (
        program(staging, operator, "write").post("tenants", {"name": "Globex"}).status_code == 201
    )
    row = AuditEvent.objects.get(action="tenant.created", target_label__startswith="Globex")
    token = ServiceToken.objects.get()
    assert (row.actor_type, row.actor_id) == ("service-token", str(token.id))
    assert (row.actor_label, row.method) == ("nightly", "service-token")


def test_a_service_token_does_what_it_was_made_for_and_nothing_else(operator, tenant, staging):
    reader = program(staging, operator, "read")
    assert reader.get(f"tenants/{tenant.id}").status_code == 200
    answer = reader.post("tenants", {"name": "Globex"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_missing")
    assert Tenant.objects.filter(name="Globex").count() == 0
    row = AuditEvent.objects.get(action="access.refused")
    assert (row.error_code, row.actor_type) == ("scope_missing", "service-token")
    assert program(staging, operator, "write").get("tenants").status_code == 403


@pytest.mark.parametrize("role", ["operator", "auditor", "viewer"])
def test_nobody_makes_a_token_for_more_than_their_role_allows(role, request, staging):
    user = request.getfixturevalue(role)
    for scope, roles in SCOPES.items():
        if role in roles:
            issue_token(actor=staging, user=user, name=scope, scopes=[scope])
        else:
            with pytest.raises(Invalid):
                issue_token(actor=staging, user=user, name=scope, scopes=[scope])


def test_a_token_can_never_do_more_than_its_maker_can_at_that_moment(owner, operator, staging):
    writer = program(staging, operator, "read", "write")
    assert writer.post("tenants", {"name": "One"}).status_code == 201
    User.objects.filter(pk=operator.pk).update(role="viewer")
    assert writer.get("tenants").status_code == 200
    assert writer.post("tenants", {"name": "Two"}).status_code == 403
    User.objects.filter(pk=operator.pk).update(role="")
    assert refused(writer.get("tenants"))


def test_the_tokens_of_a_disabled_operator_open_nothing(operator, staging):
    reader = program(staging, operator, "read")
    disable_operator(actor=staging, username=operator.username)
    assert refused(reader.get("tenants"))


def test_a_revoked_or_expired_token_opens_nothing(operator, staging):
    revoked = program(staging, operator, "read")
    revoke_token(
        actor=staging, token_id=ServiceToken.objects.get().id, among=ServiceToken.objects.all()
    )
    assert refused(revoked.get("tenants"))
    short = program(staging, operator, "read", expires_at=SYSTEM.now() + timedelta(hours=1))
    assert short.get("tenants").status_code == 200
    with time_machine.travel(SYSTEM.now() + timedelta(hours=1, seconds=1)):
        assert refused(short.get("tenants"))


def test_the_use_of_a_token_is_written_down_once_a_minute_at_most(operator, staging):
    reader = program(staging, operator, "read")
    with time_machine.travel(SYSTEM.now(), tick=False) as clock:
        reader.get("tenants")
        first = ServiceToken.objects.get().last_used_at
        clock.shift(timedelta(seconds=59))
        reader.get("tenants")
        assert ServiceToken.objects.get().last_used_at == first
        clock.shift(timedelta(seconds=2))
        reader.get("tenants")
        assert ServiceToken.objects.get().last_used_at == SYSTEM.now()


def test_of_a_token_only_a_keyed_digest_is_kept(operator, staging):
    token = program(staging, operator, "read").token
    assert token is not None
    row = ServiceToken.objects.get()
    kept = " ".join(str(value) for value in ServiceToken.objects.values().get().values())
    assert token not in kept
    assert token[10:] not in kept
    assert (row.prefix, len(bytes(row.fingerprint))) == (token[:10], 32)


def test_a_service_token_reads_the_state_of_the_house(client, operator, admin, staging):
    good = program(staging, operator, "read").token
    for headers in ({"authorization": f"Bearer {good}"}, {"x-admin-key": ADMIN_KEY}):
        assert client.get("/health/detail", headers=headers).status_code == 200
    writer = program(staging, operator, "write").token
    headers = {"authorization": f"Bearer {writer}"}
    assert client.get("/health/detail", headers=headers).status_code == 401
