"""`/v1/openapi.json` and `/docs`: what is documented is what is there."""

import json
import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import resolve
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.relay import endpoints
from gateway.views.base import CallView
from tests.gateway.views.managing import Holder
from tests.support import promises
from tests.support.page import Elements
from tests.support.promises import BrokenPromise, closed

Json = dict[str, Any]
EMPTY = {"object": "list", "data": [], "has_more": False, "next_cursor": None, "total": 0}


@pytest.fixture(scope="module")
def document() -> Json:
    answer = Client().get("/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    return dict(answer.json())


@pytest.fixture(scope="module")
def page() -> str:
    answer = Client().get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    return answer.content.decode()


def operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_it_is_valid_openapi_3_1(document: Json) -> None:
    assert document["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []


def test_every_call_and_state_is_in_it_and_nothing_else(document: Json) -> None:
    there = {(method, path) for method, path, _ in operations(document)}
    calls = {
        ("POST", path) for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
    }
    models = {("GET", "/v1/models"), ("GET", "/v1/models/{model}")}
    state = {
        *("/v1/key", "/v1/usage", "/v1/traces", "/v1/traces/{request_id}"),
        *(f"/v1/analytics/{name}" for name in ("summary", "timeseries", "models")),
    }
    managed = {
        *(("GET", path) for path in ("/v1/projects", "/v1/keys")),
        *(("POST", path) for path in ("/v1/projects", "/v1/keys", "/v1/keys/{key_id}/rotate")),
        *((method, "/v1/projects/{project_id}") for method in ("GET", "DELETE")),
        *((method, "/v1/keys/{key_id}") for method in ("GET", "PATCH", "DELETE")),
    }
    assert there == calls | models | {("GET", path) for path in state} | managed


def test_what_is_in_it_as_a_call_is_one_in_the_table(document: Json) -> None:
    for method, path, operation in operations(document):
        one = re.sub(r"\{(key|project)_id\}", str(uuid4()), path)
        view = getattr(resolve(one).func, "cls")  # noqa: B009 - DRF puts it there
        is_call = endpoints.find(method, path) is not None
        assert is_call == issubclass(view, CallView)
        assert is_call == (operation["tags"] in (["Calls"], ["Models"]))


def test_each_operation_says_what_it_takes_and_how_it_fails(document: Json) -> None:
    schemas = document["components"]["schemas"]
    seen = set()
    for method, path, operation in operations(document):
        seen.add(operation["operationId"])
        assert operation["summary"]
        assert operation["description"], path
        assert {"401", "403", "503"} <= set(operation["responses"])
        assert {next(iter(each)) for each in operation["security"]} == set(
            document["components"]["securitySchemes"]
        )
        assert ("requestBody" in operation) == (method in ("POST", "PATCH"))
        for status, response in operation["responses"].items():
            if status == "204":
                assert "content" not in response
                continue
            name = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert (name == "Error") == (not status.startswith("2"))
            assert name in schemas
    assert len(seen) == len(list(operations(document)))


def test_every_body_has_an_example_that_fits(document: Json) -> None:
    components = {"schemas": closed(document["components"]["schemas"])}
    for _, path, operation in operations(document):
        good = next(it for status, it in operation["responses"].items() if status < "300")
        for body in (operation.get("requestBody", {}), good):
            media = body.get("content", {}).get("application/json")
            if media is None:
                continue
            (example,) = media["examples"].values()
            judge = Draft202012Validator({**media["schema"], "components": components})
            faults = judge.iter_errors(example["value"])
            assert [fault.message for fault in faults] == [], path


def test_what_goes_to_a_provider_is_open_and_what_stays_here_is_not(document: Json) -> None:
    for _, path, operation in operations(document):
        if "requestBody" in operation:
            said = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            shape = document["components"]["schemas"][said.rpartition("/")[2]]
            assert shape["additionalProperties"] == (operation["tags"] == ["Calls"]), path


def test_every_shape_is_used(document: Json) -> None:
    text = str(document)
    for name in document["components"]["schemas"]:
        assert f"'#/components/schemas/{name}'" in text, name


@pytest.mark.parametrize(
    ("route", "query", "status", "answered"),
    [
        ("keys", "", 418, {}),
        ("keys", "", 200, {}),
        ("keys", "new=1", 200, EMPTY),
        ("keys/{key_id}", "", 200, EMPTY),
        ("keys/{key_id}", "", 404, {"error": "no"}),
    ],
)
def test_an_answer_that_is_not_as_documented_is_found(
    route: str, query: str, status: int, answered: Json
) -> None:
    sent = json.dumps(answered).encode()
    with pytest.raises(BrokenPromise, match=r"listKeys|getManagedKey"):
        promises.hold("GET", route, query, b"", status, sent, promises.TENANTS)


@pytest.mark.django_db
def test_every_call_of_a_holder_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[Any] = []
    monkeypatch.setattr(promises, "hold", lambda *told: held.append(told))
    Holder("gwk_none").get(f"keys/{uuid4()}?x=1")
    assert [(it[:3], it[4], it[6]) for it in held] == [
        (("GET", "keys/{key_id}", "x=1"), 401, promises.TENANTS)
    ]


def test_the_page_has_every_operation_with_its_curl_line_and_errors(
    page: str, document: Json
) -> None:
    text = re.sub(r"</?code>", "`", page)
    ids = {attributes.get("id") for _, attributes in Elements(page).found}
    for method, path, operation in operations(document):
        assert operation["operationId"] in ids
        assert f"{method} {path}" in page
        assert f"{settings.PUBLIC_URL}{path} " in page
        for status, response in operation["responses"].items():
            assert status.startswith("2") or response["description"] in text


def test_the_page_takes_nothing_inline_and_nothing_from_elsewhere(page: str) -> None:
    elements = Elements(page).found
    assert not {tag for tag, _ in elements} & {"script", "style", "iframe", "object", "form"}
    for tag, attributes in elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")], tag
    sources = [str(attributes["href"]) for tag, attributes in elements if tag in {"a", "link"}]
    assert all(re.match(r"[/#](?!/)", source) for source in sources)
    sheets = [
        str(attributes["href"])
        for tag, attributes in elements
        if attributes.get("rel") == "stylesheet"
    ]
    assert len(sheets) == 3


def test_its_own_style_sheet_is_there() -> None:
    assert finders.find("api_docs/page.css")


@pytest.mark.parametrize("path", ["/v1/openapi.json", "/docs"])
def test_they_are_public_read_only_and_the_same_whatever_is_asked_for(path: str) -> None:
    plain = Client().get(path)
    for headers in (
        {"accept": "text/event-stream"},
        {"accept": "a/b," * 2500},
        {"authorization": "Bearer x"},
    ):
        assert Client().get(path, headers=headers).content == plain.content
    assert Client().head(path).status_code == 200
    assert Client().post(path).status_code == 405
