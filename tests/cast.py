"""The cast of our stories: staff of each role, a tenant with a key, and the outsider, whose things nobody else may see.

`api` is a client of the admin API, signed in as the operator; `api.signed_in(owner)` is the same as somebody else.
"""

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from django.urls import Resolver404, resolve
from pytest_django.fixtures import Settings

from keys.services import Issued, issue_key
from tenants.actor import Actor, system_actor
from tenants.models import Membership, Tenant, User
from tenants.operator_services import create_operator
from tenants.services import create_tenant
from tests.support import page, promises
from tests.support.addresses import new_address

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

PASSWORD = "a lamp in every window"
_NO_BODY = object()


class Api:
    """Speaks JSON with `/v1/admin/`. Answers are Django's: `answer.status_code`, `answer.json()`, `answer.headers`.

    Each is held against the OpenAPI document (`tests/support/promises.py`), so whatever a test sees there is documented.
    """

    def __init__(self, token: str | None = None, *, admin_key: str | None = None) -> None:
        self.token = token
        self.admin_key = admin_key

    def signed_in(self, user: User, password: str = PASSWORD) -> "Api":
        """From an address where nobody else signs in: so many from one are refused."""
        credentials = {"username": user.username, "password": password}
        answer = Api().post("auth/login", credentials, address=new_address())
        assert answer.status_code == 200, answer.content
        return Api(answer.json()["token"])

    def call(
        self,
        method: str,
        path: str,
        body: Any = _NO_BODY,
        *,
        raw: bytes | None = None,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        address: str = "127.0.0.1",
    ) -> "Answer":
        """`raw` is sent as it is, in place of a body."""
        data = raw if raw is not None else b"" if body is _NO_BODY else json.dumps(body).encode()
        bearer = {"authorization": f"Bearer {self.token}"} if self.token else {}
        if self.admin_key:
            bearer["x-admin-key"] = self.admin_key
        answer = Client(REMOTE_ADDR=address).generic(
            method,
            f"/v1/admin/{path}",
            data,
            content_type=content_type,
            headers={**bearer, **(headers or {})},
        )
        _hold(method, path, data, answer)
        return answer

    def get(self, path: str, **kwargs: Any) -> "Answer":
        return self.call("GET", path, **kwargs)

    def post(self, path: str, body: Any = _NO_BODY, **kwargs: Any) -> "Answer":
        return self.call("POST", path, body, **kwargs)

    def put(self, path: str, body: Any = _NO_BODY, **kwargs: Any) -> "Answer":
        return self.call("PUT", path, body, **kwargs)

    def patch(self, path: str, body: Any = _NO_BODY, **kwargs: Any) -> "Answer":
        return self.call("PATCH", path, body, **kwargs)

    def delete(self, path: str, **kwargs: Any) -> "Answer":
        return self.call("DELETE", path, **kwargs)


def _hold(method: str, path: str, sent: bytes, answer: "Answer") -> None:
    try:
        route = resolve(f"/v1/admin/{path.partition('?')[0]}").url_name
    except Resolver404:
        return
    if not answer.streaming:
        query = path.partition("?")[2]
        promises.hold(method, str(route), query, sent, answer.status_code, answer.content)


class Console:
    """A browser on this machine. Forms are sent as they were drawn: `submit` fetches the page and fills its first form."""

    def __init__(self, *, secure: bool = False) -> None:
        self.client = Client(enforce_csrf_checks=True, SERVER_NAME="localhost")
        self.secure = secure

    def signed_in(self, user: User, password: str = PASSWORD) -> "Console":
        """Another browser, of this user."""
        browser = Console(secure=self.secure)
        answer = browser.submit("sign-in/", {"username": user.username, "password": password})
        assert answer.status_code == 302, answer.content
        return browser

    def get(self, path: str = "", **kwargs: Any) -> "Answer":
        return self.client.get(self._whole(path), secure=self.secure, **kwargs)

    def post(self, path: str, values: dict[str, Any] | None = None, **kwargs: Any) -> "Answer":
        """As it is: without the form's token, unless it is among the values. As from a page of ours, unless headers say else."""
        headers = {
            "origin": f"http{'s' if self.secure else ''}://localhost",
            **kwargs.pop("headers", {}),
        }
        path = self._whole(path)
        return self.client.post(path, values or {}, secure=self.secure, headers=headers, **kwargs)

    def form(self, path: str) -> dict[str, Any]:
        """What a browser would send of the page's last form with nothing filled in: the theme's and the menu's come first."""
        return page.last_form(self.get(path).content.decode())

    def submit(self, path: str, values: dict[str, Any] | None = None, **kwargs: Any) -> "Answer":
        return self.post(path, {**self.form(path), **(values or {})}, **kwargs)

    @staticmethod
    def _whole(path: str) -> str:
        return path if path.startswith("/") else f"/console/{path}"


@pytest.fixture
def staging() -> Actor:
    """Who sets the stage before a story begins."""
    return system_actor("staging")


@pytest.fixture
def cheap_passwords(settings: Settings) -> None:
    """A real hash of a password takes a quarter of a second; most stories are not about that."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


def _staff(actor: Actor, role: User.Role) -> User:
    return create_operator(actor=actor, username=f"the-{role}", password=PASSWORD, role=role.value)


@pytest.fixture
def owner(db: None, cheap_passwords: None, staging: Actor) -> User:
    return _staff(staging, User.Role.OWNER)


@pytest.fixture
def operator(db: None, cheap_passwords: None, staging: Actor) -> User:
    return _staff(staging, User.Role.OPERATOR)


@pytest.fixture
def auditor(db: None, cheap_passwords: None, staging: Actor) -> User:
    return _staff(staging, User.Role.AUDITOR)


@pytest.fixture
def viewer(db: None, cheap_passwords: None, staging: Actor) -> User:
    return _staff(staging, User.Role.VIEWER)


@pytest.fixture
def tenant(db: None, staging: Actor) -> Tenant:
    return create_tenant(actor=staging, name="Acme", slug="acme")


@pytest.fixture
def outsider(db: None, staging: Actor) -> Tenant:
    """Another tenant, who should see and touch nothing of the first."""
    return create_tenant(actor=staging, name="Outsider", slug="outsider")


def person_of(tenant: Tenant, role: str, username: str) -> User:
    """Somebody who signs in for a tenant."""
    user = User.objects.create(username=username, password=make_password(PASSWORD))
    Membership.objects.create(tenant=tenant, user=user, role=role)
    return user


@pytest.fixture
def tenant_owner(cheap_passwords: None, tenant: Tenant) -> User:
    return person_of(tenant, "owner", "the-tenant-owner")


@pytest.fixture
def tenant_member(cheap_passwords: None, tenant: Tenant) -> User:
    return person_of(tenant, "member", "the-tenant-member")


@pytest.fixture
def foreign_owner(cheap_passwords: None, outsider: Tenant) -> User:
    """Of the outsider: has every right there, and none in the first tenant."""
    return person_of(outsider, "owner", "the-foreign-owner")


@pytest.fixture
def key(tenant: Tenant, staging: Actor) -> Issued:
    return issue_key(actor=staging, tenant_id=tenant.id, name="first")


@pytest.fixture
def api(operator: User) -> Api:
    return Api().signed_in(operator)


@pytest.fixture
def console(operator: User) -> Console:
    return Console().signed_in(operator)
