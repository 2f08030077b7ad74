"""A rollback brings back what the last revision changed, as it was, and nothing that was spent, logged or revoked."""

from datetime import UTC, datetime

import pytest

from keys.models import APIKey
from keys.services import Issued, issue_key, revoke_key
from providers import credentials
from providers.model_services import create_model, update_model
from providers.models import Model, Provider
from providers.services import rotate_credential
from tenants.actor import Actor
from tenants.models import Account, AuditEvent, ConfigRevision, Project, Tenant
from tenants.services import delete_tenant, update_tenant
from tests.cast import Api
from tests.gateway.config_file.conftest import Apply
from tests.gateway.config_file.state import configured
from tests.gateway.config_file.test_apply import WHOLE
from usage.balance_services import top_up

OTHER = """\
prune: true
providers:
  - {name: main, kind: openai, api_key: sk-next-0123456789, max_concurrency: null}
  - {name: third, kind: openai, tenants: [acme, new]}
models:
  - id: fast
    context_window: null
    targets: [{provider: third, upstream_model: z}]
    prices: [{input_usd_per_mtok: "9", output_usd_per_mtok: "9"}]
tenants:
  - {slug: new, name: New, keys: [{name: k, made: true}]}
  - slug: acme
    name: Acme 2
    provider_config: {provider: openai, api_key: sk-changed-0123456789}
    accounts: []
    models: [{id: ours, is_active: false, targets: []}]
    keys: [{name: ci, rate_limit_rpm: 1, expires_at: 2040-01-01T00:00:00Z}]
"""


def test_everything_is_again_as_it_was_credentials_included(apply: Apply, api: Api) -> None:
    apply(WHOLE)
    before = configured()
    apply(OTHER)
    assert configured() != before
    answer = api.post("config/rollback", {})
    assert answer.status_code == 200, answer.content
    assert answer.json() == {
        "object": "config_rolled_back",
        "rolled_back": 2,
        "revision": 1,
        "warnings": [],
    }
    assert configured() == before


def test_what_a_revision_made_is_gone_and_it_can_be_applied_again(apply: Apply, api: Api) -> None:
    before = configured()
    apply(WHOLE)
    api.post("config/rollback", {})
    assert configured() == before
    assert apply(WHOLE)["revision"] == 2


def test_revisions_are_taken_back_one_after_the_other(apply: Apply, api: Api) -> None:
    states = []
    for rate in (1, 2, 3):
        states.append(configured())
        apply(f"tenants: [{{slug: acme, name: Acme, rate_limit_rpm: {rate}}}]")
    for number in (3, 2, 1):
        assert api.post("config/rollback", {"revision": number}).json()["rolled_back"] == number
        assert configured() == states.pop()
    answer = api.post("config/rollback", {})
    assert answer.status_code == 404


def test_a_rollback_is_one_row_and_a_refused_one_as_well(apply: Apply, api: Api) -> None:
    apply("tenants: [{slug: acme, name: Acme}]")
    rows = AuditEvent.objects.count()
    answer = api.post("config/rollback", {"revision": 7})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "stale")
    api.post("config/rollback", {"revision": 1})
    refused, done = AuditEvent.objects.order_by("created_at", "seq")[rows:]
    assert (refused.action, refused.outcome) == ("config.rolled_back", "refused")
    assert (done.action, done.outcome, done.details["revision"]) == ("config.rolled_back", "ok", 1)


@pytest.mark.parametrize("revision", [True, "1", 1.0, -1])
def test_a_revision_is_named_by_its_number(apply: Apply, api: Api, revision: object) -> None:
    apply("tenants: [{slug: acme, name: Acme}]")
    assert api.post("config/rollback", {"revision": revision}).status_code in (400, 409)
    assert Tenant.objects.filter(slug="acme").exists()


def test_only_what_the_revision_changed_goes_back(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    apply("tenants: [{slug: acme, rate_limit_rpm: 1}]")
    update_tenant(actor=staging, tenant_id=tenant.id, burst=9, rate_limit_rpm=77)
    api.post("config/rollback", {})
    tenant.refresh_from_db()
    assert (tenant.rate_limit_rpm, tenant.burst) == (120, 9)


def test_a_revoked_key_stays_revoked(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    apply("tenants: [{slug: acme, keys: [{name: ci, made: true}]}]")
    revoke_key(actor=staging, key_id=APIKey.objects.get().id)
    answer = api.post("config/rollback", {})
    assert "revoked" in answer.json()["warnings"][0]
    assert APIKey.objects.get().revoked_at is not None
    assert apply("tenants: [{slug: acme, keys: [{name: ci, made: true}]}]")["keys"] == []


def test_a_tenant_with_a_revoked_key_stays_and_stops(
    apply: Apply, api: Api, staging: Actor
) -> None:
    apply("tenants: [{slug: acme, name: Acme, keys: [{name: ci, made: true}]}]")
    revoke_key(actor=staging, key_id=APIKey.objects.get().id)
    assert len(api.post("config/rollback", {}).json()["warnings"]) == 2
    assert Tenant.objects.get(slug="acme").status == "inactive"


def test_a_key_that_was_adopted_is_its_makers_again(apply: Apply, api: Api, key: Issued) -> None:
    before = configured()
    apply("tenants: [{slug: acme, keys: [{name: first}]}]")
    assert api.patch(f"keys/{key.key.id}", {"burst": 1}).status_code == 409
    api.post("config/rollback", {})
    assert configured() == before
    assert api.patch(f"keys/{key.key.id}", {"burst": 1}).status_code == 200


def test_targets_that_were_changed_by_hand_since_make_way(
    apply: Apply, api: Api, staging: Actor
) -> None:
    text = "{providers: [{name: p, kind: openai}], models: [{id: m, targets: [{provider: p, upstream_model: %s}]}]}"
    apply(text % "a")
    before = configured()
    apply(text % "b")
    for upstream in ("a", "c"):
        model = Model.objects.get()
        targets = [{"provider": "p", "upstream_model": upstream}]
        update_model(actor=staging, model_id=model.id, targets=targets)
    assert api.post("config/rollback", {}).status_code == 200
    assert configured() == before


def test_the_time_of_last_use_does_not_go_back(apply: Apply, api: Api, tenant: Tenant) -> None:
    apply("tenants: [{slug: acme, keys: [{name: ci, made: true}]}]")
    apply("tenants: [{slug: acme, keys: [{name: ci, rate_limit_rpm: 1}]}]")
    used = datetime(2026, 11, 1, tzinfo=UTC)
    APIKey.objects.update(last_used_at=used)
    api.post("config/rollback", {})
    key = APIKey.objects.get()
    assert (key.last_used_at, key.rate_limit_rpm) == (used, None)


def test_an_account_that_was_paid_into_is_closed_and_not_gone(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    apply("tenants: [{slug: acme, accounts: [{username: bob}]}]")
    top_up(actor=staging, account_id=Account.objects.get().id, amount_usd="5")
    assert "books" in api.post("config/rollback", {}).json()["warnings"][0]
    account = Account.objects.get()
    assert (account.is_active, account.deleted_at is not None) == (False, True)


def test_what_others_have_come_to_rest_on_is_not_pulled_away(
    apply: Apply, api: Api, tenant: Tenant, staging: Actor
) -> None:
    apply(
        """
        providers: [{name: p, kind: openai}]
        tenants: [{slug: acme, projects: [{name: web}]}, {slug: new, name: New}]
        """
    )

    def blocked() -> bool:
        before = configured()
        answer = api.post("config/rollback", {})
        assert configured() == before
        code: str = answer.json()["error"]["code"]
        return (answer.status_code, code) == (409, "rollback_blocked")

    model = create_model(actor=staging, id="m", targets=[{"provider": "p", "upstream_model": "x"}])
    assert blocked()
    model.delete()
    project = Project.objects.get()
    key = issue_key(actor=staging, tenant_id=tenant.id, name="k", project=str(project.id)).key
    assert blocked()
    key.delete()
    key = issue_key(actor=staging, tenant_id=Tenant.objects.get(slug="new").id, name="k").key
    assert blocked()
    key.delete()
    assert api.post("config/rollback", {}).status_code == 200


def test_what_is_gone_meanwhile_is_told_and_the_rest_goes_back(
    apply: Apply, api: Api, tenant: Tenant, outsider: Tenant, staging: Actor
) -> None:
    apply("tenants: [{slug: acme, burst: 1}, {slug: outsider, burst: 2}]")
    delete_tenant(actor=staging, tenant_id=tenant.id)
    answer = api.post("config/rollback", {})
    assert "gone" in answer.json()["warnings"][0]
    outsider.refresh_from_db()
    assert outsider.burst is None


def test_a_credential_that_was_replaced_opens_again(apply: Apply, api: Api, staging: Actor) -> None:
    text = "providers: [{name: p, kind: openai, api_key: %s}]"
    apply(text % "sk-first-0123456789")
    apply(text % "sk-second-0123456789")
    provider = Provider.objects.get()
    rotate_credential(actor=staging, provider_id=provider.id, api_key="sk-by-hand-0123456789")
    assert api.post("config/rollback", {}).status_code == 200
    stored = credentials.current(provider)
    assert stored is not None
    assert (
        credentials.open_sealed(credentials.sealed(stored, provider)).reveal()
        == b"sk-first-0123456789"
    )


def test_old_revisions_keep_no_credential(apply: Apply, api: Api) -> None:
    for n in range(22):
        apply(f"providers: [{{name: p, kind: openai, api_key: sk-number-{n}-0123456789}}]")
    kept = ConfigRevision.objects.filter(undo__isnull=False).count()
    assert kept == 20
    for _ in range(20):
        assert api.post("config/rollback", {}).status_code == 200
    answer = api.post("config/rollback", {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "rollback_blocked")
