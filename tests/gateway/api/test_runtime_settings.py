"""Runtime settings: what is decided while the house runs, by whom, and what the environment has decided already."""

import pytest
from django.conf import settings as django_settings

from tenants import setting_services
from tenants.models import AuditEvent, ConfigChange, Setting

FIELDS = {"object", "name", "value", "source", "locked", "variable", "applies", "description"}


@pytest.fixture
def free(settings):
    """An environment that says nothing about them, whatever the machine's says."""
    settings.SET_BY_ENVIRONMENT = frozenset()
    settings.RETENTION_DAYS, settings.AUDIT_RETENTION_DAYS = 90, 0
    settings.CONTENT_LOGGING = True
    return settings


def by_name(answer) -> dict[str, dict]:
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["object"], body["has_more"], body["next_cursor"]) == ("list", False, None)
    assert body["total"] == len(body["data"])
    assert all(set(each) == FIELDS for each in body["data"])
    return {each["name"]: each for each in body["data"]}


def test_every_setting_is_listed_with_what_it_is_and_why(api, free):
    found = by_name(api.get("settings"))
    assert list(found) == list(setting_services.KNOWN)
    assert found["log_retention_days"]["value"] == 90
    assert found["audit_retention_days"]["value"] is None
    assert found["content_logging"]["value"] is True
    assert {each["source"] for each in found.values()} == {"default"}
    locked = {name for name, each in found.items() if each["locked"]}
    assert locked == {"timeout_head", "timeout_body_idle", "timeout_drain"}
    assert all(found[name]["applies"] == "with a restart" for name in locked)


def test_what_is_changed_stays_and_is_one_row_of_the_audit_log(api, free):
    epoch = ConfigChange.objects.count()
    answer = api.patch("settings", {"log_retention_days": 30, "audit_retention_days": 365})
    found = by_name(answer)
    assert found == by_name(api.get("settings"))
    assert found["log_retention_days"]["value"] == 30
    assert found["log_retention_days"]["source"] == "stored"
    assert found["session_retention_days"]["source"] == "default"
    row = AuditEvent.objects.get(action="settings.changed")
    assert row.details == {
        "log_retention_days": {"from": 90, "to": 30},
        "audit_retention_days": {"from": None, "to": 365},
    }
    assert ConfigChange.objects.count() == epoch + 2


def test_null_is_for_ever_where_that_can_be(api, free):
    api.patch("settings", {"log_retention_days": 7})
    assert (
        by_name(api.patch("settings", {"log_retention_days": None}))["log_retention_days"]["value"]
        is None
    )
    assert api.patch("settings", {"session_retention_days": None}).status_code == 400


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"log_retention_days": 0},
        {"log_retention_days": -1},
        {"log_retention_days": 1.5},
        {"log_retention_days": 10.0},
        {"log_retention_days": True},
        {"log_retention_days": "90"},
        {"log_retention_days": 3651},
        {"content_logging": 1},
        {"content_logging": None},
        {"timeout_total": None},
        {"timeout_total": 0},
        {"timeout_total": 86_401},
        {"public_signup": True},
        {"public_signup": None},
        {"unknown": 1},
        {"log_retention_days": 30, "unknown": 1},
        [],
        "x",
    ],
)
def test_what_means_nothing_is_refused_and_changes_nothing(api, free, values):
    before = by_name(api.get("settings"))
    answer = api.patch("settings", values)
    assert answer.status_code == 400, answer.content
    assert by_name(api.get("settings")) == before
    assert not Setting.objects.exists()


def test_all_faults_are_told_at_once(api, free):
    answer = api.patch("settings", {"log_retention_days": 0, "content_logging": 1, "x": 1})
    assert set(answer.json()["error"]["fields"]) == {"log_retention_days", "content_logging", "x"}


def test_what_the_environment_says_is_locked_and_says_so(api, free):
    api.patch("settings", {"log_retention_days": 30})
    free.SET_BY_ENVIRONMENT = frozenset({"GATEHOUSE_RETENTION_DAYS"})
    free.RETENTION_DAYS = 400
    found = by_name(api.get("settings"))["log_retention_days"]
    assert (found["value"], found["source"], found["locked"]) == (400, "environment", True)
    answer = api.patch("settings", {"log_retention_days": 31, "content_logging": False})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert error["code"] == "managed_by_environment"
    assert "GATEHOUSE_RETENTION_DAYS" in error["fields"]["log_retention_days"]
    assert setting_services.value_of("content_logging") is True
    assert api.patch("settings", {"timeout_drain": 5}).status_code == 409


def test_nought_in_the_environment_is_for_ever(api, free):
    free.RETENTION_DAYS = 0
    assert by_name(api.get("settings"))["log_retention_days"]["value"] is None


def test_the_same_value_again_changes_nothing(api, free):
    api.patch("settings", {"log_retention_days": 30})
    epoch = ConfigChange.objects.count()
    assert api.patch("settings", {"log_retention_days": 30}).status_code == 200
    assert ConfigChange.objects.count() == epoch


def test_a_variable_that_locks_is_one_that_the_settings_know():
    known = {it.variable for it in setting_services.KNOWN.values() if it.variable}
    assert known >= django_settings.SET_BY_ENVIRONMENT
