"""What Schemathesis has to know of the house: who asks, which names and ids mean something there, and what is to be left alone.

Nothing here makes an answer right. What is generated stays what the document allows; where the document can only say "the id of
a provider", one that there is stands in.
"""

import atexit
import itertools
import json
import os
import re
from base64 import urlsafe_b64encode
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from struct import pack
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import AuthContext, Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import RejectedPositiveData

URL: Final = os.environ["FUZZ_URL"]
_BASE: Final = f"{URL}/v1/admin/"
USERNAME: Final = os.environ.get("FUZZ_USERNAME", "")
PASSWORD: Final = os.environ.get("FUZZ_PASSWORD", "")
#: Somebody else, whose sessions are there to be ended.
OTHER: Final = os.environ.get("FUZZ_OTHER", "")
_ENDING: Final = frozenset({"signOut", "signOutEverywhere", "changePassword"})
#: A port at which nobody listens.
_NOBODY: Final = "http://127.0.0.1:9/v1"


_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
#: What an id in an address names: where such are listed, and what is made if there is none.
_LISTS: Final[dict[str, tuple[str, dict[str, Any] | None]]] = {
    "tenant_id": ("tenants", {}),
    "key_id": ("keys", None),
    "project_id": ("projects", {"tenant": "default"}),
    "user_id": ("users", {"tenant": "default"}),
    "provider_id": ("providers", {"kind": "demo"}),
    "model_id": ("models", {}),
    "operator_id": ("operators", None),
    "session_id": ("sessions", None),
    "store_id": ("stores", None),
    "invitation_id": ("invitations", None),
}
#: How that is called, where it is not its name.
_NAMED: Final = {"user_id": "username", "model_id": "id"}


#: An id of nothing.
_NOTHING: Final = "00000000-0000-4000-8000-000000000000"


#: Told to whoever started the run.
_figures: Final = {"statuses": Counter[str](), "excused": Counter[str]()}


@atexit.register
def _tell() -> None:
    Path(os.environ["FUZZ_FIGURES"]).write_text(json.dumps(_figures))


class House:
    """The admin API as its owner, beside the fuzzer."""

    def __init__(self) -> None:
        self._doors = itertools.count(1)
        self.http = httpx.Client(base_url=_BASE, timeout=60)
        self.mine: set[str] = set()
        self.sign_in_again()
        other = self.sign_in(OTHER)
        self.mine.update(self._ids_of(other))
        self.other, _ = self._ids_of(other)
        # What the document's examples and our formats name; it is not to be deleted.
        self.post("tenants", {"name": "Acme", "slug": "acme"})
        self.post("providers", {"name": "OpenAI", "kind": "openai", "base_url": _NOBODY})
        self.post("providers", {"name": "fuzzed", "kind": "demo"})
        for path in ("tenants", "providers"):
            self.mine.update(row["id"] for row in self.http.get(path).json()["data"])
        self._known: dict[str, list[str]] = {}
        self._asked = 0

    def is_signed_in(self) -> bool:
        return self.http.get("auth/me").status_code == 200

    def sign_in_again(self) -> None:
        self.token = self.sign_in(USERNAME)
        self.http.headers["authorization"] = f"Bearer {self.token}"
        self.mine.update(self._ids_of(self.token))

    def sign_in(self, username: str) -> str:
        """A token. From an address of this machine that nobody has used: of one, many sign-ins are refused."""
        n = next(self._doors)
        door = httpx.HTTPTransport(local_address=f"127.9.{n // 250}.{n % 250 + 1}")
        credentials = {"username": username, "password": PASSWORD}
        with httpx.Client(transport=door, timeout=60) as client:
            answer = client.post(f"{_BASE}auth/login", json=credentials)
        token: str = answer.raise_for_status().json()["token"]
        return token

    def _ids_of(self, token: str) -> tuple[str, str]:
        headers = {"authorization": f"Bearer {token}"}
        me = httpx.get(f"{_BASE}auth/me", headers=headers, timeout=60).json()
        return me["id"], me["session"]["id"]

    def backup(self) -> str:
        return self.http.get("backup/export").raise_for_status().text

    def post(self, path: str, body: dict[str, Any]) -> None:
        self.http.post(path, json=body)

    def instead_of(self, name: str, value: str) -> str:
        """An id that there is in the place of one that could be one, three times in four."""
        if value in self.mine:
            return _NOTHING
        if name not in _LISTS or (name != "model_id" and not _UUID.fullmatch(value)):
            return value
        self._asked += 1
        if self._asked % 4 == 0:
            return value
        if self._asked % 40 == 1 or not self._known.get(name):
            self._known[name] = self._look_up(name)
        known = self._known[name]
        return known[self._asked % len(known)] if known else value

    def _look_up(self, name: str) -> list[str]:
        path, body = _LISTS[name]
        for _ in range(2):
            rows = self.http.get(f"{path}?limit=20").json().get("data", [])
            found = [row["id"] for row in rows if row["id"] not in self.mine]
            if found or body is None:
                return found
            self.post(path, {**body, _NAMED.get(name, "name"): f"fuzzed-{self._asked}"})
        return found


_house = House() if USERNAME else None


if _house is not None:

    @schemathesis.auth(refresh_interval=None)
    class Owner:
        """Bearer, as somebody who may everything."""

        def get(self, case: Case, context: AuthContext) -> str:
            assert _house is not None
            if case.operation.definition.raw.get("operationId") in _ENDING:
                return _house.sign_in(OTHER)
            return _house.token

        def set(self, case: Case, data: str, context: AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Of good ids most are of things that there are; those that the run goes on with are left alone. Bad ones stay bad."""
    if _house is None or not path_parameters:
        return path_parameters
    return {name: _house.instead_of(name, str(value)) for name, value in path_parameters.items()}


_ACCOUNT: Final = re.compile("[A-Za-z0-9]([A-Za-z0-9.-]{0,30}[A-Za-z0-9])?")
_MOMENT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
#: The nearest of the bounds that there are is 90 days.
_LATER: Final = (datetime.now(UTC) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Also of what comes from answers and from the edges of the schema."""
    if _house is not None:
        for name, value in (case.path_parameters or {}).items():
            if value in _house.mine:
                case.path_parameters[name] = _NOTHING


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Whatever ended our session, the run goes on with another."""
    _figures["statuses"][str(response.status_code)] += 1
    if _house is not None and response.status_code == 401 and not _house.is_signed_in():
        _house.sign_in_again()


def _whole(value: Any) -> Any:
    """JSON Schema takes 10.0 for an integer. The house does not, for it tells of a client that computes with floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _is_moment(price: dict[str, Any]) -> bool:
    given = price["effective_from"]
    return isinstance(given, str) and _MOMENT.fullmatch(given) is not None


def _fitting(body: dict[str, Any]) -> dict[str, Any]:
    """What the document tells in sentences only. A member that is wrong in itself stays as it is."""
    if "base_url" in body:
        # Another host needs the credential again.
        body.setdefault("api_key", None)
    if isinstance(body.get("kind", body.get("provider")), str):
        body.setdefault("base_url", _NOBODY)
        body |= {name: None for name in ("deployment", "api_version") if body.get(name)}
    if isinstance(body.get("expires_at"), str) and _MOMENT.match(body["expires_at"]):
        body["expires_at"] = _LATER
    return body


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    body = _whole(body)
    if not isinstance(body, dict):
        return body
    prices = body.get("prices")
    for n, price in enumerate(prices if isinstance(prices, list) else ()):
        if isinstance(price, dict) and (price.get("effective_from") is None or _is_moment(price)):
            # Each from a moment of its own.
            price["effective_from"] = f"{2100 + n}-01-01T00:00:00Z"
    return _fitting(body)


@schemathesis.hook
def map_query(context: HookContext, query: dict[str, Any]) -> dict[str, Any]:
    """What is to be done about names that are taken says something only with new ids."""
    if query and "on_conflict" in query and query.get("remap_ids") in (None, False, "false", ""):
        query["remap_ids"] = "true"
    return query


@schemathesis.hook
def before_add_examples(context: HookContext, examples: list[Case]) -> None:
    for case in examples:
        case.body = map_body(context, case.body)


#: Refusals that no schema can foretell, and what each depends on. Each answer is a 400 that names the member; whoever is refused
#: for anything else as well is a failure.
_BEYOND_A_SCHEMA: Final = {
    "what there is": (
        r"is no (tenant|project|account|key|user|person|model|provider)\b",
        r"there is no provider .* for this model",
        r"there is a price from that moment on already",
        r"has no audit log",
    ),
    "what the thing is": (
        r"is for providers of kind .* only",
        r"what is a tenant's own is for no other",
        r"is of another tenant",
        r"must be entered again",
        r"tenant: a tenant's own model has no other payers",
    ),
    "another member": (
        r"A base URL is required",
        r"goes with a",
        r"the same provider and upstream model stand there twice",
        r"says something only with",
        r"cannot be made from this name; give one",
    ),
    "the time of day": (
        r"lies in the past",
        r"must not lie in the past",
        r"must lie within the next 90 days",
    ),
    "a list of passwords that people use": (
        r"This password is too common",
        r"too similar to the",
        r"entirely numeric",
    ),
}


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Whether it is one."""
    if not isinstance(failure, RejectedPositiveData) or response.status_code != 400:
        return True
    faults = response.json()["error"]["fields"].values()
    reasons = [_reason_of(fault) for fault in faults]
    if not reasons or "" in reasons:
        return True
    _figures["excused"][reasons[0]] += 1
    return False


def _reason_of(fault: str) -> str:
    found = (reason for reason, it in _BEYOND_A_SCHEMA.items() if re.search("|".join(it), fault))
    return next(found, "")


# Formats of the document: what a text of them looks like.

_NAMES: Final = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Mn")),
    min_size=1,
    max_size=24,
)
schemathesis.openapi.format("name", _NAMES)
schemathesis.openapi.format("model", _NAMES.map(lambda text: text.replace("*", "-")))
schemathesis.openapi.format("tenant", st.just("default"))
schemathesis.openapi.format(
    "network", st.sampled_from(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
)
schemathesis.openapi.format("printable", _NAMES)
# As a list gives them out: microseconds and an id (gateway/api/paging.py).
schemathesis.openapi.format(
    "cursor",
    st.builds(
        lambda micros, identity: urlsafe_b64encode(pack(">q16s", micros, identity.bytes)).decode(),
        st.integers(0, 10**16),
        st.uuids(),
    ),
)
schemathesis.openapi.format("upstream", st.just(_NOBODY))
_CENTURY: Final = (datetime.fromisoformat("2030-01-01"), datetime.fromisoformat("2100-01-01"))
schemathesis.openapi.format(
    "date-time",
    st.datetimes(*_CENTURY).map(lambda moment: moment.replace(microsecond=0).isoformat() + "Z"),
)
schemathesis.openapi.format("provider", st.just("fuzzed"))
schemathesis.openapi.format(
    "config",
    st.integers(1, 9).map(
        lambda n: f"tenants:\n  - name: From a file {n}\n    slug: from-file-{n}\n"
    ),
)


@schemathesis.serializer("application/jsonl")
def lines_of_json(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


_PASSWORDS: Final = st.integers(1, 10**9).map(lambda n: f"a window in every house {n}")
schemathesis.openapi.format("password", _PASSWORDS)
schemathesis.openapi.format("person", st.just(_house.other if _house else _NOTHING))
schemathesis.openapi.format("backup", st.just(_house.backup() if _house else "{}"))
