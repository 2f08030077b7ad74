"""Who may do what, cell by cell: the table below is written by hand, and every route must stand in it."""

import re
from typing import Any, cast
from uuid import uuid4

import pytest
from django.urls import URLPattern

from gateway.api import urls
from gateway.api.door import AdminView
from providers import discovery
from providers.discovery import ImportResult, TestResult
from tenants.sealing import Secret
from tenants.service_tokens import SCOPES, issue_token
from tests.cast import PASSWORD, Api

#: Who may be at the door. `x token`: a service token that an owner of the house made for that scope alone.
OWNER, OPERATOR, AUDITOR, VIEWER = "owner", "operator", "auditor", "viewer"
TENANT_OWNER, TENANT_MEMBER, FOREIGN_OWNER = "tenant owner", "tenant member", "foreign owner"
ADMIN_KEY = "admin key"
TENANTS_PEOPLE = {TENANT_OWNER, TENANT_MEMBER, FOREIGN_OWNER}
TOKENS = {f"{scope} token" for scope in SCOPES}
EVERY_ROLE = {OWNER, OPERATOR, AUDITOR, VIEWER}

#: Sets for the rows of the matrix.
ALL = EVERY_ROLE | {ADMIN_KEY, "read token"}
CHANGE = {OWNER, OPERATOR, ADMIN_KEY, "write token"}
AUDIT = {OWNER, AUDITOR, ADMIN_KEY, "audit token"}
OWN = {OWNER, ADMIN_KEY, "write token"}
STAFF = {OWNER, ADMIN_KEY, "people token"}
HOUSEHOLD = {OWNER, ADMIN_KEY}
PEOPLE = STAFF | {TENANT_OWNER, FOREIGN_OWNER}
MEMBERS_READ = ALL | TENANTS_PEOPLE
MEMBER_OWNERS_CHANGE = CHANGE | {TENANT_OWNER, FOREIGN_OWNER}
SIGNED_IN = EVERY_ROLE | TENANTS_PEOPLE
EVERYBODY: set[str] = set()

MATRIX = {
    ("POST", "auth/login"): EVERYBODY,
    ("POST", "auth/logout"): SIGNED_IN,
    ("GET", "auth/me"): SIGNED_IN,
    ("POST", "auth/change-password"): SIGNED_IN,
    ("POST", "auth/sign-out-everywhere"): SIGNED_IN,
    ("POST", "auth/accept-invitation"): EVERYBODY,
    ("GET", "operators"): STAFF,
    ("POST", "operators"): STAFF,
    ("GET", "operators/{operator_id}"): STAFF,
    ("PATCH", "operators/{operator_id}"): STAFF,
    ("DELETE", "operators/{operator_id}"): STAFF,
    ("POST", "operators/{operator_id}/sign-out-everywhere"): STAFF,
    ("GET", "sessions"): SIGNED_IN | STAFF,
    ("DELETE", "sessions/{session_id}"): SIGNED_IN | STAFF,
    ("GET", "tokens"): EVERY_ROLE | STAFF,
    ("POST", "tokens"): EVERY_ROLE,
    ("GET", "tokens/{token_id}"): EVERY_ROLE | STAFF,
    ("DELETE", "tokens/{token_id}"): EVERY_ROLE | STAFF,
    ("GET", "invitations"): EVERY_ROLE | PEOPLE,
    ("POST", "invitations"): {OPERATOR} | PEOPLE,
    ("GET", "invitations/{invitation_id}"): EVERY_ROLE | PEOPLE,
    ("DELETE", "invitations/{invitation_id}"): {OPERATOR} | PEOPLE,
    ("GET", "tenants/{tenant_id}/members"): EVERY_ROLE | PEOPLE | {TENANT_MEMBER},
    ("POST", "tenants/{tenant_id}/members"): {OPERATOR} | PEOPLE,
    ("GET", "tenants/{tenant_id}/members/{member_id}"): EVERY_ROLE | PEOPLE | {TENANT_MEMBER},
    ("PATCH", "tenants/{tenant_id}/members/{member_id}"): {OPERATOR} | PEOPLE,
    ("DELETE", "tenants/{tenant_id}/members/{member_id}"): {OPERATOR} | PEOPLE,
    ("GET", "tenants"): MEMBERS_READ,
    ("POST", "tenants"): CHANGE,
    ("GET", "tenants/{tenant_id}"): MEMBERS_READ,
    ("PATCH", "tenants/{tenant_id}"): CHANGE,
    ("DELETE", "tenants/{tenant_id}"): CHANGE,
    ("GET", "tenants/{tenant_id}/provider-config"): MEMBERS_READ,
    ("PUT", "tenants/{tenant_id}/provider-config"): MEMBER_OWNERS_CHANGE,
    ("DELETE", "tenants/{tenant_id}/provider-config"): MEMBER_OWNERS_CHANGE,
    ("GET", "tenants/{tenant_id}/api-keys"): MEMBERS_READ,
    ("POST", "tenants/{tenant_id}/api-keys"): MEMBER_OWNERS_CHANGE,
    ("DELETE", "tenants/{tenant_id}/api-keys/{key_id}"): MEMBER_OWNERS_CHANGE,
    ("GET", "keys"): MEMBERS_READ,
    ("GET", "keys/{key_id}"): MEMBERS_READ,
    ("PATCH", "keys/{key_id}"): MEMBER_OWNERS_CHANGE,
    ("POST", "keys/{key_id}/rotate"): MEMBER_OWNERS_CHANGE,
    ("POST", "keys/{key_id}/revoke"): MEMBER_OWNERS_CHANGE,
    ("GET", "keys/{key_id}/usage"): MEMBERS_READ,
    ("GET", "projects"): MEMBERS_READ,
    ("POST", "projects"): MEMBER_OWNERS_CHANGE,
    ("GET", "projects/{project_id}"): MEMBERS_READ,
    ("PATCH", "projects/{project_id}"): MEMBER_OWNERS_CHANGE,
    ("DELETE", "projects/{project_id}"): MEMBER_OWNERS_CHANGE,
    ("GET", "users"): MEMBERS_READ,
    ("POST", "users"): CHANGE,
    ("GET", "users/{user_id}"): MEMBERS_READ,
    ("PATCH", "users/{user_id}"): CHANGE,
    ("DELETE", "users/{user_id}"): CHANGE,
    ("POST", "users/{user_id}/top-up"): CHANGE,
    ("GET", "providers"): ALL,
    ("POST", "providers"): CHANGE,
    ("GET", "providers/{provider_id}"): ALL,
    ("PATCH", "providers/{provider_id}"): CHANGE,
    ("DELETE", "providers/{provider_id}"): CHANGE,
    ("POST", "providers/{provider_id}/rotate-credential"): CHANGE,
    ("POST", "providers/{provider_id}/test"): CHANGE,
    ("POST", "providers/{provider_id}/import-models"): CHANGE,
    ("GET", "models"): ALL,
    ("POST", "models"): CHANGE,
    ("GET", "models/{model_id}"): ALL,
    ("PATCH", "models/{model_id}"): CHANGE,
    ("DELETE", "models/{model_id}"): CHANGE,
    ("GET", "stores"): MEMBERS_READ,
    ("POST", "stores"): MEMBER_OWNERS_CHANGE,
    ("GET", "stores/{store_id}"): MEMBERS_READ,
    ("PATCH", "stores/{store_id}"): MEMBER_OWNERS_CHANGE,
    ("DELETE", "stores/{store_id}"): MEMBER_OWNERS_CHANGE,
    ("GET", "stats"): MEMBERS_READ,
    ("GET", "analytics/summary"): MEMBERS_READ,
    ("GET", "analytics/timeseries"): MEMBERS_READ,
    ("GET", "analytics/models"): MEMBERS_READ,
    ("GET", "holds"): MEMBERS_READ,
    ("GET", "holds/slices"): ALL,
    ("GET", "logs"): MEMBERS_READ,
    ("GET", "logs/{request_id}"): MEMBERS_READ,
    ("POST", "models/{model_id}/simulate"): ALL,
    ("GET", "logs/{request_id}/content"): AUDIT,
    ("GET", "audit"): AUDIT,
    ("GET", "audit/verify"): AUDIT,
    ("GET", "audit/export"): AUDIT,
    ("GET", "settings"): ALL,
    ("PATCH", "settings"): CHANGE,
    ("POST", "config/plan"): CHANGE,
    ("POST", "config/apply"): CHANGE,
    ("POST", "config/rollback"): CHANGE,
    ("GET", "config/revisions"): CHANGE,
    ("GET", "config/export"): CHANGE,
    ("GET", "backup/export"): HOUSEHOLD,
    ("POST", "backup/import"): HOUSEHOLD,
}
REFUSALS = {"forbidden", "scope_missing", "session_required"}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD")


def _routes() -> list[tuple[str, type[AdminView], dict]]:
    """(route, view, declared access) of the admin API, from the URLconf itself."""
    found = []
    for pattern in urls.urlpatterns:
        assert isinstance(pattern, URLPattern), "a nested URLconf would escape this test"
        made = cast(Any, pattern.callback)
        found.append((str(pattern.name), made.cls, made.initkwargs["access"]))
    return found


def _path(route: str) -> str:
    return re.sub(r"\{[a-z_]+\}", str(uuid4()), route)


@pytest.fixture
def staff(owner, operator, auditor, viewer) -> dict[str, Api]:
    return {user.role: Api().signed_in(user) for user in (owner, operator, auditor, viewer)}


@pytest.fixture
def people(tenant_owner, tenant_member, foreign_owner) -> dict[str, Api]:
    return {
        user.username.removeprefix("the-").replace("-", " "): Api().signed_in(user)
        for user in (tenant_owner, tenant_member, foreign_owner)
    }


@pytest.fixture
def programs(owner, staging, settings) -> dict[str, Api]:
    settings.ADMIN_TOKEN = Secret(b"a key for the whole of the house")
    issued = {
        f"{scope} token": issue_token(actor=staging, user=owner, name=scope, scopes=[scope])
        for scope in SCOPES
    }
    apis = {name: Api(made.credential.reveal().decode()) for name, made in issued.items()}
    return {**apis, ADMIN_KEY: Api(admin_key=settings.ADMIN_TOKEN.reveal().decode())}


@pytest.fixture
def callers(staff, people, programs) -> dict[str, Api]:
    return {**staff, **people, **programs}


def test_every_route_is_in_the_matrix_and_every_method_declared():
    implemented = {
        (method, route)
        for route, view, _ in _routes()
        for method in METHODS
        if method not in ("HEAD", "OPTIONS") and hasattr(view, method.lower())
    }
    declared = {(method, route) for route, _, access in _routes() for method in access}
    assert implemented == declared == set(MATRIX)
    assert all(issubclass(view, AdminView) for _, view, _ in _routes())


def test_the_matrix_speaks_of_nobody_unknown(callers):
    assert set().union(*MATRIX.values()) <= set(callers)


@pytest.mark.parametrize(("method", "route"), MATRIX, ids=[*map(" ".join, MATRIX)])
def test_a_role_gets_past_the_door_exactly_where_the_matrix_says(
    callers, method, route, monkeypatch
):
    monkeypatch.setattr(discovery, "test_provider", lambda **_: TestResult(True, 200, 1, "Fine."))
    monkeypatch.setattr(discovery, "import_models", lambda **_: ImportResult())
    allowed = MATRIX[method, route]
    if allowed == EVERYBODY:
        assert Api().call(method, _path(route)).status_code == 400
        return
    assert Api().call(method, _path(route)).status_code == 401
    for name, api in callers.items():
        answer = api.call(method, _path(route))
        if name in allowed:
            assert answer.status_code not in (401, 403), (name, answer.content)
        else:
            assert answer.status_code == 403, (name, answer.content)
            assert answer.json()["error"]["code"] in REFUSALS


@pytest.mark.parametrize("route", sorted({route for _, route in MATRIX}))
def test_a_method_that_a_route_does_not_take_is_a_405_that_names_those_it_does(staff, route):
    taken = {method for method, other in MATRIX if other == route}
    for method in METHODS:
        if method in taken or (method == "HEAD" and "GET" in taken):
            continue
        answer = staff["viewer"].call(method, _path(route))
        assert answer.status_code == 405, method
        assert set(answer.headers["Allow"].split(", ")) - {"HEAD"} == taken
        if method != "HEAD":
            assert answer.json()["error"]["code"] == "method_not_allowed"
        if EVERYBODY not in (MATRIX[taken_method, route] for taken_method in taken):
            assert Api().call(method, _path(route)).status_code == 401


@pytest.mark.parametrize(("method", "route"), MATRIX, ids=[*map(" ".join, MATRIX)])
def test_no_answer_is_kept_by_a_cache_or_sets_a_cookie(staff, method, route):
    for answer in (
        staff["viewer"].call(method, _path(route)),
        Api().call(method, _path(route)),
    ):
        assert "no-store" in answer.headers["Cache-Control"]
        assert {"Authorization", "Cookie"} <= set(answer.headers["Vary"].split(", "))
        assert not answer.cookies
        assert answer.headers["x-request-id"] == answer.headers["request-id"]


def test_a_view_without_a_declaration_is_closed(owner, rf):
    class Forgotten(AdminView):
        def get(self, request):
            pytest.fail("it was opened")

    token = Api().signed_in(owner).token
    request = rf.get("/", headers={"authorization": f"Bearer {token}"})
    request.request_id = "a-request-id"
    assert Forgotten.as_view()(request).status_code == 403


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-admin-key"])
def test_a_tenant_s_key_opens_no_door_of_the_admin_api(key, header):
    credential = key.credential.reveal().decode()
    value = f"Bearer {credential}" if header == "authorization" else credential
    for (method, route), allowed in MATRIX.items():
        if allowed != EVERYBODY:
            answer = Api().call(method, _path(route), headers={header: value})
            assert answer.status_code == 401, (method, route)


def test_a_session_cookie_opens_nothing(operator, client):
    client.cookies["sessionid"] = PASSWORD
    assert client.get("/v1/admin/tenants").status_code == 401
