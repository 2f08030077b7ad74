"""What Schemathesis has to know of the house: who asks, which names and ids mean something there, and what is to be left alone.

Nothing here makes an answer right. What is generated stays what the document allows; where the document can only say "the id of
a provider", one that there is stands in.
"""

import os
from base64 import urlsafe_b64encode
from struct import pack
from typing import Any, Final

import httpx
import schemathesis
from hypothesis import strategies as st
from schemathesis import AuthContext, Case, HookContext

URL: Final = os.environ["FUZZ_URL"]
USERNAME: Final = os.environ.get("FUZZ_USERNAME", "")
PASSWORD: Final = os.environ.get("FUZZ_PASSWORD", "")
#: Wrong sign-ins are held against an address, and the fuzzer makes many: ours come from another one.
_DOOR: Final = "127.0.0.2"
#: These end or replace what the rest of the run goes on with, so each call of one has a session of its own.
_OWN_SESSION: Final = frozenset({"signOut", "changePassword"})
#: A port at which nobody listens.
_NOBODY: Final = "http://127.0.0.1:9/v1"


class House:
    """The admin API as its owner, beside the fuzzer."""

    def __init__(self) -> None:
        transport = httpx.HTTPTransport(local_address=_DOOR)
        self.http = httpx.Client(base_url=f"{URL}/v1/admin/", transport=transport, timeout=60)
        self.token = self.sign_in()
        self.http.headers["authorization"] = f"Bearer {self.token}"
        me = self.http.get("auth/me").json()
        self.mine = {me["id"], me["session"]["id"]}

    def sign_in(self) -> str:
        answer = self.http.post("auth/login", json={"username": USERNAME, "password": PASSWORD})
        token: str = answer.raise_for_status().json()["token"]
        return token


_house = House() if USERNAME else None


if _house is not None:

    @schemathesis.auth(refresh_interval=None)
    class Owner:
        """Bearer, as somebody who may everything."""

        def get(self, case: Case, context: AuthContext) -> str:
            assert _house is not None
            if case.operation.definition.raw.get("operationId") in _OWN_SESSION:
                return _house.sign_in()
            return _house.token

        def set(self, case: Case, data: str, context: AuthContext) -> None:
            case.headers["Authorization"] = f"Bearer {data}"


def _is_ours(text: str) -> bool:
    return _house is not None and text in _house.mine


@schemathesis.hook
def map_path_parameters(context: HookContext, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """The person and the session that the run goes on with are left alone."""
    return {
        name: "00000000-0000-4000-8000-000000000000" if _is_ours(str(value)) else value
        for name, value in (path_parameters or {}).items()
    }


def _whole(value: Any) -> Any:
    """JSON Schema takes 10.0 for an integer. The house does not, for it tells of a client that computes with floats."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole(each) for name, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


@schemathesis.hook
def map_body(context: HookContext, body: Any) -> Any:
    return _whole(body)


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
schemathesis.openapi.format(
    "date-time",
    st.datetimes().map(lambda moment: moment.replace(microsecond=0).isoformat() + "Z"),
)
