"""Settings: weak secrets stop the start, every fault is a sentence that names the variable, and which of two values wins."""

import base64
import json
import os
import runpy
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import environ
import pytest
from django.core.exceptions import ImproperlyConfigured

from gateway import settings as house
from providers.upstreams import TRANSPORTS
from tests.support import environment
from tests.support.environment import ROOT
from tests.support.server import Server

#: What the settings come to, as a process of its own sees them.
SHOW = (
    "import json, gateway.settings as s; print(json.dumps({"
    "'key': s.SECRET_KEY, 'keks': [k.reveal().hex() for k in s.KEK], 'fallbacks': s.SECRET_KEY_FALLBACKS,"
    "'database': s.DATABASES['default'], 'upstreams': s.ALLOWED_UPSTREAMS, 'redis': s.REDIS_URL,"
    "'proxies': s.TRUSTED_PROXIES, 'port': s.PORT, 'var': str(s.VAR), 'hosts': s.ALLOWED_HOSTS"
    "}, default=str))"
)


def run(folder: Path, *command: str, **variables: str | None) -> "subprocess.CompletedProcess[str]":
    """In a clean environment with good secrets and these variables; None takes one away."""
    given = environment.fresh_secrets() | {"GATEHOUSE_VAR": str(folder), **variables}
    return subprocess.run(
        [sys.executable, *(command or ("-c", SHOW))],
        cwd=ROOT,
        env=environment.clean(os.environ) | {k: v for k, v in given.items() if v is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def shown(folder: Path, **variables: str | None) -> dict[str, Any]:
    done = run(folder, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# --- weak secrets -----------------------------------------------------------------------------------------------------

WEAK_KEYS = [
    "",
    "short",
    "x" * 31,
    "x" * 64,
    "ab" * 32,
    "abcabcab" * 8,
    "django-insecure-4k$2w!x8@z0q#v7m%n3b^c5&j1*h9(g6)",
    "change-me-in-production-or-you-will-be-sorry",
    "ChangeMe0123ABCDEFghijklmnopqrstuvwxyz",
    "please-replace-this-with-a-random-value-xyz",
    "my-super-secret-value-for-the-test-server-1",
    "Passw0rd-Passw1rd-Passw2rd-Passw3rd-x9",
    "correct-horse-password-battery-staple-42",
    "this is only an example of a key, not a key",
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "ZYXWVUTSRQPONMLKJIHGFEDCBA9876543210",
    "0123456789abcdef0123456789abcdef",
    "1234567890" * 5,
    "qwertyuiopasdfghjklzxcvbnm1357924680",
    "gatehouse-on-the-hill-by-the-river-1999",
    "Kx9$mQ2z" * 6,
    "the-default-key-of-my-installation-2026",
]
WEAK_KEKS = [
    "",
    "short",
    "0" * 64,
    "ff" * 32,
    "deadbeef" * 8,
    "0123456789abcdef" * 4,
    bytes(range(32)).hex(),
    bytes(range(255, 223, -1)).hex(),
    bytes(range(16)).hex() * 2,
    bytes([1, 17, 93, 200, 45, 66, 78, 99, 150, 251, 31, 12, 180, 77, 8, 190] * 2).hex(),
    base64.b64encode(b"\0" * 32).decode(),
    base64.b64encode(b"password" * 4).decode(),
    base64.b64encode(b"this is a passphrase, not a key!").decode(),
    base64.b64encode(b"correct-horse-battery-staple-123").decode(),
    base64.b64encode(secrets.token_bytes(16)).decode(),
    base64.b64encode(secrets.token_bytes(31)).decode(),
    base64.b64encode(secrets.token_bytes(33)).decode(),
    secrets.token_hex(31),
    secrets.token_hex(33),
    "z" * 64,
    "not base64 and not hex either, whatever it is!",
    f"{secrets.token_hex(32)},short",
    ",",
]


def refusal(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as fault:
        {"SECRET_KEY": house._secret_key, "GATEHOUSE_KEK": house._keks}[name]()
    assert fault.value.__cause__ is None
    return str(fault.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("SECRET_KEY", value) for value in WEAK_KEYS),
        *(("GATEHOUSE_KEK", value) for value in WEAK_KEKS),
    ],
    ids=lambda text: text if text in ("SECRET_KEY", "GATEHOUSE_KEK") else "value",
)
def test_a_weak_secret_is_refused_by_name_and_not_shown(name, value, monkeypatch):
    sentence = refusal(name, value, monkeypatch)
    assert sentence.startswith(f"{name} ")
    assert "quickstart" in sentence
    parts = [part for part in value.split(",") if len(part) > 5]
    assert not any(part in sentence for part in parts)


@pytest.mark.parametrize("name", ["SECRET_KEY", "GATEHOUSE_KEK"])
def test_a_missing_secret_is_refused_by_name(name, monkeypatch):
    monkeypatch.delenv(name)
    with pytest.raises(ImproperlyConfigured, match=f"^{name} is not set"):
        {"SECRET_KEY": house._secret_key, "GATEHOUSE_KEK": house._keks}[name]()


def test_no_random_secret_is_refused(monkeypatch):
    for _ in range(3_000):
        for value in (secrets.token_urlsafe(48), secrets.token_hex(32), secrets.token_urlsafe(24)):
            monkeypatch.setenv("SECRET_KEY", value)
            assert house._secret_key() == value
        raw = secrets.token_bytes(32)
        for text in (raw.hex(), raw.hex().upper(), base64.b64encode(raw).decode()):
            monkeypatch.setenv("GATEHOUSE_KEK", text)
            assert [kek.reveal() for kek in house._keks()] == [raw]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SECRET_KEY", None),
        ("SECRET_KEY", "hunter2-short"),
        ("GATEHOUSE_KEK", None),
        ("GATEHOUSE_KEK", "hunter2-short"),
        ("SECRET_KEY_FALLBACKS", "hunter2-short"),
        ("GATEHOUSE_ADMIN_TOKEN", "hunter2-short"),
        ("GATEHOUSE_ADMIN_TOKEN", "change-me-hunter2-change-me-hunter2"),
        ("GATEHOUSE_METRICS_TOKEN", "hunter2-short"),
        ("GATEHOUSE_METRICS_TOKEN", "change-me-hunter2-change-me-hunter2"),
        ("DATABASE_URL", "mysqlx://root:hunter2@h/db"),
        ("DATABASE_URL", "hunter2"),
        ("DATABASE_URL", "postgres://root:hunter2@h:port/db"),
        ("DATABASE_URL", " "),
        ("REDIS_URL", "http://:hunter2@h"),
        ("REDIS_URL", "redis://:hunter2@h:port"),
        ("REDIS_URL", "hunter2:6379"),
        ("TRUSTED_PROXIES", "10.0.0.0/8,hunter2"),
        ("TRUSTED_PROXIES", "10.0.0.0/33"),
        ("PORT", "hunter2"),
        ("GATEHOUSE_MAX_BODY", "-1"),
        ("GATEHOUSE_TIMEOUT_TOTAL", "nan"),
        ("GATEHOUSE_AUTH_STALE_SECONDS", "inf"),
    ],
)
def test_no_command_starts_with_it_and_the_one_line_names_it(tmp_path, name, value):
    done = run(tmp_path, "manage.py", "check", **{name: value})
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(name)
    assert "hunter2" not in done.stdout + done.stderr


# --- which of two values wins -----------------------------------------------------------------------------------------


def test_a_secret_may_come_as_a_file_with_a_line_break_at_its_end(tmp_path):
    given = environment.fresh_secrets()
    values = {**given, "DATABASE_URL": "postgres://u:p@h:1/db", "REDIS_URL": "redis://h"}
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
    variables: dict[str, str | None] = {f"{name}_FILE": str(tmp_path / name) for name in values}
    found = shown(tmp_path, SECRET_KEY=None, GATEHOUSE_KEK=None, **variables)
    assert (found["key"], found["keks"]) == (given["SECRET_KEY"], [given["GATEHOUSE_KEK"]])
    assert (found["database"]["NAME"], found["redis"]) == ("db", "redis://h")


def test_a_file_wins_over_the_variable_itself(tmp_path):
    (tmp_path / "key").write_text(key := secrets.token_urlsafe(48))
    assert shown(tmp_path, SECRET_KEY_FILE=str(tmp_path / "key"))["key"] == key


@pytest.mark.parametrize("content", [None, b"\xff\xfe" * 40])
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path, content):
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    done = run(tmp_path, "manage.py", "check", SECRET_KEY_FILE=str(tmp_path / "key"))
    assert done.returncode == 1
    assert done.stderr.startswith("SECRET_KEY_FILE ")
    assert len(done.stderr.splitlines()) == 1


def test_the_environment_wins_over_secrets_env_and_that_over_defaults(tmp_path):
    written = environment.fresh_secrets()
    (tmp_path / "secrets.env").write_text(
        "".join(f"{name}={value}\n" for name, value in written.items())
        + "GATEHOUSE_ALLOWED_UPSTREAMS=localhost,::1\nPORT=9000\n"
    )
    found = shown(tmp_path, SECRET_KEY=None, GATEHOUSE_KEK=None)
    assert (found["key"], found["keks"]) == (written["SECRET_KEY"], [written["GATEHOUSE_KEK"]])
    assert (found["upstreams"], found["port"]) == (["localhost", "::1"], 9000)
    given = environment.fresh_secrets()
    found = shown(tmp_path, PORT="9001", GATEHOUSE_ALLOWED_UPSTREAMS="10.0.0.0/8", **given)
    assert (found["key"], found["keks"]) == (given["SECRET_KEY"], [given["GATEHOUSE_KEK"]])
    assert (found["upstreams"], found["port"]) == (["10.0.0.0/8"], 9001)


def test_a_weak_secret_in_secrets_env_stops_the_start_as_well(tmp_path):
    (tmp_path / "secrets.env").write_text("SECRET_KEY=changeme\n")
    done = run(tmp_path, "manage.py", "check", SECRET_KEY=None)
    assert done.returncode == 1
    assert done.stderr.startswith("SECRET_KEY is too short")


def test_no_command_but_quickstart_makes_secrets(tmp_path):
    done = run(tmp_path, "manage.py", "check", SECRET_KEY=None, GATEHOUSE_KEK=None)
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []


def test_several_keks_keep_their_order_in_either_spelling(tmp_path):
    keks = [secrets.token_bytes(32) for _ in range(3)]
    text = f" {keks[0].hex()} , {base64.b64encode(keks[1]).decode()},,{keks[2].hex().upper()},"
    assert shown(tmp_path, GATEHOUSE_KEK=text)["keks"] == [kek.hex() for kek in keks]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "engine", "name"),
    [
        (None, "tenants.fair_sqlite3", "{var}/gatehouse.sqlite3"),
        ("sqlite:////data/g.sqlite3", "tenants.fair_sqlite3", "/data/g.sqlite3"),
        ("postgres://u:p%40s@h:5433/db", "django.db.backends.postgresql", "db"),
        ("postgresql://u:p%40s@h:5433/db", "django.db.backends.postgresql", "db"),
    ],
)
def test_a_database_is_one_of_two_kinds(tmp_path, url, engine, name):
    database = shown(tmp_path, DATABASE_URL=url)["database"]
    assert (database["ENGINE"], database["NAME"]) == (engine, name.format(var=tmp_path))
    if engine.endswith("sqlite3"):
        assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
        assert "synchronous=FULL" in database["OPTIONS"]["init_command"]
    else:
        assert (database["HOST"], database["PORT"], database["PASSWORD"]) == ("h", 5433, "p@s")


def test_trusted_proxies_are_addresses_and_networks(tmp_path):
    found = shown(tmp_path, TRUSTED_PROXIES="10.0.0.1,fd00::/8,192.168.1.7/24")
    assert found["proxies"] == ["10.0.0.1", "fd00::/8", "192.168.1.7/24"]


def test_the_public_host_is_an_allowed_one(tmp_path):
    found = shown(tmp_path, PUBLIC_URL="https://ai.example.org/", ALLOWED_HOSTS="inside.example")
    assert found["hosts"] == ["inside.example", "ai.example.org"]


def test_a_database_in_memory_is_one_too(tmp_path):
    assert shown(tmp_path, DATABASE_URL="sqlite://:memory:")["database"]["NAME"] == ":memory:"


# --- the whole module, read again in this process ---------------------------------------------------------------------

Settings = Callable[..., dict[str, Any]]
GOOD_KEY = secrets.token_urlsafe(48)
GOOD_KEK = secrets.token_hex(32)


@pytest.fixture
def read(tmp_path: Path) -> Iterator[Settings]:
    """The settings as they come of an environment; null takes a variable away."""

    def reading(**environment: str | None) -> dict[str, Any]:
        given = {"SECRET_KEY": GOOD_KEY, "GATEHOUSE_KEK": GOOD_KEK, "GATEHOUSE_VAR": str(tmp_path)}
        for name, value in {**given, **environment}.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        # What came from a file is remembered for the life of the process.
        environ.FileAwareEnv.ENVIRON.files_cache.clear()
        return runpy.run_path(str(ROOT / "gateway/settings.py"))

    with mock.patch.dict(os.environ):
        yield reading
    environ.FileAwareEnv.ENVIRON.files_cache.clear()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("SECRET_KEY", "GATEHOUSE_KEK") for value in (None, "", "  ")),
        ("SECRET_KEY", "django-insecure-3x9q_7w2v5b8n1m4k6j0h!gfds"),
        ("GATEHOUSE_KEK", "00" * 32),
        ("GATEHOUSE_KEK", f"{sha256(b'a good one').hexdigest()},{'00' * 32}"),
    ],
)
@pytest.mark.parametrize("debug", ["", "1"])
def test_a_missing_or_weak_secret_stops_the_settings_also_while_debugging(
    read: Settings, name: str, value: str | None, debug: str
):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(**{name: value, "DEBUG": debug})
    assert str(refusal.value).startswith(f"{name} ")
    shown = (value or "").strip()
    assert not shown or shown not in str(refusal.value)


@pytest.mark.parametrize("name", TRANSPORTS)
def test_a_transport_is_chosen_by_its_name(read: Settings, name: str):
    assert read(GATEHOUSE_TRANSPORT=None)["TRANSPORT"] == "native"
    assert read(GATEHOUSE_TRANSPORT=name)["TRANSPORT"] == name


@pytest.mark.parametrize("value", ["", "NATIVE", "httpx2", "native,httpx", "sk-some-secret-value"])
def test_a_transport_that_there_is_not_stops_the_settings(read: Settings, value: str):
    with pytest.raises(ImproperlyConfigured) as refusal:
        read(GATEHOUSE_TRANSPORT=value)
    assert str(refusal.value) == "GATEHOUSE_TRANSPORT must be native or httpx."


def test_an_estimates_price_is_a_pair_or_none(read: Settings):
    assert read(GATEHOUSE_ESTIMATE_PRICE=None)["ESTIMATE_PRICE"] == (25 * 10**8, 10**10)
    assert read(GATEHOUSE_ESTIMATE_PRICE="0.000000001/0")["ESTIMATE_PRICE"] == (1, 0)
    assert read(GATEHOUSE_ESTIMATE_PRICE="")["ESTIMATE_PRICE"] is None
    for value in ("1", "1/2/3", "-1/2", "1/NaN", "1e3/2", "/", "1/4001", "a/b"):
        with pytest.raises(ImproperlyConfigured, match="GATEHOUSE_ESTIMATE_PRICE must be two"):
            read(GATEHOUSE_ESTIMATE_PRICE=value)


def test_a_server_without_good_secrets_does_not_start(gatehouse: Callable[..., Server]):
    server = gatehouse(serve=False, seed=False)
    for name, weak in (("GATEHOUSE_KEK", "11" * 32), ("SECRET_KEY", "changeme" * 8)):
        done = server.attempt("serve", "--bind", "127.0.0.1:0", env={name: weak})
        assert done.returncode != 0
        last = done.stderr.strip().splitlines()[-1]
        assert f"{name} is a known or guessable value." in last
        assert weak not in done.stdout + done.stderr


def test_the_host_of_the_public_address_is_answered_to(read: Settings):
    found = read(PUBLIC_URL="https://gate.example/", ALLOWED_HOSTS=None)
    assert found["PUBLIC_URL"] == "https://gate.example"
    assert found["ALLOWED_HOSTS"] == ["localhost", "127.0.0.1", "[::1]", "gate.example"]
    assert found["SECURE_HSTS_SECONDS"] > 0
    assert found["SESSION_COOKIE_SECURE"]
