"""A file is planned and applied: as one transaction, by the rules of the admin API, with one row in the audit log."""

import json
from typing import Any
from uuid import uuid4

import pytest

from keys.services import Issued
from providers import credentials
from providers.models import Model, Provider
from tenants import audit, changes
from tenants.actor import Actor
from tenants.models import Account, AuditEvent, ConfigChange, ConfigRevision, Project, Tenant
from tenants.services import create_tenant, update_tenant
from tests.cast import Api
from tests.gateway.config_file.conftest import Apply
from tests.support.contents import contents
from tests.support.threads import at_once

WHOLE = """\
version: 1
providers:
  - name: main
    kind: openai
    api_key: sk-first-0123456789
    max_concurrency: 40
  - name: reserve
    kind: openai
    api_key: sk-other-0123456789
    tenants: [acme]
models:
  - id: fast
    context_window: 128000
    targets:
      - {provider: main, upstream_model: fast-1}
      - {provider: reserve, upstream_model: fast-1, priority: 1}
    prices:
      - {input_usd_per_mtok: "2.50", output_usd_per_mtok: "10"}
prices:
  - {model: fast, tenant: acme, input_usd_per_mtok: "2", output_usd_per_mtok: "8"}
tenants:
  - slug: acme
    name: Acme
    rate_limit_rpm: 600
    projects:
      - {name: Web, cost_budget_usd: "50"}
    accounts:
      - {username: billing, email: billing@example.org}
    providers:
      - {name: own, kind: openai, api_key: sk-own-0123456789}
    provider_config: {provider: openai, api_key: sk-default-0123456789}
    models:
      - id: ours
        targets: [{provider: own, upstream_model: x}]
    keys:
      - {name: ci, made: true, project: Web, account: billing, rate_limit_rpm: 60, scopes: [inference]}
"""


def clear(provider: Provider) -> str:
    stored = credentials.current(provider)
    assert stored is not None
    return credentials.open_sealed(credentials.sealed(stored, provider)).reveal().decode()


def test_everything_that_a_file_names_is_made(apply: Apply) -> None:
    answer = apply(WHOLE)
    assert answer["counts"]["create"] == 10
    assert (answer["revision"], answer["is_new"]) == (1, True)
    acme = Tenant.objects.get(slug="acme")
    assert acme.rate_limit_rpm == 600
    assert Project.objects.get(tenant=acme).cost_budget_usd == "50"
    assert Account.objects.get(tenant=acme).email == "billing@example.org"
    main, reserve = Provider.objects.get(name="main"), Provider.objects.get(name="reserve")
    assert (clear(main), main.max_concurrency) == ("sk-first-0123456789", 40)
    assert [tenant.slug for tenant in reserve.granted.all()] == ["acme"]
    assert clear(Provider.objects.get(is_tenant_default=True)) == "sk-default-0123456789"
    fast = Model.objects.get(name="fast")
    assert [it.provider for it in fast.targets.order_by("priority")] == [main, reserve]
    assert {(it.tenant, it.output_nano_per_mtok) for it in fast.prices.all()} == {
        (None, 10 * 10**9),
        (acme, 8 * 10**9),
    }
    (key,) = acme.api_keys.all()
    assert (key.source, key.scopes, key.rate_limit_rpm) == ("config", ["inference"], 60)
    assert (str(key.project), str(key.account)) == ("Web", "billing")


def test_a_plan_says_the_same_and_changes_nothing(plan: Apply, apply: Apply) -> None:
    before = contents()
    planned = plan(WHOLE)
    assert contents() == before
    applied = apply(WHOLE)
    assert planned["changes"] == applied["changes"]
    assert [(it["action"], it["kind"], it["tenant"], it["name"]) for it in planned["changes"]] == [
        ("create", "tenant", None, "acme"),
        ("create", "project", "acme", "Web"),
        ("create", "account", "acme", "billing"),
        ("create", "provider", None, "main"),
        ("create", "provider", None, "reserve"),
        ("create", "provider", "acme", "own"),
        ("create", "provider_config", "acme", "own"),
        ("create", "model", None, "fast"),
        ("create", "model", "acme", "ours"),
        ("create", "key", "acme", "ci"),
    ]


def test_the_second_time_there_is_nothing_to_do(apply: Apply) -> None:
    apply(WHOLE)
    before = contents()
    answer = apply(WHOLE)
    assert (answer["is_empty"], answer["is_new"], answer["changes"]) == (True, False, [])
    assert contents() == before


def test_what_is_absent_is_untouched_and_null_clears(apply: Apply) -> None:
    apply(WHOLE)
    answer = apply(
        """
        tenants:
          - slug: acme
            rate_limit_rpm: null
        """
    )
    assert answer["changes"] == [
        {
            "action": "update",
            "kind": "tenant",
            "tenant": None,
            "name": "acme",
            "changes": {"rate_limit_rpm": {"from": 600, "to": None}},
        }
    ]
    acme = Tenant.objects.get(slug="acme")
    assert (acme.rate_limit_rpm, acme.name) == (None, "Acme")


def test_what_the_file_names_no_more_is_reported_until_it_is_pruned(apply: Apply) -> None:
    apply(WHOLE)
    smaller = WHOLE.partition("    keys:\n")[0].replace(
        '    projects:\n      - {name: Web, cost_budget_usd: "50"}\n', ""
    )
    for _ in range(2):
        answer = apply(smaller)
        assert [(it["kind"], it["name"]) for it in answer["orphans"]] == [
            ("key", "ci"),
            ("project", "Web"),
        ]
        assert len(answer["warnings"]) == 2
        assert answer["is_empty"]
    assert Project.objects.exists()
    pruned = apply(smaller, prune=True)
    assert [(it["action"], it["kind"]) for it in pruned["changes"]] == [
        ("delete", "key"),
        ("delete", "project"),
    ]
    assert not Project.objects.exists()
    assert apply(smaller)["orphans"] == []


def test_what_is_still_in_use_is_not_pruned(apply: Apply, api: Api) -> None:
    apply(
        "{providers: [{name: p, kind: demo}], models: [{id: m, targets: [{provider: p, upstream_model: x}]}]}"
    )
    answer = api.post("config/apply", {"document": "models: [{id: m}]", "prune": True})
    assert answer.status_code == 400
    assert "The provider p cannot be pruned" in answer.json()["error"]["message"]
    assert apply("models: [{id: m, targets: []}]", prune=True)["counts"]["delete"] == 1


def test_a_file_can_say_itself_that_it_prunes(apply: Apply) -> None:
    apply("tenants: [{slug: acme, name: Acme, projects: [{name: a}]}]")
    apply("prune: true\ntenants: [{slug: acme}]")
    assert not Project.objects.exists()


def test_a_tenant_that_is_pruned_stops_and_stays(apply: Apply) -> None:
    apply("tenants: [{slug: acme, name: Acme}]")
    answer = apply("tenants: []", prune=True)
    assert answer["changes"][0]["changes"] == {"status": {"from": "active", "to": "inactive"}}
    assert Tenant.objects.get(slug="acme").status == "inactive"
    assert apply("tenants: []")["orphans"] == []


def test_what_was_there_before_is_adopted_and_nothing_else_is_touched(
    apply: Apply, tenant: Tenant, outsider: Tenant, key: Issued
) -> None:
    answer = apply("tenants: [{slug: acme, keys: [{name: first, rate_limit_rpm: 9}]}]")
    assert [(it["kind"], it["name"]) for it in answer["adopted"]] == [
        ("tenant", "acme"),
        ("key", "first"),
    ]
    key.key.refresh_from_db()
    assert (key.key.source, key.key.rate_limit_rpm) == ("config", 9)
    answer = apply("tenants: []", prune=True)
    assert {(it["kind"], it["name"]) for it in answer["changes"]} == {
        ("key", "first"),
        ("tenant", "acme"),
    }
    outsider.refresh_from_db()
    assert outsider.status == "active"


# --- faults -----------------------------------------------------------------------------------------------------------


FAULTS = {
    "unknown: 1": ("unknown", 1, "not a section"),
    "version: 2": ("version", 1, "must be 1"),
    "- 1": ("document", 1, "mapping"),
    "tenants: 1": ("tenants", 1, "list"),
    "tenants: [1]": ("tenants[0]", 1, "mapping"),
    "tenants:\n  - name: x": ("tenants[0]", 2, "needs its slug"),
    "tenants:\n  - slug: a\n    slgu: b": ("tenants[0].slgu", 3, "not a field"),
    "tenants:\n  - slug: a\n    name: A\n    rate_limit_rpm: 0": (
        "tenants[0].rate_limit_rpm",
        4,
        "between 1",
    ),
    "tenants:\n  - slug: a\n    name: A\n    rate_limit_rpm: 1e3": (
        "tenants[0].rate_limit_rpm",
        4,
        "integer",
    ),
    "tenants:\n  - slug: a\n    name: A\n    rate_limit_rpm: 10.0": (
        "tenants[0].rate_limit_rpm",
        4,
        "integer",
    ),
    "tenants:\n  - slug: a\n    name: A\n    rate_limit_rpm: '10'": (
        "tenants[0].rate_limit_rpm",
        4,
        "integer",
    ),
    "tenants:\n  - slug: a\n    name: A\n    content_logging: 1": (
        "tenants[0].content_logging",
        4,
        "true or false",
    ),
    "tenants:\n  - slug: a\n    name: A\n    cost_budget_usd: 1.5": (
        "tenants[0].cost_budget_usd",
        4,
        "decimal",
    ),
    "tenants:\n  - slug: a\n    name: A\n    allowed_models: []": (
        "tenants[0].allowed_models",
        4,
        "1 to 64",
    ),
    "tenants:\n  - slug: a\n    name: 5": ("tenants[0].name", 3, "text"),
    "tenants:\n  - slug: a\n": ("tenants[0].name", 2, "text"),
    "tenants:\n  - {slug: a, name: A}\n  - {slug: a, name: B}": ("tenants[1].slug", 3, "before"),
    "tenants:\n  - slug: a\n    name: A\n    keys:\n      - {name: k}": (
        "tenants[0].keys[0]",
        5,
        "needs its secret",
    ),
    "tenants:\n  - slug: a\n    name: A\n    keys:\n      - {name: k, secret: gwk_x}": (
        "tenants[0].keys[0].secret",
        5,
        "our form",
    ),
    "tenants:\n  - slug: a\n    name: A\n    keys:\n      - {name: k, made: true, project: p}": (
        "tenants[0].keys[0].project",
        5,
        "no project of this tenant",
    ),
    "tenants:\n  - slug: a\n    name: A\n    keys:\n      - {name: k, made: true, source: admin}": (
        "tenants[0].keys[0].source",
        5,
        "not a field",
    ),
    "providers:\n  - {name: p, kind: nobody}": ("providers[0].kind", 2, "one of"),
    "providers:\n  - {name: p, kind: openai, base_url: 'http://169.254.169.254/'}": (
        "providers[0].base_url",
        2,
        "",
    ),
    "providers:\n  - {name: p, kind: openai, api_key: {env: HOME}}": (
        "providers[0].api_key",
        2,
        "for the command",
    ),
    "providers:\n  - {name: p, kind: openai, api_key: {file: /etc/passwd}}": (
        "providers[0].api_key",
        2,
        "for the command",
    ),
    "providers:\n  - {name: p, kind: openai, api_key: {env: A, file: B}}": (
        "providers[0].api_key",
        2,
        "must be a text",
    ),
    "providers:\n  - {name: p, kind: openai, tenants: [nobody]}": (
        "providers[0].tenants",
        2,
        "tenant",
    ),
    "models:\n  - {id: m, targets: [{provider: nobody, upstream_model: x}]}": (
        "models[0].targets",
        2,
        "no provider",
    ),
    "models:\n  - {id: m, prices: [{input_usd_per_mtok: 2.5}]}": (
        "models[0].prices[0].input_usd_per_mtok",
        2,
        "decimal",
    ),
    "prices:\n  - {model: nobody, input_usd_per_mtok: '1', output_usd_per_mtok: '1'}": (
        "prices[0]",
        2,
        "no model",
    ),
    "prices:\n  - {input_usd_per_mtok: '1', output_usd_per_mtok: '1'}": (
        "prices[0]",
        2,
        "needs its model",
    ),
    "models:\n  - id: m\n    targets:\n      - {provider: p, upstream_model: x}\n      - {provider: p, weight: 1}": (
        "models[0].targets[1]",
        5,
        "provider and upstream_model",
    ),
    "models:\n  - {id: m, targets: [{provider: p, upstream_model: x, priority: -1}]}": (
        "models[0].targets[0].priority",
        2,
        "between",
    ),
    "prices:\n  - {model: m, input_usd_per_mtok: '1'}": ("prices[0]", 2, "must be given"),
    "a: yes": ("a", 1, "true or false"),
}


@pytest.mark.parametrize(
    "text", FAULTS, ids=lambda text: FAULTS[text][0] + "-" + FAULTS[text][2][:12]
)
def test_a_bad_file_is_refused_with_path_and_line_and_nothing_happens(api: Api, text: str) -> None:
    path, line, said = FAULTS[text]
    before = contents()
    planned = api.post("config/plan", {"document": text})
    assert contents() == before
    applied = api.post("config/apply", {"document": text})
    for answer in (planned, applied):
        assert answer.status_code == 400, answer.content
        error = answer.json()["error"]
        assert error["code"] == "invalid_request"
        (fault,) = error["faults"]
        assert (fault["path"] or "document", fault["line"]) == (path, line)
        assert said in fault["message"]
        assert f"line {line}" in error["fields"][path]
    assert not ConfigRevision.objects.exists()


def test_all_faults_of_a_file_are_told_at_once(api: Api) -> None:
    text = "tenants:\n  - {slug: a, name: A, burst: 0, nope: 1}\n  - {slug: b, name: B, keys: [{name: k}]}\nmore: 1"
    faults = api.post("config/plan", {"document": text}).json()["error"]["faults"]
    assert {fault["path"] for fault in faults} == {"tenants[0].burst", "tenants[0].nope", "more"}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"document": 1},
        {"document": None},
        {"document": "", "x": 1},
        {"document": "", "prune": 1},
    ],
)
def test_a_body_that_is_none_is_400(api: Api, body: dict[str, Any]) -> None:
    assert api.post("config/apply", body).status_code == 400


def test_a_refusal_in_the_middle_undoes_everything_and_is_one_row(api: Api) -> None:
    text = WHOLE + "      - {name: other, made: true, project: nobody}\n"
    tenants, rows, epoch = Tenant.objects.count(), AuditEvent.objects.count(), changes.epoch()
    answer = api.post("config/apply", {"document": text})
    assert answer.json()["error"]["faults"][0]["path"] == "tenants[0].keys[1].project"
    assert (Tenant.objects.count(), changes.epoch()) == (tenants, epoch)
    row = AuditEvent.objects.order_by("-created_at", "-seq").first()
    assert AuditEvent.objects.count() == rows + 1
    assert row is not None
    assert (row.action, row.outcome, row.scope) == ("config.applied", "refused", "platform")


# --- one decision -----------------------------------------------------------------------------------------------------


def test_an_apply_is_one_row_and_one_advance_of_the_epoch(apply: Apply) -> None:
    rows = AuditEvent.objects.count()
    answer = apply(WHOLE)
    (row,) = AuditEvent.objects.order_by("created_at", "seq")[rows:]
    assert (row.action, row.scope, row.outcome) == ("config.applied", "platform", "ok")
    assert row.details["revision"] == 1
    assert row.details["counts"]["create"] == 10
    assert {part["action"] for part in row.details["parts"]} >= {
        "tenant.created",
        "key.issued",
        "model.created",
    }
    assert "sk-" not in json.dumps(row.details)
    assert answer["keys"][0]["key"] not in json.dumps(row.details)
    seqs = list(ConfigChange.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, len(seqs) + 1))
    assert audit.verify().findings == []


def test_no_secret_is_kept_in_a_revision_or_shown_again(apply: Apply, api: Api) -> None:
    key = apply(WHOLE)["keys"][0]["key"]
    revision = ConfigRevision.objects.get()
    kept = json.dumps(
        [revision.document, revision.changes, revision.undo, revision.owned, revision.counts]
    )
    shown = api.get("config/revisions").content.decode() + api.get("config/export").content.decode()
    for secret in ("sk-first", "sk-own", "sk-default", key):
        assert secret not in kept
        assert secret not in shown
    assert "main" in json.dumps(revision.document)


def test_revisions_are_listed(apply: Apply, api: Api, operator: Any) -> None:
    apply(WHOLE)
    apply("tenants: [{slug: acme, rate_limit_rpm: 5}]")
    listed = api.get("config/revisions").json()["data"]
    assert [(it["revision"], it["actor"]["label"]) for it in listed] == [
        (2, operator.username),
        (1, operator.username),
    ]


def test_who_applies_to_another_state_than_they_saw_is_told_so(apply: Apply, api: Api) -> None:
    apply("tenants: [{slug: acme, name: Acme}]", base_revision=0)
    stale = api.post(
        "config/apply", {"document": "tenants: [{slug: acme, burst: 1}]", "base_revision": 0}
    )
    assert (stale.status_code, stale.json()["error"]["code"]) == (409, "stale")
    assert stale.json()["error"]["revision"] == 1
    apply("tenants: [{slug: acme, burst: 1}]", base_revision=1)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_queue_and_the_second_finds_it_done(api: Api) -> None:
    answers = at_once(*[lambda: api.post("config/apply", {"document": WHOLE}) for _ in range(4)])
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(answer.json()["is_new"] for answer in answers) == [False, False, False, True]
    assert Tenant.objects.filter(slug="acme").count() == 1
    assert Tenant.objects.get(slug="acme").api_keys.count() == 1


# --- prices and targets -----------------------------------------------------------------------------------------------


def test_a_price_is_added_only_when_another_is_in_force(apply: Apply) -> None:
    text = "models: [{id: m, prices: [{input_usd_per_mtok: '%s', output_usd_per_mtok: '2'}]}]"
    apply(text % "1")
    assert apply(text % "1.0")["is_empty"]
    apply(text % "3")
    assert apply(text % "3")["is_empty"]
    assert [
        it.input_nano_per_mtok for it in Model.objects.get().prices.order_by("effective_from")
    ] == [10**9, 3 * 10**9]


def test_a_price_with_a_date_is_never_rewritten(apply: Apply, api: Api) -> None:
    price = (
        "effective_from: 2020-01-01T00:00:00Z, input_usd_per_mtok: '%s', output_usd_per_mtok: '2'"
    )
    text = f"models: [{{id: m, prices: [{{{price}}}]}}]"
    apply(text % "1")
    assert apply(text % "1")["is_empty"]
    assert api.post("config/apply", {"document": text % "3"}).status_code == 400


def test_a_new_host_wants_the_credential_and_the_file_has_it(apply: Apply, api: Api) -> None:
    text = "providers: [{name: p, kind: openai-compatible, base_url: 'https://%s/v1'%s}]"
    apply(text % ("93.184.216.34", ", api_key: sk-first-0123456789"))
    answer = api.post("config/apply", {"document": text % ("93.184.216.35", "")})
    assert answer.json()["error"]["faults"][0]["path"] == "providers[0].api_key"
    apply(text % ("93.184.216.35", ", api_key: sk-first-0123456789"))
    assert clear(Provider.objects.get()) == "sk-first-0123456789"


def test_a_kind_cannot_be_changed(apply: Apply, api: Api) -> None:
    apply("providers: [{name: p, kind: openai}]")
    answer = api.post("config/plan", {"document": "providers: [{name: p, kind: demo}]"})
    assert answer.json()["error"]["faults"][0]["path"] == "providers[0].kind"


def test_a_tenants_own_provider_is_removed_by_null(apply: Apply) -> None:
    apply(WHOLE)
    apply("tenants: [{slug: acme, provider_config: null}]")
    assert not Provider.objects.filter(is_tenant_default=True).exists()
    assert apply("tenants: [{slug: acme, provider_config: null}]")["is_empty"]


# --- what is there now ------------------------------------------------------------------------------------------------


def test_what_is_shown_changes_nothing_when_it_is_applied(
    apply: Apply, plan: Apply, api: Api
) -> None:
    apply(WHOLE)
    shown = api.get("config/export").json()["document"]
    assert plan(shown)["changes"] == []
    assert apply(shown)["changes"] == []
    assert not apply(shown)["is_new"]


def test_together_a_refused_part_that_is_caught_leaves_nothing_of_itself(
    staging: Actor, tenant: Tenant
) -> None:
    target = audit.Target("config", str(uuid4()))
    before = AuditEvent.objects.count()
    with changes.together(staging, "config.applied", target):
        update_tenant(actor=staging, tenant_id=tenant.id, burst=5)
        with pytest.raises(Exception, match="taken"):
            create_tenant(actor=staging, name="Again", slug="acme")
    (row,) = AuditEvent.objects.order_by("created_at", "seq")[before:]
    assert [part["action"] for part in row.details["parts"]] == ["tenant.updated"]
