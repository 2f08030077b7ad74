"""A little of `make fuzz-api`: what the document allows and what it does not, made up by the same generator from a fixed seed.

What is refused and what is taken is the long run's to judge, as it knows the house. Here every answer has to be a documented one
(`tests/support/promises.py`), whatever is asked.
"""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from gateway.api import schema
from tests.cast import Api
from tests.support.addresses import new_address

#: One of each sort: a body, a query, an address, a name with anything in it.
OPERATIONS = ("createTenant", "issueKey", "listLogs", "getLog", "updateModel", "listAuditEvents")
_FEW = settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    found: Any = schemathesis.openapi.from_dict(schema.document()).get_all_operations()
    return {it.ok().definition.raw["operationId"]: it.ok() for it in found}


def _ask(api: Api, case: Case) -> int:
    path = case.formatted_path.removeprefix(f"{schema.PREFIX}/")
    query = urlencode(dict(case.query or {}), doseq=True, quote_via=quote, errors="surrogatepass")
    body = case.body
    raw = body if isinstance(body, bytes) else b""
    if not isinstance(body, bytes | type(schemathesis.core.NOT_SET)):
        raw = json.dumps(body).encode()
    address = f"{path}?{query}" if query else path
    return api.call(case.method, address, raw=raw, address=new_address()).status_code


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_is_answered_as_documented(api, operations, name, mode):
    statuses = []

    @_FEW
    @given(case=operations[name].as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        statuses.append(_ask(api, case))

    ask()
    assert statuses
    assert max(statuses) < 500
