"""`/v1/admin/schema`: what is documented is what is there. That every answer keeps to it is held by each call of `cast.Api`."""

import json
import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from django.test import Client
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.api import urls
from tests.cast import Api
from tests.support import promises
from tests.support.promises import BrokenPromise, closed

# The document of the API.
pytestmark = pytest.mark.sqlite

Json = dict[str, Any]
PREFIX = "/v1/admin/"


@pytest.fixture(scope="module")
def document() -> Json:
    answer = Client().get("/v1/admin/schema")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    return dict(answer.json())


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _of_urls() -> dict[tuple[str, str], Any]:
    return {
        (method, f"{PREFIX}{pattern.name}"): access
        for pattern in urls.urlpatterns
        for method, access in cast(Any, pattern.callback).initkwargs["access"].items()
    }


def _schemas(operation: Json) -> Iterator[tuple[Json, Json]]:
    """(content, its one example) of the body and of what is answered when all goes well."""
    bodies = [operation.get("requestBody", {})]
    bodies += [it for status, it in operation["responses"].items() if status < "300"]
    for body in bodies:
        if media := body.get("content", {}).get("application/json"):
            (example,) = media["examples"].values()
            yield media["schema"], example["value"]


def test_it_is_valid_openapi_3_1(document):
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_it_has_exactly_the_routes_that_there_are(document):
    assert {(method, path) for method, path, _ in operations(document)} == set(_of_urls())


def test_it_says_who_may_use_what(document):
    of_urls = _of_urls()
    for method, path, operation in operations(document):
        access = of_urls[method, path]
        assert (operation["security"] == []) == access.public
        told = operation["description"]
        assert access.public == ("For everybody." in told), path
        house = told.partition("For ")[2].partition(" of the house.")[0]
        assert house == "every role" or set(re.findall("`([a-z]+)`", house)) == access.roles, path
        assert (access.scope == "") == ("scope" not in told)
        assert (access.members == frozenset()) == ("In a tenant: " not in told)


def test_every_operation_has_a_name_of_its_own_and_refusals(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for _, path, operation in operations(document):
        statuses = set(operation["responses"])
        assert operation["summary"]
        assert {"400", "503"} <= statuses
        assert ("401" in statuses) or path.endswith("login")
        assert ({"413", "415"} <= statuses) == ("requestBody" in operation)
        assert len([status for status in statuses if status < "300"]) == 1


def test_every_body_has_an_example_that_fits(document):
    components = {"schemas": closed(document["components"]["schemas"])}
    for _, path, operation in operations(document):
        for schema, example in _schemas(operation):
            faults = Draft202012Validator({**schema, "components": components}).iter_errors(example)
            assert [fault.message for fault in faults] == [], path


def test_what_is_sent_holds_known_members_only(document):
    for _, path, operation in operations(document):
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]
            if path.endswith("/backup/import"):
                assert set(content) == {"application/jsonl"}
                continue
            assert set(content) == {"application/json"}
            name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][name]["additionalProperties"] is False, path


def test_every_shape_is_used(document):
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name


def test_it_is_public_read_only_and_the_same_whatever_is_asked_for():
    plain = Client().get("/v1/admin/schema")
    for headers in ({"accept": "a/b"}, {"authorization": "Bearer x"}):
        assert Client().get("/v1/admin/schema", headers=headers).content == plain.content
    assert Client().head("/v1/admin/schema").status_code == 200
    assert Client().post("/v1/admin/schema").status_code == 405


# The judge of all answers is judged


_EMPTY = {"object": "list", "data": [], "has_more": False, "next_cursor": None, "total": 0}


@pytest.mark.parametrize(
    ("query", "sent", "status", "answered"),
    [
        ("", b"", 418, {}),
        ("", b"", 200, {}),
        ("", b"", 200, {**_EMPTY, "data": [{}]}),
        ("", b"", 200, {**_EMPTY, "new": 1}),
        ("", b"", 400, {"error": "no"}),
        ("new=1", b"", 200, _EMPTY),
        ("", b"{}", 200, _EMPTY),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found(query, sent, status, answered):
    with pytest.raises(BrokenPromise, match="listTenants"):
        promises.hold("GET", "tenants", query, sent, status, json.dumps(answered).encode())


def test_every_call_of_a_test_is_judged(api, monkeypatch):
    held = []
    monkeypatch.setattr(promises, "hold", lambda *told: held.append(told))
    assert api.get("tenants?limit=1").status_code == 200
    assert Api().get("tenants").status_code == 401
    assert [(it[0], it[1], it[2], it[4]) for it in held] == [
        ("GET", "tenants", "limit=1", 200),
        ("GET", "tenants", "", 401),
    ]
