"""Commands on providers and models, and `doctor`."""

import io
import json
import sys
from datetime import timedelta

import pytest

from gateway import checks
from gateway.checks import State
from providers import credentials, discovery
from providers.models import Model, Provider
from tenants import sealing
from tenants.actor import system_actor
from tenants.clock import SystemClock
from tenants.keyring import KEYRING
from tenants.models import AuditEvent
from tenants.sealing import Secret
from tenants.services import create_tenant

SECRET = "sk-upstream-0123456789"
GONE = "http://127.0.0.1:9/v1"
ACTOR = system_actor("test")


@pytest.fixture(autouse=True)
def _own_settings(settings, tmp_path):
    KEYRING.forget()
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "api-key"
    path.write_text(SECRET + "\n")
    return str(path)


def add(manage, *more: str, name: str = "ours", kind: str = "openai"):
    arguments = ("--name", name, "--kind", kind, *more)
    return manage("provider", "add", *arguments, "--base-url", GONE)


def stored_key(provider: Provider) -> Secret | None:
    row = credentials.current(provider)
    return credentials.open_sealed(credentials.sealed(row, provider)) if row else None


# --- provider ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_provider_is_added_with_its_credential_and_its_models(manage, key_file):
    done = add(manage, "--api-key-file", key_file, "--json")
    assert done.code == 0, done.err
    assert (done.json["has_api_key"], done.json["created"]) == (True, True)
    assert done.json["models_added"] > 0
    assert SECRET not in done.out + done.err
    assert stored_key(Provider.objects.get()) == Secret(SECRET.encode())
    assert Model.objects.filter(name="gpt-4o").exists()


@pytest.mark.django_db
def test_the_credential_may_come_by_standard_input(manage, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET + "\n"))
    assert add(manage, "--api-key-file", "-", "--no-import").code == 0
    assert stored_key(Provider.objects.get()) == Secret(SECRET.encode())
    assert not Model.objects.exists()


@pytest.mark.django_db
def test_no_option_takes_a_credential(manage):
    done = manage("provider", "add", "--name", "x", "--kind", "openai", "--api-key", SECRET)
    assert "unrecognized arguments" in done.err
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_a_provider_whose_upstream_is_silent_is_added_all_the_same(manage):
    done = add(manage, "--json", kind="openai-compatible")
    assert (done.code, done.json["models_added"]) == (0, 0)
    assert "No models were added: " in done.err


@pytest.mark.django_db
def test_an_azure_account_says_its_deployment_and_version(manage, key_file):
    where = ("--deployment", "our-gpt", "--api-version", "2025-04-01-preview")
    done = add(manage, "--api-key-file", key_file, *where, "--json", kind="azure")
    assert (done.code, done.json["models_added"]) == (0, 2), done.err
    made = Provider.objects.get()
    assert (made.deployment, made.api_version) == ("our-gpt", "2025-04-01-preview")
    assert Model.objects.filter(name="our-gpt").exists()


@pytest.mark.django_db
def test_an_azure_account_without_a_deployment_is_added_and_says_why_it_has_no_models(manage):
    done = add(manage, "--json", kind="azure")
    assert (done.code, done.json["models_added"]) == (0, 0)
    assert "name deployments" in done.err
    done = add(manage, "--deployment", "d", name="other", kind="openai")
    assert done.err == "deployment: is for providers of kind azure only; openai has none."
    assert Provider.objects.count() == 1


@pytest.mark.django_db
def test_if_missing_leaves_a_provider_and_its_credential_as_they_are(manage, key_file, tmp_path):
    add(manage, "--api-key-file", key_file, "--no-import")
    other = tmp_path / "other"
    other.write_text("sk-other")
    done = add(manage, "--api-key-file", str(other), "--if-missing", "--json")
    assert (done.code, done.json["created"]) == (0, False)
    assert stored_key(Provider.objects.get()) == Secret(SECRET.encode())
    assert add(manage).err == "The name 'ours' is taken."


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("kind", "url", "named"),
    [
        ("nonsense", GONE, "kind"),
        ("openai", "http://10.0.0.1/v1", "base_url"),
        ("openai", "file:///etc/passwd", "base_url"),
        ("openai", "https://169.254.169.254/v1", "base_url"),
    ],
)
def test_what_is_refused_is_one_sentence_naming_the_field(manage, kind, url, named):
    done = manage("provider", "add", "--name", "x", "--kind", kind, "--base-url", url)
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith(f"{named}: ")
    assert "\n" not in done.err
    assert not Provider.objects.exists()


@pytest.mark.django_db
def test_a_test_that_fails_says_why_and_exits_1(manage):
    add(manage, "--no-import")
    done = manage("provider", "test", "ours", "--json")
    assert (done.code, done.json["ok"], done.json["status"]) == (1, False, None)
    assert AuditEvent.objects.filter(action="provider.tested", outcome="failed").exists()
    manage("provider", "add", "--name", "demo", "--kind", "demo")
    assert manage("provider", "test", "demo").code == 0


@pytest.mark.django_db
def test_a_credential_is_rotated(manage, key_file):
    add(manage, "--no-import")
    assert manage("provider", "rotate-credential", "ours", "--api-key-file", key_file).code == 0
    assert stored_key(Provider.objects.get()) == Secret(SECRET.encode())


@pytest.mark.django_db
def test_a_tenants_own_provider_is_reached_through_its_tenant_only(manage, key_file):
    create_tenant(actor=ACTOR, name="Acme", slug="acme")
    add(manage, "--tenant", "acme", "--no-import")
    assert manage("provider", "test", "ours").err == "There is no provider 'ours'."
    assert "could not be reached" in manage("provider", "test", "ours", "--tenant", "acme").err
    (row,) = manage("provider", "list", "--json").json["data"]
    assert (row["name"], row["tenant"], row["has_api_key"]) == ("ours", "acme", False)


# --- model ------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_model_is_added_with_its_price_and_listed(manage):
    add(manage, "--no-import")
    options = (
        "--id fast --provider ours --upstream-model gpt-4o --context-window 1000"
        " --input-usd-per-mtok 2.5 --output-usd-per-mtok 10"
    )
    assert manage("model", "add", *options.split()).code == 0
    model = Model.objects.get(name="fast")
    assert model.prices.get().input_nano_per_mtok == 2_500_000_000
    (row,) = manage("model", "list", "--json").json["data"]
    assert (row["model"], row["targets"]) == ("fast", ["ours/gpt-4o"])
    again = manage("model", "add", *options.split(), "--if-missing", "--json")
    assert (again.code, again.json["created"]) == (0, False)
    assert manage("model", "add", *options.split()).code == 1


@pytest.mark.django_db
def test_a_bad_price_is_refused(manage):
    add(manage, "--no-import")
    prices = ("--input-usd-per-mtok", "cheap", "--output-usd-per-mtok", "1")
    assert manage("model", "add", "--id", "m", "--provider", "ours", *prices).code == 1
    assert not Model.objects.exists()


@pytest.mark.django_db
def test_models_are_imported_by_a_pattern_by_either_command(manage):
    add(manage, "--no-import")
    done = manage("model", "import", "--provider", "ours", "--match", "gpt-4o*", "--json").json
    assert set(done["added"]) == {"ours/gpt-4o", "gpt-4o", "ours/gpt-4o-mini", "gpt-4o-mini"}
    more = manage("provider", "import-models", "ours", "--match", "gpt-4*", "--json").json
    assert set(more["skipped"]) == set(done["added"])


@pytest.mark.django_db
def test_an_import_from_nobody_is_refused(manage):
    assert manage("model", "import", "--provider", "none").err == "There is no provider 'none'."
    add(manage, "--no-import", kind="openai-compatible")
    done = manage("model", "import", "--provider", "ours", "--json")
    assert (done.code, done.json["error"]["code"]) == (1, discovery.UpstreamSilent.code)


# --- doctor -----------------------------------------------------------------------------------------------------------


def states(done) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(done.out)["checks"]}


@pytest.mark.django_db(transaction=True)
def test_a_healthy_house_is_exit_code_0(manage, settings, tmp_path):
    settings.VAR = tmp_path
    create_tenant(actor=ACTOR, name="Acme", slug="acme")
    done = manage("doctor", "--json")
    assert done.code == 0, done.out
    told = states(done)
    assert set(told) == {look.name for look in checks.FOR_DOCTOR}
    assert "failed" not in told.values()
    assert len(manage("doctor").out.splitlines()) == len(checks.FOR_DOCTOR)


@pytest.mark.django_db(transaction=True)
def test_a_secret_wrapped_by_a_lost_kek_is_found(manage, settings):
    create_tenant(actor=ACTOR, name="Acme", slug="acme")
    settings.KEK = [sealing.Secret(bytes(range(32)))]
    done = manage("doctor", "--json")
    assert done.code == 1
    assert (states(done)["keyring"], states(done)["keks"]) == ("failed", "failed")
    assert done.err.startswith("Failed: ")


@pytest.mark.django_db(transaction=True)
def test_a_second_kek_is_a_warning(manage, settings):
    create_tenant(actor=ACTOR, name="Acme", slug="acme")
    settings.KEK = [*settings.KEK, sealing.Secret(bytes(range(32)))]
    done = manage("doctor", "--json")
    assert (done.code, states(done)["keks"]) == (0, "warning")


def test_a_folder_that_cannot_be_written_is_a_failure(settings, tmp_path):
    settings.VAR = tmp_path / "none"
    assert checks.look_at_journal()[0] is State.FAILED


def test_secrets_that_others_may_read_are_a_warning(settings, tmp_path):
    settings.VAR = tmp_path
    path = tmp_path / "secrets.env"
    path.write_text("x")
    path.chmod(0o640)
    state, sentence, _ = checks.look_at_permissions()
    assert (state, "secrets.env" in sentence) == (State.WARNING, True)
    path.chmod(0o600)
    assert checks.look_at_permissions()[0] is State.OK


@pytest.mark.sqlite
def test_several_workers_on_an_affected_sqlite_are_a_warning(settings, monkeypatch):
    settings.WEB_CONCURRENCY = 2
    monkeypatch.setattr("gateway.checks.sqlite3.sqlite_version_info", (3, 40, 1))
    assert checks.look_at_sqlite()[0] is State.WARNING
    settings.WEB_CONCURRENCY = 1
    assert checks.look_at_sqlite()[0] is State.OK
    settings.WEB_CONCURRENCY = 2
    monkeypatch.setattr("gateway.checks.sqlite3.sqlite_version_info", (3, 51, 3))
    assert checks.look_at_sqlite()[0] is State.OK


def test_a_redis_is_looked_at_only_where_there_is_one(settings):
    settings.REDIS_URL = ""
    assert checks.look_at_redis()[0] is State.OK
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert checks.look_at_redis()[0] is State.FAILED
    settings.REDIS_URL = "nonsense"
    assert checks.look_at_redis()[0] is State.FAILED


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize(
    ("ahead", "state"),
    [(0, State.OK), (-10, State.WARNING), (10, State.WARNING), (60, State.FAILED)],
)
def test_a_clock_apart_from_the_databases_is_found(ahead, state):
    class Ahead(SystemClock):
        def now(self):
            return super().now() + timedelta(seconds=ahead)

    assert checks.look_at_clock(Ahead())[0] is state
