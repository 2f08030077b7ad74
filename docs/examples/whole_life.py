"""The whole life of a key, over HTTP alone: what a program does that hands out access and takes it back.

    python docs/examples/whole_life.py http://127.0.0.1:8000 admin < password.txt

It makes a tenant with a provider (the built-in demo, which needs no account), a model and a key, calls the model, looks up what
was used, rotates the key with a grace period, waits for its end, revokes the key, and reads in the audit log who did all that.
At the end it takes away what it made. It needs httpx and nothing else, and exits with 1 and a sentence at the first answer that
is not as it should be.
"""

import sys
import time
import uuid
from typing import Any

import httpx

Json = dict[str, Any]

GRACE_SECONDS = 3
#: Keys are looked up anew within this time, everywhere.
SOON_SECONDS = 15.0


class Surprise(Exception):
    """An answer that is not as it should be."""


class House:
    """The admin API as one operator sees it."""

    def __init__(self, address: str, username: str, password: str) -> None:
        self.web = httpx.Client(base_url=address, timeout=30)
        signed_in = self.admin(
            "POST", "auth/login", {"username": username, "password": password}, 200
        )
        self.web.headers["authorization"] = f"Bearer {signed_in['token']}"
        self.name = signed_in["username"]

    def admin(self, method: str, path: str, body: Json | None = None, status: int = 200) -> Any:
        answer = self.web.request(method, f"/v1/admin/{path}", json=body)
        expect(answer, status, f"{method} {path}")
        return answer.json() if answer.content else None

    def ask(self, key: str, model: str) -> httpx.Response:
        """A call as a tenant's program makes it."""
        return self.web.post(
            "/v1/chat/completions",
            headers={"authorization": f"Bearer {key}"},
            json={"model": model, "messages": [{"role": "user", "content": "three small words"}]},
        )

    def ask_until(self, key: str, model: str, status: int) -> httpx.Response:
        """The first answer with that status; a change has to reach every worker, a call every table."""
        deadline = time.monotonic() + SOON_SECONDS
        while True:
            answer = self.ask(key, model)
            if answer.status_code == status or time.monotonic() > deadline:
                expect(answer, status, "POST /v1/chat/completions")
                return answer
            time.sleep(0.2)


def expect(answer: httpx.Response, status: int, what: str) -> None:
    if answer.status_code != status:
        raise Surprise(f"{what}: {answer.status_code} instead of {status}: {answer.text[:300]}")


def say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def prepare(house: House, name: str) -> tuple[Json, Json, Json, Json]:
    """A tenant, and a provider and a model that are its own; the key's credential is in this one answer."""
    tenant = house.admin("POST", "tenants", {"name": name, "slug": name}, 201)
    provider = house.admin(
        "POST", "providers", {"name": name, "kind": "demo", "tenant": tenant["id"]}, 201
    )
    price = {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    model = house.admin(
        "POST",
        "models",
        {
            "id": f"{name}/echo",
            "tenant": tenant["id"],
            "capability": "chat",
            "targets": [{"provider": provider["id"], "upstream_model": "echo"}],
            "prices": [price],
        },
        201,
    )
    key = house.admin(
        "POST",
        f"tenants/{tenant['id']}/api-keys",
        {"name": "first", "rate_limit_rpm": 600, "cost_budget_usd": "5"},
        201,
    )
    say(
        f"Made the tenant {name}, its provider, its model {model['id']} and the key {key['key_prefix']}…."
    )
    return tenant, provider, model, key


def use(house: House, model: Json, key: Json) -> None:
    expect(house.ask(key["key"], model["id"]), 200, "The first call")
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        usage = house.admin("GET", f"keys/{key['id']}/usage")
        if usage["requests_this_month"] or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    # Three words in, three words out, by the demo's exact count, at one and two USD for a million.
    if (usage["tokens_in"], usage["tokens_out"], usage["cost_usd"]) != (3, 3, "0.000009"):
        raise Surprise(f"The usage of the key is not that of one call: {usage}")
    say(
        f"One call: {usage['tokens_total']} tokens, {usage['cost_usd']} USD of {usage['cost_budget_usd']}."
    )


def rotate(house: House, model: Json, key: Json) -> str:
    """The new credential, when the old one has stopped opening the door."""
    rotated = house.admin(
        "POST", f"keys/{key['id']}/rotate", {"grace_period_seconds": GRACE_SECONDS}, 201
    )
    if rotated["id"] != key["id"] or rotated["key"] == key["key"]:
        raise Surprise("Rotation must keep the id and make a new credential.")
    expect(house.ask(rotated["key"], model["id"]), 200, "A call with the new credential")
    expect(house.ask(key["key"], model["id"]), 200, "A call with the old one in its grace")
    say(f"Rotated: both credentials work until {rotated['previous_secret_expires_at']}.")
    house.ask_until(key["key"], model["id"], 401)
    expect(house.ask(rotated["key"], model["id"]), 200, "A call after the grace")
    say("The grace is over: the old one is refused, the new one works.")
    return str(rotated["key"])


def revoke(house: House, model: Json, key: Json, credential: str) -> None:
    house.admin("POST", f"keys/{key['id']}/revoke", {"reason": "the end of the example"})
    house.ask_until(credential, model["id"], 401)
    refused = house.admin("POST", f"keys/{key['id']}/revoke", {}, 409)
    say(f"Revoked: 401 at the door, and a second time is 409 ({refused['error']['code']}).")


def read_audit(house: House, tenant: Json) -> None:
    """Every step with who did it, and a chain that verifies."""
    rows = house.admin("GET", f"audit?tenant={tenant['id']}&outcome=ok&limit=200")["data"]
    told = [row["action"] for row in reversed(rows)]
    wanted = ["tenant.created", "provider.created", "model.created", "key.issued", "key.rotated"]
    if told != [*wanted, "key.revoked"]:
        raise Surprise(f"The audit log tells something else: {told}")
    if {row["actor"]["label"] for row in rows} != {house.name}:
        raise Surprise("The audit log names somebody else.")
    verdict = house.admin("GET", f"audit/verify?tenant={tenant['id']}")
    if not verdict["ok"]:
        raise Surprise(f"The audit log does not verify: {verdict}")
    say(f"The audit log has {len(told)} rows by {house.name}, and its chain verifies.")


def main() -> int:
    address, username = sys.argv[1:3]
    house = House(address, username, sys.stdin.readline().rstrip("\n"))
    tenant, _, model, key = prepare(house, f"example-{uuid.uuid4().hex[:8]}")
    try:
        use(house, model, key)
        credential = rotate(house, model, key)
        revoke(house, model, key, credential)
        read_audit(house, tenant)
    finally:
        house.admin("DELETE", f"tenants/{tenant['id']}?confirm=true", status=204)
    say("Took the tenant away again; its calls and its audit log stay.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Surprise as surprise:
        sys.exit(str(surprise))
