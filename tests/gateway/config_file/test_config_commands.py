"""`config plan|apply|rollback|show|lint`, and the file of `GATEHOUSE_CONFIG` at a real server's start."""

import json
import re
import stat
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from pytest_django.fixtures import Settings

from keys import tokens
from keys.models import APIKey
from providers import credentials
from providers.models import Provider
from tenants.models import AuditEvent, Project, Tenant
from tests.gateway.config_file.state import configured
from tests.gateway.conftest import Manage
from tests.support.environment import ROOT
from tests.support.server import Server

DOCUMENT = (ROOT / "docs/configuration-file.md").read_text()
EXAMPLE = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[0]
ENVIRONMENT = {
    "OPENAI_API_KEY": "sk-from-the-environment-1",
    "RESERVE_API_KEY": "sk-from-the-environment-2",
    "ACME_API_KEY": "sk-from-the-environment-3",
    "ACME_CI_KEY": tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode(),
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], str]:
    """Writes a configuration file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "gatehouse.yaml"
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def surroundings(settings: Settings) -> None:
    """An environment with what the example of the documentation asks for."""
    settings.CONFIG_SECRET = lambda name: ENVIRONMENT.get(name, "")


pytestmark = pytest.mark.django_db


def test_the_example_of_the_documentation_is_planned_applied_shown_and_taken_back(
    manage: Manage, file: Callable[[str], str], surroundings: None
) -> None:
    path, before = file(EXAMPLE), configured()
    assert manage("config", "lint", path).code == 0
    planned = manage("config", "plan", path, "--json")
    assert configured() == before
    applied = manage("config", "apply", path, "--json")
    assert applied.json["changes"] == planned.json["changes"]
    (made,) = applied.json["keys"]
    assert (made["name"], made["key"][:4]) == ("batch", "gwk_")
    again = manage("config", "apply", path)
    assert (again.code, "nothing to change" in again.out) == (0, True)
    shown = file(manage("config", "show").out)
    assert manage("config", "plan", shown, "--json").json["is_empty"]
    assert manage("config", "rollback", "--revision", "1", "--json").json["revision"] == 0
    assert configured() == before


def test_secrets_come_from_the_environment_and_from_files(
    manage: Manage, file: Callable[[str], str], surroundings: None, tmp_path: Path
) -> None:
    (tmp_path / "own").write_text("sk-from-a-file-0123456789\n")
    text = "providers: [{name: a, kind: openai, api_key: {env: ACME_API_KEY}}, {name: b, kind: openai, api_key: {file: own}}]"
    assert manage("config", "apply", file(text)).code == 0
    found = {}
    for provider in Provider.objects.filter(name__in=("a", "b")):
        stored = credentials.current(provider)
        assert stored is not None
        found[provider.name] = (
            credentials.open_sealed(credentials.sealed(stored, provider)).reveal().decode()
        )
    assert found == {"a": "sk-from-the-environment-3", "b": "sk-from-a-file-0123456789"}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("{env: NOT_THERE}", "NOT_THERE is not set"),
        ("{env: SECRET_KEY}", "secret of the house"),
        ("{env: GATEHOUSE_KEK}", "secret of the house"),
        ("{file: not-there}", "cannot be read"),
        ("{file: two-lines}", "exactly one line"),
    ],
)
def test_a_secret_that_is_not_there_is_a_fault_with_its_place(
    manage: Manage,
    file: Callable[[str], str],
    surroundings: None,
    tmp_path: Path,
    reference: str,
    said: str,
) -> None:
    (tmp_path / "two-lines").write_text("a\nb\n")
    done = manage(
        "config", "plan", file(f"providers:\n  - {{name: a, kind: openai, api_key: {reference}}}")
    )
    assert done.code == 1
    assert "providers[0].api_key (line 2, column" in done.err
    assert said in done.err


def test_lint_asks_no_database_and_needs_no_secret(
    manage: Manage, file: Callable[[str], str], django_assert_num_queries: Callable[..., object]
) -> None:
    with django_assert_num_queries(0):  # type: ignore[attr-defined]
        assert manage("config", "lint", file(EXAMPLE)).code == 0
        bad = manage(
            "config",
            "lint",
            file(EXAMPLE.replace("slug: acme", "slug: ACME") + "\nmore: 1\n"),
            "--json",
        )
    assert bad.code == 1
    assert {"tenants[0].slug", "more"} <= bad.json["error"]["fields"].keys()


def test_every_fault_is_told_to_people_as_well(manage: Manage, file: Callable[[str], str]) -> None:
    done = manage("config", "plan", file("a: 1\nb: 2\nc: 3\n"))
    assert done.code == 1
    assert [line for line in ("a (line 1", "b (line 2", "c (line 3") if line not in done.err] == []


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(
    manage: Manage, tmp_path: Path
) -> None:
    assert "cannot be read" in manage("config", "plan", str(tmp_path / "none.yaml")).err
    (tmp_path / "raw").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in manage("config", "plan", str(tmp_path / "raw")).err


def test_keys_that_are_made_can_go_to_a_file_of_their_own(
    manage: Manage, file: Callable[[str], str], tenant: Tenant, tmp_path: Path
) -> None:
    kept = tmp_path / "keys.jsonl"
    text = "tenants: [{slug: acme, keys: [{name: a, made: true}]}]"
    done = manage("config", "apply", file(text), "--keys-file", str(kept), "--json")
    assert "gwk_" not in done.out
    line = json.loads(kept.read_text())
    assert (line["tenant"], line["name"]) == ("acme", "a")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_keys_that_cannot_be_kept_are_not_made(
    manage: Manage, file: Callable[[str], str], tenant: Tenant, tmp_path: Path
) -> None:
    text = "tenants: [{slug: acme, keys: [{name: a, made: true}]}]"
    done = manage("config", "apply", file(text), "--keys-file", str(tmp_path / "none" / "keys"))
    assert (done.code, APIKey.objects.count()) == (1, 0)
    assert "cannot be written" in done.err


def test_orphans_are_told_and_pruned_on_request(manage: Manage, file: Callable[[str], str]) -> None:
    manage("config", "apply", file("providers: [{name: a, kind: demo}, {name: b, kind: demo}]"))
    kept = manage("config", "apply", file("providers: [{name: a, kind: demo}]"))
    assert "The provider b is not in the file any more" in kept.err
    manage("config", "apply", file("providers: [{name: a, kind: demo}]"), "--prune")
    assert not Provider.objects.filter(name="b").exists()


@pytest.mark.parametrize("times", [1, 2])
def test_quickstart_applies_the_file_as_well(
    manage: Manage, file: Callable[[str], str], settings: Settings, tmp_path: Path, times: int
) -> None:
    settings.VAR = tmp_path / "var"
    settings.FIRST_RUN_PROVIDERS, settings.FIRST_RUN_UNUSED = {}, []
    settings.CONFIG_FILE = Path(file("tenants: [{slug: default, projects: [{name: web}]}]"))
    for _ in range(times):
        assert manage("quickstart", "--no-serve").code == 0
    assert Project.objects.count() == 1
    assert AuditEvent.objects.filter(action="config.applied").count() == 1
    settings.CONFIG_FILE = Path(file("nothing: 1"))
    done = manage("quickstart", "--no-serve")
    assert (done.code, "nothing (line 1, column 1)" in done.err) == (1, True)


# --- at a start -------------------------------------------------------------------------------------------------------

START = """\
tenants:
  - slug: default
    keys:
      - {{name: kept, secret: {kept}, rate_limit_rpm: 7}}
      - {{name: leaked, secret: {leaked}}}
{more}"""


def test_a_server_imports_its_keys_at_each_start_and_never_twice(
    gatehouse: Callable[..., Server], tmp_path: Path
) -> None:
    kept, leaked, orphan = (
        tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode() for _ in range(3)
    )
    path = tmp_path / "gatehouse.yaml"
    more = f"      - {{name: orphan, secret: {orphan}}}\n      - {{name: made, made: true}}\n"
    path.write_text(START.format(kept=kept, leaked=leaked, more=more))
    server = gatehouse(workers=2, env={"GATEHOUSE_CONFIG": str(path)})

    def status(key: str) -> int:
        bearer = {"authorization": f"Bearer {key}"}
        return httpx.get(f"{server.api}/models", headers=bearer, trust_env=False).status_code

    rows = (
        "SELECT name, source, rate_limit_rpm FROM keys_apikey WHERE source = 'config' ORDER BY name"
    )
    first = server.query(rows)
    assert [row[0] for row in first] == ["kept", "leaked", "made", "orphan"]
    applied = "SELECT COUNT(*) FROM tenants_auditevent WHERE action = 'config.applied'"
    assert server.query(applied)[0][0] == 1
    assert [status(key) for key in (kept, leaked, orphan)] == [200, 200, 200]
    made = json.loads((server.var / "made-keys.jsonl").read_text())["key"]
    assert status(made) == 200

    server.run("key", "revoke", leaked[:10], "--tenant", "default")
    server.stop()
    path.write_text(
        START.format(kept=kept, leaked=leaked, more="      - {name: made, made: true}\n")
    )
    server.start()
    assert server.query(rows) == first
    assert server.query(applied)[0][0] == 1
    assert [status(key) for key in (kept, leaked, orphan, made)] == [200, 401, 200, 200]
    log = server.log_text()
    assert "The key orphan of default is not in the file any more" in log
    assert "The key leaked of default was revoked" in log
    assert kept not in log
    assert made not in log


def test_a_bad_file_stops_the_start_with_one_sentence(
    gatehouse: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "gatehouse.yaml"
    path.write_text("tenants:\n  - slug: default\n    rate_limit_rpm: 0\n")
    server = gatehouse(env={"GATEHOUSE_CONFIG": str(path)}, serve=False)
    done = server.attempt("serve", "--bind", "127.0.0.1:1")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "rate_limit_rpm" in line]
    assert (
        f"GATEHOUSE_CONFIG ({path}): tenants[0].rate_limit_rpm (line 3, column 5): must be between"
        in line
    )
    assert "Traceback" not in done.stderr
