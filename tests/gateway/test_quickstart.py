"""From an empty folder to a gateway that answers, and a second run that changes and shows nothing it should not."""

import json
import os
import re
import shlex
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from django.conf import settings as real_settings

from gateway import first_run, quickstart
from gateway.first_call import suggest_model
from gateway.first_run import Found
from keys.models import APIKey
from providers import credentials
from providers.models import Model, Provider
from providers.services import delete_provider, update_provider
from tenants import sealing
from tenants.actor import system_actor
from tenants.errors import Unavailable
from tenants.keyring import KEYRING
from tenants.models import AuditEvent, Tenant, User
from tenants.operator_services import disable_operator
from tenants.sealing import Secret
from tests.support import environment

SECRET = "sk-from-the-environment-1"
ACTOR = system_actor("test")


@pytest.fixture(autouse=True)
def _own_folder(settings, tmp_path):
    KEYRING.forget()
    settings.VAR = tmp_path / "var"
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]


def prepare() -> tuple[quickstart.Prepared, list[str]]:
    told: list[str] = []
    return quickstart.prepare(told.append), told


def found(**providers: Found) -> dict[str, Found]:
    return dict(providers)


GONE = Found(Secret(SECRET.encode()), "http://127.0.0.1:9/v1")


# --- what is made -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_run_makes_operator_tenant_key_and_demo():
    prepared, told = prepare()
    user = User.objects.get(username="admin")
    assert prepared.password is not None
    assert user.check_password(prepared.password)
    assert (user.role, user.must_change_password) == ("owner", True)
    assert prepared.tenant.slug == "default"
    key = APIKey.objects.get()
    assert (key.name, key.tenant_id) == ("first", prepared.tenant.id)
    assert prepared.api_key is not None
    assert prepared.api_key.startswith("gwk_")
    models = set(Model.objects.values_list("name", flat=True))
    assert models == {"demo/echo", "demo/slow", "demo/fail-503", "demo/cut"}
    assert any("demonstration" in sentence for sentence in told)


@pytest.mark.django_db
def test_the_second_run_makes_nothing_and_shows_no_secret():
    prepare()
    events = AuditEvent.objects.count()
    again, told = prepare()
    assert (again.password, again.api_key, again.username) == (None, None, "admin")
    assert told == []
    assert AuditEvent.objects.count() == events
    assert (User.objects.count(), APIKey.objects.count(), Provider.objects.count()) == (1, 1, 1)


@pytest.mark.django_db
def test_what_was_made_is_on_record_as_quickstarts():
    prepare()
    events = AuditEvent.objects.exclude(action="tenant.created")
    assert {event.actor_label for event in events} == {"quickstart"}
    assert {"operator.created", "key.issued", "provider.created", "model.created"} <= {
        event.action for event in events
    }


@pytest.mark.django_db
def test_what_was_ended_on_purpose_does_not_come_back(settings):
    first, _ = prepare()
    APIKey.objects.update(revoked_at="2026-01-01T00:00:00Z", revoked_by_id="x")
    other = User.objects.create(username="owner2", role="owner")
    disable_operator(actor=ACTOR, username="admin")
    delete_provider(actor=ACTOR, provider_id=Provider.objects.get(name="demo").id, unlink=True)
    again, _ = prepare()
    assert (again.password, again.api_key) == (None, None)
    assert not Provider.objects.exists()
    assert first.tenant == again.tenant
    assert other.is_active


@pytest.mark.django_db
def test_a_demo_that_is_turned_off_stays_off():
    prepare()
    demo = Provider.objects.get(name="demo")
    update_provider(actor=ACTOR, provider_id=demo.id, is_active=False)
    prepare()
    demo.refresh_from_db()
    assert not demo.is_active


# --- providers from the environment -----------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_provider_in_the_environment_is_added_with_its_credential_sealed(settings):
    settings.FIRST_RUN_PROVIDERS = found(openai=GONE)
    prepared, told = prepare()
    provider = Provider.objects.get(name="openai")
    assert provider.base_url == GONE.base_url
    row = credentials.current(provider)
    assert row is not None
    assert SECRET.encode() not in bytes(row.sealed)
    assert credentials.open_sealed(credentials.sealed(row, provider)) == Secret(SECRET.encode())
    assert Model.objects.get(name="gpt-4o").prices.count() == 1
    assert Model.objects.filter(name="openai/gpt-4o").exists()
    assert prepared.providers == ["demo", "openai"]
    assert any("did not answer" in sentence for sentence in told)
    assert not any(SECRET in sentence for sentence in told)


@pytest.mark.django_db
def test_a_later_run_adds_what_is_new_and_leaves_what_is_there(settings):
    settings.FIRST_RUN_PROVIDERS = found(openai=GONE)
    prepare()
    settings.FIRST_RUN_PROVIDERS = found(openai=Found(Secret(b"other"), ""), groq=GONE)
    again, _ = prepare()
    assert again.providers == ["groq"]
    provider = Provider.objects.get(name="openai")
    assert provider.base_url == GONE.base_url
    assert provider.credentials.count() == 1


@pytest.mark.django_db
def test_a_provider_that_cannot_be_added_keeps_nobody_else_from_it(settings):
    settings.FIRST_RUN_PROVIDERS = found(
        ollama=Found(None, "http://10.0.0.1:11434/v1"), openai=GONE
    )
    prepared, told = prepare()
    assert prepared.providers == ["demo", "openai"]
    assert any(sentence.startswith("ollama: ") for sentence in told)


@pytest.mark.django_db
def test_keys_of_dialects_we_do_not_speak_are_mentioned(settings):
    settings.FIRST_RUN_UNUSED = ["ANTHROPIC_API_KEY"]
    _, told = prepare()
    assert [it for it in told if it.startswith("ANTHROPIC_API_KEY ")]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"OPENAI_API_KEY": ""}, {}),
        ({"OPENAI_API_KEY": " sk-1\n"}, {"openai": ("sk-1", "")}),
        (
            {"OPENAI_API_KEY": "sk-1", "OPENAI_BASE_URL": "https://eu.api.openai.com/v1/"},
            {"openai": ("sk-1", "https://eu.api.openai.com/v1")},
        ),
        ({"OPENAI_BASE_URL": "https://eu.api.openai.com/v1"}, {}),
        ({"GROQ_API_KEY": "g"}, {"groq": ("g", "")}),
        ({"OLLAMA_HOST": "0.0.0.0"}, {"ollama": (None, "http://127.0.0.1:11434/v1")}),
        ({"OLLAMA_HOST": "ftp://x"}, {"ollama": (None, "ftp://x:11434/v1")}),
        ({"OLLAMA_HOST": "x:notaport"}, {"ollama": (None, "http://x:11434/v1")}),
    ],
)
def test_providers_are_found_by_the_variables_people_have(environment, expected):
    got = first_run.found_providers(lambda name: environment.get(name, ""))
    assert {
        name: (it.api_key.reveal().decode() if it.api_key else None, it.base_url)
        for name, it in got.items()
    } == expected
    assert SECRET not in repr(got)


def test_a_key_in_the_environment_is_not_shown_by_what_holds_it():
    assert SECRET not in repr(GONE)


# --- the first call ---------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_first_call_names_a_model_that_the_key_may_use(settings):
    tenant = Tenant.objects.create(name="Acme", slug="acme")
    assert suggest_model(tenant.id, None) is None
    settings.FIRST_RUN_PROVIDERS = found(openai=GONE)
    prepare()
    assert suggest_model(tenant.id, None) == "demo/echo"
    assert suggest_model(tenant.id, ["gpt-4o", "gpt-5*"]) == "gpt-4o"
    assert suggest_model(tenant.id, ["nothing"]) is None
    update_provider(actor=ACTOR, provider_id=Provider.objects.get(name="demo").id, is_active=False)
    assert suggest_model(tenant.id, None) == "gpt-4.1"


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_secrets_that_do_not_belong_to_the_database_stop_it(settings):
    prepare()
    settings.KEK = [sealing.Secret(bytes(range(32)))]
    KEYRING.forget()
    with pytest.raises(Unavailable, match=re.escape(first_run.FILE_NAME)):
        prepare()


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_the_newest_three_copies_of_the_database_are_kept():
    prepare()
    copies = [quickstart.back_up() for _ in range(5)]
    kept = sorted((real_settings.VAR / "backups").iterdir())
    assert kept == copies[-3:]
    for path in kept:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with sqlite3.connect(path) as copy:
            assert copy.execute("SELECT count(*) FROM tenants_user").fetchone() == (1,)
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path):
    path = first_run.ensure_secrets(tmp_path / "var")
    before = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert first_run.ensure_secrets(tmp_path / "var") == path
    assert path.read_bytes() == before
    assert [it.name for it in path.parent.iterdir()] == [first_run.FILE_NAME]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_command_says_where_everything_is_once(manage, settings):
    settings.PUBLIC_URL = "http://127.0.0.1:8000"
    first = manage("quickstart", "--no-serve")
    password = re.search(r"Password +(\S+) +\(shown this once", first.out)
    key = re.search(r"Key +(gwk_\w+) +\(shown this once", first.out)
    assert password is not None
    assert key is not None
    assert "http://127.0.0.1:8000/console/" in first.out
    (line,) = [it for it in first.out.splitlines() if it.startswith("curl ")]
    words = shlex.split(line)
    assert words[1] == "http://127.0.0.1:8000/v1/chat/completions"
    assert f"Authorization: Bearer {key[1]}" in words
    assert json.loads(words[-1])["model"] == "demo/echo"
    again = manage("quickstart", "--no-serve")
    assert "gwk_" not in again.out
    assert password[1] not in again.out
    assert "operator reset-password --username admin" in again.out


@pytest.mark.django_db
def test_json_is_one_line_and_does_not_serve(manage, monkeypatch):
    monkeypatch.setattr("gateway.server.serve", lambda *_: pytest.fail("it served"))
    first = manage("quickstart", "--json").json
    assert list(first) == ["url", "console_url", "username", "password", "api_key", "tenant"]
    assert first["password"]
    assert first["api_key"].startswith("gwk_")
    again = manage("quickstart", "--json").json
    assert (again["password"], again["api_key"], again["tenant"]) == (None, None, "default")


@pytest.mark.django_db
def test_it_serves_where_host_and_port_say(manage, settings, monkeypatch):
    served = []
    settings.HOST, settings.PORT, settings.WEB_CONCURRENCY = "127.0.0.1", 0, 2
    monkeypatch.setattr("gateway.server.serve", lambda *where: served.append(where))
    assert manage("quickstart").code == 0
    assert served == [("127.0.0.1:0", 2)]


@pytest.mark.django_db
def test_a_port_that_is_taken_is_said_before_anything_is_made(manage, settings, oracle):
    settings.HOST, settings.PORT = "127.0.0.1", oracle_port(oracle)
    done = manage("quickstart")
    assert done.code == 1
    assert done.err.startswith(f"Cannot listen on 127.0.0.1:{settings.PORT}")
    assert not User.objects.exists()


def oracle_port(oracle) -> int:
    return int(oracle.url.split(":")[2].split("/")[0])


@pytest.mark.sqlite
def test_an_empty_folder_becomes_a_gateway_and_a_second_run_takes_a_copy_first(tmp_path):
    var = tmp_path / "var"
    env = {
        **environment.clean(os.environ),
        "GATEHOUSE_VAR": str(var),
        "PORT": "8765",
        "DJANGO_SETTINGS_MODULE": "gateway.settings",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=environment.ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    made = run("quickstart", "--json")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert told["url"] == "http://127.0.0.1:8765"
    assert modes(var) == {
        "gatehouse.sqlite3": 0o600,
        "gatehouse.sqlite3-line": 0o600,
        "secrets.env": 0o600,
        "quickstart.lock": 0o600,
    }
    assert run("migrate", "usage", "zero").returncode == 0
    again = run("quickstart", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["password"] is None
    assert "Copied the database to" in again.stderr
    assert len(list((var / "backups").iterdir())) == 1


def modes(folder: Path) -> dict[str, int]:
    return {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in folder.iterdir()
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.sqlite
def test_the_printed_line_answers_when_pasted(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    env = {
        **environment.clean(os.environ),
        "GATEHOUSE_VAR": str(tmp_path / "var"),
        "PORT": str(port),
        "GATEHOUSE_TIMEOUT_PRE_DRAIN": "0",
        "DJANGO_SETTINGS_MODULE": "gateway.settings",
    }
    process = subprocess.Popen(
        [sys.executable, "manage.py", "quickstart"],
        cwd=environment.ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = next(it for it in process.stdout if it.startswith("curl "))
        url, *options = shlex.split(line)[1:]
        headers = dict(it.split(": ", 1) for it in options[1::2][:2])
        answer = when_ready(f"http://127.0.0.1:{port}", url, headers, options[-1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"


def when_ready(base: str, url: str, headers: dict[str, str], body: str) -> httpx.Response:
    with httpx.Client(trust_env=False, timeout=10) as client:
        for _ in range(200):
            try:
                if client.get(f"{base}/readyz").status_code == 200:
                    return client.post(url, headers=headers, content=body)
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise AssertionError("it did not become ready")
