"""`/v1/projects`: a key with the scope manages the projects of its tenant, and of nobody else."""

from uuid import uuid4

import pytest

from keys.models import APIKey
from tenants.models import AuditEvent, Project
from tests.gateway.views.managing import code_of, holder_of, key_of


def test_a_project_is_made_found_and_deleted_and_its_keys_stay(tenant):
    manager = key_of(tenant)
    holder = holder_of(manager)
    made = holder.post("projects", {"name": "Web", "cost_budget_usd": "25", "rate_limit_rpm": 9})
    assert made.status_code == 201
    body = made.json()
    assert (body["object"], body["tenant"]) == ("project", str(tenant.id))
    assert (body["name"], body["cost_budget_usd"], body["rate_limit_rpm"]) == ("Web", "25", 9)
    assert holder.get(f"projects/{body['id']}").json() == body
    assert holder.get("projects").json()["data"] == [body]
    assert code_of(holder.post("projects", {"name": "web"})) == (409, "conflict")
    inside = holder.post("keys", {"name": "inside", "project": body["id"]}).json()
    assert inside["project"] == body["id"]
    assert holder.delete(f"projects/{body['id']}").status_code == 204
    assert code_of(holder.get(f"projects/{body['id']}")) == (404, "not_found")
    assert code_of(holder.delete(f"projects/{body['id']}")) == (404, "not_found")
    assert holder.get(f"keys/{inside['id']}").json()["project"] is None
    rows = AuditEvent.objects.filter(action__startswith="project.", actor_id=str(manager.key.id))
    assert [(row.action, row.outcome, row.scope) for row in rows.order_by("seq")] == [
        ("project.created", "ok", str(tenant.id)),
        ("project.created", "refused", str(tenant.id)),
        ("project.deleted", "ok", str(tenant.id)),
        ("project.deleted", "refused", str(tenant.id)),
    ]


def test_another_tenants_project_is_not_there(tenant, outsider):
    theirs = Project.objects.create(tenant=outsider, name="Theirs")
    holder = holder_of(key_of(tenant))
    assert holder.get("projects").json()["data"] == []
    for method in ("GET", "DELETE"):
        answers = [holder.call(method, f"projects/{it}") for it in (theirs.id, uuid4())]
        assert {code_of(answer) for answer in answers} == {(404, "not_found")}
        assert answers[0].content == answers[1].content
    assert code_of(holder.post("keys", {"name": "n", "project": str(theirs.id)}))[0] == 400
    assert Project.objects.filter(pk=theirs.pk).exists()
    assert not AuditEvent.objects.filter(scope=str(outsider.id), outcome="refused").exists()


@pytest.mark.parametrize("scopes", [["inference", "usage", "keys", "mcp"], ["inference"]])
def test_without_the_scope_it_is_403(tenant, scopes):
    holder = holder_of(key_of(tenant, scopes=scopes))
    for method, path in (
        ("GET", "projects"),
        ("POST", "projects"),
        ("DELETE", f"projects/{uuid4()}"),
    ):
        assert code_of(holder.call(method, path, {})) == (403, "scope_missing")


def test_a_key_of_a_project_sees_its_own_and_does_not_get_rid_of_it(tenant):
    web, app = (Project.objects.create(tenant=tenant, name=name) for name in ("Web", "App"))
    holder = holder_of(key_of(tenant, project=str(web.id)))
    assert [row["id"] for row in holder.get("projects").json()["data"]] == [str(web.id)]
    assert code_of(holder.get(f"projects/{app.id}")) == (404, "not_found")
    assert code_of(holder.delete(f"projects/{app.id}")) == (404, "not_found")
    assert code_of(holder.delete(f"projects/{web.id}")) == (403, "grants_exceeded")
    assert code_of(holder.post("projects", {"name": "New"})) == (403, "grants_exceeded")
    assert Project.objects.count() == 2


def test_the_end_of_a_project_sets_no_key_free_to_do_more(tenant):
    """The project's limits are all that holds a key which is wider than the caller's."""
    project = Project.objects.create(tenant=tenant, name="Web", rate_limit_rpm=1)
    held = key_of(tenant, project=str(project.id))
    holder = holder_of(key_of(tenant, rate_limit_rpm=5))
    assert code_of(holder.delete(f"projects/{project.id}")) == (403, "grants_exceeded")
    APIKey.objects.filter(pk=held.key.pk).update(rate_limit_rpm=5)
    assert holder.delete(f"projects/{project.id}").status_code == 204


@pytest.mark.parametrize(
    "body",
    [{}, {"name": ""}, {"name": "x", "rate_limit_rpm": 0.5}, {"name": "x", "tenant": "acme"}],
)
def test_what_cannot_be_is_a_400(tenant, body):
    holder = holder_of(key_of(tenant))
    assert code_of(holder.post("projects", body)) == (400, "invalid_request")
    assert not Project.objects.exists()


def test_a_project_is_not_changed_here(tenant):
    project = Project.objects.create(tenant=tenant, name="Web")
    answer = holder_of(key_of(tenant)).patch(f"projects/{project.id}", {"name": "x"})
    assert code_of(answer) == (405, "method_not_allowed")
