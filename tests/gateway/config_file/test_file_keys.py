"""Keys of a configuration file: their secret is given there or made, and nobody else changes them."""

import textwrap
from typing import Any

import pytest

from keys import tokens
from keys.models import APIKey
from keys.services import Issued, fingerprint_of, issue_key, revoke_key
from tenants.actor import Actor
from tenants.models import Tenant
from tenants.sealing import Secret
from tests.cast import Api
from tests.gateway.config_file.conftest import Apply


def fresh() -> str:
    return tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode()


def doors_of(key: APIKey) -> set[bytes]:
    return {bytes(it.fingerprint) for it in key.secrets.all()}


def opens(credential: str) -> set[bytes]:
    return {fingerprint_of(Secret(credential.encode()))}


def one(name: str, secret: str = "", more: str = "") -> str:
    given = f", secret: {secret}" if secret else ""
    return f"tenants: [{{slug: acme, keys: [{{name: {name}{given}{more}}}]}}]"


def only_fault(answer: Any) -> tuple[str, str]:
    assert answer.status_code == 400, answer.content
    (fault,) = answer.json()["error"]["faults"]
    return fault["path"], fault["message"]


def test_a_given_secret_opens_the_door_and_is_never_shown(apply: Apply, tenant: Tenant) -> None:
    secret = fresh()
    answer = apply(one("ci", secret))
    key = APIKey.objects.get(name="ci")
    assert (key.source, doors_of(key)) == ("config", opens(secret))
    assert answer["keys"] == []
    assert secret not in str(answer)


def test_a_made_secret_is_shown_once(apply: Apply, tenant: Tenant) -> None:
    text = one("ci", more=", made: true")
    (made,) = apply(text)["keys"]
    assert (made["tenant"], made["name"]) == ("acme", "ci")
    assert doors_of(APIKey.objects.get(name="ci")) == opens(made["key"])
    assert apply(text)["keys"] == []
    assert doors_of(APIKey.objects.get(name="ci")) == opens(made["key"])


def test_fields_change_with_the_file(apply: Apply, tenant: Tenant) -> None:
    secret = fresh()
    apply(one("ci", secret, ", rate_limit_rpm: 5, is_active: false"))
    assert APIKey.objects.get(name="ci").is_active is False
    apply(one("ci", secret, ", rate_limit_rpm: 6, is_active: true"))
    key = APIKey.objects.get(name="ci")
    assert (key.rate_limit_rpm, key.is_active, doors_of(key)) == (6, True, opens(secret))


def test_another_secret_in_the_file_is_a_rotation_without_grace(
    apply: Apply, tenant: Tenant
) -> None:
    first, second = fresh(), fresh()
    apply(one("ci", first))
    id_ = APIKey.objects.get(name="ci").id
    answer = apply(one("ci", second))
    assert answer["changes"][0]["changes"] == {"secret": {"from": "***", "to": "***"}}
    key = APIKey.objects.get(name="ci")
    assert (key.id, doors_of(key)) == (id_, opens(second))


def test_nobody_else_changes_a_key_of_the_file(apply: Apply, api: Api, tenant: Tenant) -> None:
    apply(one("ci", fresh()))
    key = APIKey.objects.get(name="ci")
    for answer in (
        api.patch(f"keys/{key.id}", {"name": "other"}),
        api.post(f"keys/{key.id}/rotate", {}),
        api.delete(f"tenants/{tenant.id}/api-keys/{key.id}?permanent=true"),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "managed_by_config")


def test_a_revoked_key_stays_revoked_whatever_the_file_says(
    apply: Apply, api: Api, tenant: Tenant
) -> None:
    secret = fresh()
    apply(one("ci", secret))
    key = APIKey.objects.get(name="ci")
    assert api.post(f"keys/{key.id}/revoke", {"reason": "leaked"}).status_code == 200
    for text in (
        one("ci", secret),
        one("ci", fresh(), ", rate_limit_rpm: 1"),
        one("ci", more=", made: true"),
    ):
        answer = apply(text)
        assert (answer["changes"], answer["keys"]) == ([], [])
        assert "revoked" in answer["warnings"][0]
    key.refresh_from_db()
    assert key.revoked_at is not None
    assert doors_of(key) == opens(secret)
    assert APIKey.objects.count() == 1


def test_the_secret_of_a_revoked_key_does_not_come_back_under_another_name(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    secret = fresh()
    apply(one("ci", secret))
    revoke_key(actor=staging, key_id=APIKey.objects.get().id)
    path, sentence = only_fault(api.post("config/apply", {"document": one("other", secret)}))
    assert (path, "another key" in sentence) == ("tenants[0].keys[0].secret", True)


def test_a_pruned_file_keeps_revoked_keys_in_mind(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    secret = fresh()
    apply(one("ci", secret))
    revoke_key(actor=staging, key_id=APIKey.objects.get().id)
    assert apply("tenants: [{slug: acme}]", prune=True)["changes"] == []
    assert apply(one("ci", secret))["changes"] == []
    assert APIKey.objects.get().revoked_at is not None


def test_two_keys_cannot_have_one_secret(
    api: Api, tenant: Tenant, outsider: Tenant, key: Issued
) -> None:
    secret = fresh()
    both = f"tenants: [{{slug: acme, keys: [{{name: a, secret: {secret}}}, {{name: b, secret: {secret}}}]}}]"
    assert only_fault(api.post("config/plan", {"document": both}))[0] == "tenants[0].keys[1].secret"
    taken = key.credential.reveal().decode()
    text = f"tenants: [{{slug: outsider, keys: [{{name: a, secret: {taken}}}]}}]"
    path, sentence = only_fault(api.post("config/plan", {"document": text}))
    assert path == "tenants[0].keys[0].secret"
    assert taken not in sentence


@pytest.mark.parametrize(
    "more",
    [
        "secret: gwk_short",
        "secret: sk-0123456789012345678901234567890123456789",
        f"secret: {tokens.generate(tokens.Kind.MASTER_KEY).reveal().decode()}",
        "secret: 5",
        "secret: null",
        "made: true, secret: {env: X}",
        "made: maybe",
    ],
)
def test_a_secret_that_is_none_is_refused(api: Api, tenant: Tenant, more: str) -> None:
    answer = api.post(
        "config/plan", {"document": f"tenants: [{{slug: acme, keys: [{{name: a, {more}}}]}}]"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["faults"][0]["path"].startswith("tenants[0].keys[0].")
    assert "gwk_short" not in answer.content.decode()


def test_a_key_of_somebody_else_is_adopted_with_its_secret(
    apply: Apply, api: Api, tenant: Tenant, key: Issued
) -> None:
    before = doors_of(key.key)
    answer = apply(one("first"))
    assert [it["name"] for it in answer["adopted"] if it["kind"] == "key"] == ["first"]
    key.key.refresh_from_db()
    assert (key.key.source, doors_of(key.key)) == ("config", before)
    assert api.post(f"keys/{key.key.id}/rotate", {}).status_code == 409


def test_of_keys_with_one_name_the_files_own_is_meant(
    apply: Apply, tenant: Tenant, staging: Actor
) -> None:
    apply(one("ci", fresh()))
    issue_key(actor=staging, tenant_id=tenant.id, name="ci")
    answer = apply(one("ci", more=", rate_limit_rpm: 3"))
    assert [it["action"] for it in answer["changes"]] == ["update"]
    assert APIKey.objects.get(rate_limit_rpm=3).source == "config"


def test_a_team_is_given_once(apply: Apply, api: Api, tenant: Tenant) -> None:
    apply(one("ci", fresh(), ", team: core"))
    answer = api.post("config/plan", {"document": one("ci", more=", team: other")})
    assert only_fault(answer) == ("tenants[0].keys[0].team", "cannot be changed.")


def test_project_and_account_are_named_by_their_names(apply: Apply, tenant: Tenant) -> None:
    text = textwrap.dedent(
        """
        tenants:
          - slug: acme
            projects: [{name: Web}]
            accounts: [{username: bob}]
            keys: [{name: ci, made: true, project: web, account: bob}]
        """
    )
    apply(text)
    key = APIKey.objects.get()
    assert (str(key.project), str(key.account)) == ("Web", "bob")
    assert apply(text)["is_empty"]
    apply(text.replace("project: web", "project: null"))
    assert APIKey.objects.get().project is None
