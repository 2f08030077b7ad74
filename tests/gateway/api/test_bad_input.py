"""Names that are no names, and bodies that are none: every member of every body, by what the document says of it."""

import json
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from jsonschema import Draft202012Validator

from gateway.api import schema
from gateway.api.shapes.base import SHAPES
from providers.model_services import create_model
from providers.services import create_provider
from tenants.account_services import create_account
from tenants.models import ConfigChange
from tenants.project_services import create_project
from tests.cast import Api
from tests.support.addresses import new_address
from tests.support.environment import ROOT

# On one database: what is refused here is refused before a table is asked.
pytestmark = pytest.mark.sqlite

Json = dict[str, Any]
Place = dict[str, str]
#: By what they are, so that a failure says which it was.
TEXTS = {
    "control characters": "a\x01\x1b[31mb\x7f",
    "a line end": "a\r\nb",
    "10,000 characters": "x" * 10_000,
    "right to left": "a\u202e\u2066txt.exe",
    "zero width": "a\u200bb\ufeff",
    "a script": "<script>alert(1)</script>",
    "a formula": "=1+2",
    "NUL": "a\x00b",
    "half a surrogate pair": "a\ud800b",
    "not assigned": "a\U000e0080\uffff",
    "private": "a\ue000",
    "nothing but spaces": " \u00a0 ",
    "quotes": "'; DROP TABLE tenants_tenant; --",
    "a path": "../../etc/passwd",
}
VALUES: dict[str, Any] = {
    "a text": "no",
    "an integer": 7,
    "a negative one": -1,
    "nothing": 0,
    "a fraction": 1.5,
    "a huge one": 10**19,
    "true": True,
    "null": None,
    "a list": [],
    "a list of it": [{"a": [None]}],
    "an object": {},
    "an object of it": {"a": {"b": []}},
}
BODIES = [
    (route, operation)
    for route in schema.routes()
    for operation in [schema.document()["paths"][route.path][route.method.lower()]]
    if "application/json" in operation.get("requestBody", {}).get("content", {})
]
NAMES = [operation["operationId"] for _, operation in BODIES]


@pytest.fixture
def place(owner, tenant, key, staging) -> Place:
    """Ids for addresses, of things that there are."""
    project = create_project(actor=staging, tenant_id=tenant.id, name="Reading")
    account = create_account(actor=staging, tenant_id=tenant.id, username="grace")
    provider = create_provider(actor=staging, name="OpenAI", kind="openai", api_key="sk-1234567890")
    create_model(actor=staging, id="small")
    return {
        "tenant_id": str(tenant.id),
        "key_id": str(key.key.id),
        "project_id": str(project.id),
        "user_id": str(account.id),
        "provider_id": str(provider.id),
        "model_id": "small",
    }


@pytest.fixture
def api(owner) -> Api:
    return Api().signed_in(owner)


def shape_of(operation: Json) -> Json:
    name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    return SHAPES.schemas[name.rpartition("/")[2]]


def example_of(operation: Json) -> Json:
    (example,) = operation["requestBody"]["content"]["application/json"]["examples"].values()
    return dict(example["value"])


def path_of(route: schema.Route, place: Place) -> str:
    """Its address; what nothing was made for is a foreign id."""
    path = route.path.removeprefix(f"{schema.PREFIX}/")
    return re.sub(r"\{([a-z_]+)\}", lambda it: place.get(it[1], str(uuid4())), path)


def send(api: Api, route: schema.Route, place: Place, body: Json) -> tuple[int, Json]:
    """The status and what was answered. Whatever it is, it is documented (`tests/support/promises.py`)."""
    before = ConfigChange.objects.count()
    answer = api.call(route.method, path_of(route, place), body, address=new_address())
    if answer.status_code >= 300:
        assert ConfigChange.objects.count() == before, "it was refused, and something was changed"
    return answer.status_code, answer.json() if answer.content else {}


def texts_of(shape: Json) -> Iterator[str]:
    for name, member in shape["properties"].items():
        if "string" in member.get("type", ()) and "enum" not in member and "const" not in member:
            yield name


def is_as_given(found: object, text: str) -> bool:
    return found == unicodedata.normalize("NFC", text).strip()


@pytest.mark.parametrize(("route", "operation"), BODIES, ids=NAMES)
def test_a_text_that_is_no_name_is_refused_by_its_name_or_comes_back_as_it_was(
    api, place, route, operation
):
    for name in texts_of(shape_of(operation)):
        for what, text in TEXTS.items():
            status, answer = send(api, route, place, {**example_of(operation), name: text})
            if status == 400:
                assert name in answer["error"]["fields"], (name, what, answer)
            elif status < 300 and name in answer:
                assert is_as_given(answer[name], text), (name, what, answer)
            else:
                # Another's id, a taken name, wrong credentials, a small bound, no upstream; nothing is said of the text.
                assert status in (200, 201, 204, 401, 404, 409, 410, 413, 503), (name, what, answer)


@pytest.mark.sqlite
@pytest.mark.parametrize(("route", "operation"), BODIES, ids=NAMES)
def test_what_is_of_another_type_is_refused_by_its_name(api, place, route, operation):
    for name, member in shape_of(operation)["properties"].items():
        allowed = Draft202012Validator({**member, "components": {"schemas": SHAPES.schemas}})
        for what, value in VALUES.items():
            if allowed.is_valid(value):
                continue
            status, answer = send(api, route, place, {**example_of(operation), name: value})
            assert status in (400, 404), (name, what, status, answer)
            if status == 400:
                assert name in answer["error"]["fields"], (name, what, answer)


@pytest.mark.sqlite
@pytest.mark.parametrize(("route", "operation"), BODIES, ids=NAMES)
def test_a_member_that_is_none_of_a_body_is_refused_by_its_name(api, place, route, operation):
    for name in ("no_such_member", "__proto__", "", "ID", "\u202e"):
        status, answer = send(api, route, place, {**example_of(operation), name: 1})
        assert status in (400, 404), (name, answer)
        if status == 400:
            assert name in answer["error"]["fields"], (name, answer)


@pytest.mark.sqlite
@pytest.mark.parametrize(("route", "operation"), BODIES, ids=NAMES)
def test_a_body_that_is_none_is_refused_before_anything_is_done(api, place, route, operation):
    path, raw = path_of(route, place), json.dumps(example_of(operation)).encode()
    most = schema_limit(route)
    before = ConfigChange.objects.count()
    for what, sent, statuses in (
        ("a list", b"[]", (400, 404)),
        ("a text", b'"a"', (400, 404)),
        ("null", b"null", (400, 404)),
        ("broken", raw[:-1], (400, 404)),
        ("deep", b'{"name":' + b"[" * 70 + b"]" * 70 + b"}", (400, 404)),
        ("twice", b'{"name":1,"name":1}', (400, 404)),
        ("no UTF-8", b'{"name":"\xff"}', (400, 404)),
        ("too large", b'{"name":"' + b"x" * most + b'"}', (413, 404)),
    ):
        answer = api.call(route.method, path, raw=sent, address=new_address())
        assert answer.status_code in statuses, (what, answer.content)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"):
        answer = api.call(
            route.method, path, raw=raw or b"{}", content_type=kind, address=new_address()
        )
        assert answer.status_code in (415, 404), (kind, answer.content)
    assert ConfigChange.objects.count() == before


def schema_limit(route: schema.Route) -> int:
    limit: int = route.view.max_body
    return limit


@pytest.mark.parametrize(
    ("route", "operation"),
    [(route, operation) for route, operation in BODIES if "{" in route.path],
    ids=[operation["operationId"] for route, operation in BODIES if "{" in route.path],
)
def test_an_id_that_nobody_has_is_a_404_or_no_address(api, place, route, operation):
    if "model_id" in route.path:
        strange = ["%00", "a%00b", "%ed%a0%80", "x" * 10_000, "%e2%80%ae"]
    else:
        strange = [str(UUID(int=0)), str(uuid4()).upper(), "0", "%00", "'", "x" * 10_000]
    for name in strange:
        path = re.sub(r"\{[a-z_]+\}", name, route.path.removeprefix(f"{schema.PREFIX}/"))
        status = api.call(route.method, path, example_of(operation)).status_code
        assert status == 404, (name, status)


def test_no_csv_is_written_so_that_no_cell_can_be_a_formula():
    """Exports are JSON, a line each. Whoever writes CSV has to put a quote before `=`, `+`, `-` and `@`, and a test here."""
    found = subprocess.run(
        ["git", "grep", "-lE", r"csv\.(Dict)?[Ww]riter|text/csv", "--", "*.py", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""
