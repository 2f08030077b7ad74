"""What a document, the admin API's or the tenants', says of an answer, held against the answer itself: of every call that a
test makes.
"""

import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

from jsonschema import Draft202012Validator

from gateway.api import schema as admin_schema
from gateway.views import schema as tenants_schema

#: What only faults that a test makes can bring.
_FAULT = 500
Json = dict[str, Any]


class BrokenPromise(AssertionError):
    """The document says something else."""


class Document(NamedTuple):
    """`prefix`: of its paths, before what a route is called by."""

    made: Callable[[], Json]
    prefix: str


ADMIN: Final = Document(admin_schema.document, admin_schema.PREFIX)
TENANTS: Final = Document(tenants_schema.document, "/v1")


def hold(
    method: str,
    route: str,
    query: str,
    sent: bytes,
    status: int,
    answered: bytes,
    by: Document = ADMIN,
) -> None:
    """Raises `BrokenPromise`. `route` is what gateway/api/urls.py calls it."""
    operation = by.made()["paths"].get(f"{by.prefix}/{route}", {}).get(method.lower())
    if operation is None or status == _FAULT:
        return
    where = f"{operation['operationId']} ({method} {route})"
    if str(status) not in operation["responses"]:
        raise BrokenPromise(f"{where} does not say that it can answer {status}: {answered!r}")
    if status < 300:
        _hold_request(by, where, operation, query, sent)
    _hold_body(by, where, operation["responses"][str(status)], answered)


def _hold_request(by: Document, where: str, operation: Json, query: str, sent: bytes) -> None:
    """What was taken is what the document says can be given."""
    said = {it["name"] for it in operation.get("parameters", []) if it["in"] == "query"}
    if unsaid := parse_qs(query).keys() - said:
        raise BrokenPromise(f"{where} takes {unsaid}, and does not say so.")
    if sent and "requestBody" not in operation:
        raise BrokenPromise(f"{where} takes a body, and does not say so.")
    if sent:
        media = operation["requestBody"]["content"].get("application/json")
        if media is not None:
            _check(by, where, "takes", media["schema"], sent)


def _hold_body(by: Document, where: str, response: Json, answered: bytes) -> None:
    if "$ref" in response:
        response = by.made()["components"]["responses"][response["$ref"].split("/")[-1]]
    if "content" not in response:
        if answered:
            raise BrokenPromise(f"{where} says that it answers nothing, and answers {answered!r}")
        return
    media = response["content"].get("application/json")
    if media is not None:
        _check(by, where, "answers", media["schema"], answered)


def _check(by: Document, where: str, what: str, said: Json, body: bytes) -> None:
    fault = next(_validator(by, json.dumps(said)).iter_errors(json.loads(body)), None)
    if fault is not None:
        raise BrokenPromise(
            f"{where} {what} another {fault.json_path} than it says: {fault.message}"
        )


@cache
def _validator(by: Document, said: str) -> Draft202012Validator:
    whole: Json = {"components": _components(by), **json.loads(said)}
    return Draft202012Validator(whole)


@cache
def _components(by: Document) -> Json:
    schemas = by.made()["components"]["schemas"]
    return {"schemas": {name: closed(shape) for name, shape in schemas.items()}}


def closed(shape: Any) -> Any:
    """The same, but objects have no members that are not spelt out. Outside of tests answers are open for what will come."""
    if isinstance(shape, list):
        return [closed(each) for each in shape]
    if not isinstance(shape, dict):
        return shape
    parts = {name: closed(each) for name, each in shape.items()}
    if "properties" in shape and "object" in shape.get("type", ()):
        parts.setdefault("additionalProperties", False)
    return parts
