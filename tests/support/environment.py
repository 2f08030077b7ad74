"""The environment of a test run, set before Django reads it: a folder and secrets of its own, nobody's real settings.

`TEST_DATABASE` (`sqlite`, or `postgres` at `TEST_POSTGRES_URL`) chooses the database; `tests/run.py` runs both. Every worker
of pytest-xdist has its own folder and its own database.
"""

import atexit
import os
import re
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import django

ROOT = Path(__file__).resolve().parents[2]

# What a product setting or a first-run provider may be called; nothing of it leaks from a developer's shell into a test.
_OURS = re.compile(
    r"GATEHOUSE_.*|SECRET_KEY.*|DATABASE_URL.*|REDIS_URL.*|ALLOWED_HOSTS|CSRF_TRUSTED_ORIGINS|CORS_ALLOWED_ORIGINS|TRUSTED_PROXIES"
    r"|PUBLIC_URL|EMAIL_URL|DEFAULT_FROM_EMAIL|DEBUG|LOG_LEVEL|LEDGER_DURABILITY|HOST|PORT|WEB_CONCURRENCY|AUTH_OIDC_ISSUERS"
    r"|OIDC_CONSOLE_.*|OLLAMA_.*|\w+_API_KEY|\w+_BASE_URL|(?i:https?|all|no)_proxy"
)
#: A suite starts Python hundreds of times: what one start compiled, the next should find, whatever the developer's shell says.
#: Without that, each server costs a second of work more, and each worker compiles every test anew.
_COMPILE_ANEW = "PYTHONDONTWRITEBYTECODE"
_RUN = "TEST_RUN_FOLDER"
_SEEDS = "TEST_SEEDS_FOLDER"
_SEEDS_OWNER = "TEST_SEEDS_OWNER"


def worker() -> str:
    """`gw0`, `gw1` … under pytest-xdist, else `main`."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


def database() -> str:
    """`sqlite` or `postgres`."""
    return os.environ.get("TEST_DATABASE", "sqlite")


def mode() -> dict[str, str]:
    """Settings of every server of this run: `TEST_EXPRESS` and `TEST_TRANSPORT` choose how calls are served."""
    return {
        f"GATEHOUSE_{name}": os.environ[f"TEST_{name}"]
        for name in ("EXPRESS", "TRANSPORT")
        if os.environ.get(f"TEST_{name}")
    }


def postgres_url() -> str:
    return os.environ.get("TEST_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")


def redis_url() -> str:
    return os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/15")


def run_folder() -> Path:
    """The folder of the whole run, made by its first process and removed when that one ends."""
    if _RUN not in os.environ:
        folder = tempfile.mkdtemp(prefix="gatehouse-tests-")
        os.environ[_RUN] = folder
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(os.environ[_RUN])


def seeds_folder() -> Path:
    """Where seeded databases lie that all workers copy, in `tests/run.py` those of all its runs. It is the first process's."""
    if _SEEDS not in os.environ:
        folder = tempfile.mkdtemp(prefix="gatehouse-seeds-")
        os.environ |= {_SEEDS: folder, _SEEDS_OWNER: str(os.getpid())}
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(os.environ[_SEEDS])


def seeds_owner() -> int:
    """The process that removes them at its end."""
    seeds_folder()
    return int(os.environ[_SEEDS_OWNER])


def clean(source: "os._Environ[str] | dict[str, str]") -> dict[str, str]:
    """A copy without anything that Gatehouse would read."""
    return {
        name: value
        for name, value in source.items()
        if not _OURS.fullmatch(name) and name != _COMPILE_ANEW
    }


def fresh_secrets() -> dict[str, str]:
    return {"SECRET_KEY": secrets.token_urlsafe(48), "GATEHOUSE_KEK": secrets.token_hex(32)}


def database_name() -> str:
    """The test database of this worker: a file, or a name on the server that says which process it belonged to."""
    if database() == "postgres":
        return f"gatehouse_test_{os.getpid()}_{worker()}"
    return str(run_folder() / worker() / "test.sqlite3")


def prepare() -> None:
    """Set the environment and set Django up. Called once, by `tests/conftest.py`, before anything imports a model."""
    seeds_folder()
    var = run_folder() / worker()
    var.mkdir(exist_ok=True)
    kept = clean(os.environ)
    os.environ.clear()
    os.environ.update(kept, **fresh_secrets())
    sys.dont_write_bytecode = False
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway.settings"
    os.environ["GATEHOUSE_VAR"] = str(var)
    os.environ["LOG_LEVEL"] = "WARNING"
    if database() == "postgres":
        os.environ["DATABASE_URL"] = postgres_url()
    django.setup()
