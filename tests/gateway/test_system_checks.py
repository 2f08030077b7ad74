"""What `check` says about settings that are possible and not wise; and that version and package agree."""

import tomllib

import pytest
from django.core.checks import run_checks

from gateway.version import VERSION
from tests.support.environment import ROOT


def ids() -> set[str]:
    found = run_checks(tags=["security"], include_deployment_checks=True)
    return {str(it.id) for it in found if str(it.id).startswith("gatehouse.")}


@pytest.fixture(autouse=True)
def _good(settings, tmp_path):
    settings.VAR = tmp_path
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    settings.WEB_CONCURRENCY = 1


def test_the_settings_of_a_first_run_are_fine():
    assert ids() == set()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ALLOWED_UPSTREAMS", ["bad host"], "gatehouse.E001"),
        ("ALLOWED_HOSTS", ["*"], "gatehouse.E002"),
        ("TRUSTED_PROXIES", ["10.0.0.0/8", "0.0.0.0/0"], "gatehouse.E003"),
        ("TRUSTED_PROXIES", ["::/0"], "gatehouse.E003"),
        ("PUBLIC_URL", "http://gate.example", "gatehouse.W001"),
        ("PUBLIC_URL", "http://192.0.2.1:8000", "gatehouse.W001"),
    ],
)
def test_a_setting_that_is_not_wise_is_named_by_an_id(settings, name, value, expected):
    setattr(settings, name, value)
    assert ids() == {expected}


@pytest.mark.parametrize(
    "url",
    ["https://gate.example", "http://localhost:8000", "http://[::1]:8000", "http://127.9.9.9"],
)
def test_tls_and_loopback_are_fine(settings, url):
    settings.PUBLIC_URL = url
    assert ids() == set()


@pytest.mark.sqlite
def test_several_workers_on_an_affected_sqlite_are_named(settings, monkeypatch):
    settings.WEB_CONCURRENCY = 2
    monkeypatch.setattr("gateway.system_checks.sqlite3.sqlite_version_info", (3, 40, 1))
    assert ids() == {"gatehouse.W002"}


def test_secrets_that_others_may_read_are_named(settings, tmp_path):
    path = tmp_path / "secrets.env"
    path.write_text("x")
    path.chmod(0o644)
    assert ids() == {"gatehouse.W003"}


def test_version_and_package_agree():
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert package["project"]["version"] == VERSION
