"""Every setting of Gatehouse, and the only module that reads the environment.

Order: the process's environment, then `$GATEHOUSE_VAR/secrets.env` (written by `quickstart` alone), then the default.
A secret `NAME` may also come as `NAME_FILE`, the path of a file that holds it. `docs/configuration.md` explains each.
"""

import ipaddress
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from gateway import first_run, strength
from tenants import patience
from tenants.sealing import Secret
from usage import money

BASE_DIR = Path(__file__).resolve().parent.parent


class _Environment(environ.FileAwareEnv):  # type: ignore[misc]  # it comes without types
    """A value that cannot be is refused by a sentence that names the variable, and never the value."""

    def get_value(self, var: str, *args: Any, **options: Any) -> Any:
        try:
            value = super().get_value(var, *args, **options)
        except OSError as fault:
            sentence = f"{var}_FILE cannot be read: {fault.strerror}."
            raise ImproperlyConfigured(sentence) from None
        except UnicodeDecodeError:
            raise ImproperlyConfigured(f"{var}_FILE does not hold a text.") from None
        except ValueError:
            raise ImproperlyConfigured(f"{var} is not a number.") from None
        if isinstance(value, int | float) and not 0 <= value < float("inf"):
            raise ImproperlyConfigured(f"{var} must not be negative or without end.")
        # Editors end a file with a line break, which belongs to no secret.
        return value.strip() if isinstance(value, str) else value


env = _Environment()

VAR = Path(env.str("GATEHOUSE_VAR", default=str(BASE_DIR / "var"))).absolute()
QUICKSTART = sys.argv[1:2] == ["quickstart"]
if QUICKSTART:
    first_run.ensure_secrets(VAR)
if (VAR / first_run.FILE_NAME).is_file():
    env.read_env(str(VAR / first_run.FILE_NAME), overwrite=False)


# --- secrets: missing or weak ones stop the start ---------------------------------------------------------------------


def _secret_key() -> str:
    value: str = env.str("SECRET_KEY", default="")
    if not value:
        raise strength.refusal("SECRET_KEY", "is not set")
    return strength.strong("SECRET_KEY", value)


def _fallbacks() -> list[str]:
    """Former secret keys. What was signed with them is still believed, so they are as strong as the key itself."""
    texts: list[str] = env.list("SECRET_KEY_FALLBACKS", default=[])
    return [strength.strong("SECRET_KEY_FALLBACKS", text.strip()) for text in texts]


def _keks() -> list[Secret]:
    texts = [part.strip() for part in env.str("GATEHOUSE_KEK", default="").split(",")]
    if not any(texts):
        raise strength.refusal("GATEHOUSE_KEK", "is not set")
    return [strength.master_key("GATEHOUSE_KEK", text) for text in texts if text]


def _optional_token(name: str) -> Secret | None:
    value: str = env.str(name, default="")
    return Secret(strength.strong(name, value).encode()) if value else None


SECRET_KEY = _secret_key()
SECRET_KEY_FALLBACKS = _fallbacks()
#: Newest first: it wraps, all of them unwrap.
KEK = _keks()
#: Opens `/metrics`. None: nothing does.
METRICS_TOKEN = _optional_token("GATEHOUSE_METRICS_TOKEN")
#: Opens the admin API, sent as `x-admin-key`. None: there is no such key.
ADMIN_TOKEN = _optional_token("GATEHOUSE_ADMIN_TOKEN")


# --- where we are reached ---------------------------------------------------------------------------------------------

DEBUG = env.bool("DEBUG", default=False)
HOST = env.str("HOST", default="127.0.0.1")
PORT = env.int("PORT", default=8000)
PUBLIC_URL = env.str("PUBLIC_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
if urlsplit(PUBLIC_URL).hostname not in {None, *ALLOWED_HOSTS}:
    ALLOWED_HOSTS = [*ALLOWED_HOSTS, str(urlsplit(PUBLIC_URL).hostname)]
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])


def _networks(name: str) -> list[str]:
    values: list[str] = env.list(name, default=[])
    for value in values:
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            raise ImproperlyConfigured(
                f"{name} holds an entry that is no address or CIDR."
            ) from None
    return values


#: Addresses or CIDRs of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.
TRUSTED_PROXIES = _networks("TRUSTED_PROXIES")
WEB_CONCURRENCY = env.int("WEB_CONCURRENCY", default=1)

# --- the relay --------------------------------------------------------------------------------------------------------


def _one_of(name: str, values: Sequence[str]) -> str:
    """One of a few words; the first is the default."""
    value: str = env.str(name, default=values[0])
    if value not in values:
        raise ImproperlyConfigured(f"{name} must be {' or '.join(values)}.")
    return value


#: What carries calls to upstreams (providers.upstreams.TRANSPORTS).
TRANSPORT = _one_of("GATEHOUSE_TRANSPORT", ("native", "httpx"))
#: What a call waits for before anything is sent: the worker's own `journal`, or a `commit` in the database.
LEDGER_DURABILITY = _one_of("LEDGER_DURABILITY", ("journal", "commit"))


def _price_pair(name: str, default: str) -> tuple[int, int] | None:
    """`input/output` in USD per million tokens as nano-USD; empty is none."""
    text: str = env.str(name, default=default)
    if not text:
        return None
    try:
        into, out = (money.parse_usd_per_mtok(part) for part in text.split("/"))
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be two prices like 2.50/10, or empty.") from None
    return into, out


#: What calls without a price are estimated at, nano-USD per million tokens in and out. Told, never charged.
ESTIMATE_PRICE = _price_pair("GATEHOUSE_ESTIMATE_PRICE", "2.50/10")
#: Host names, addresses or CIDRs that the address filter lets through although they are not public.
ALLOWED_UPSTREAMS = env.list("GATEHOUSE_ALLOWED_UPSTREAMS", default=[])
#: Whether calls are answered before Django sees them. Off: by the same exchange, behind Django REST framework's views.
EXPRESS = env.bool("GATEHOUSE_EXPRESS", default=True)
#: Seconds that a worker cut off from the database goes on trusting what it knows.
AUTH_STALE_SECONDS: float = env.float("GATEHOUSE_AUTH_STALE_SECONDS", default=30.0)
#: Bytes of a request body.
MAX_BODY = env.int("GATEHOUSE_MAX_BODY", default=32 * 1024 * 1024)
#: Bytes of a backup that the admin API takes; a larger one is imported by the command.
MAX_IMPORT = env.int("GATEHOUSE_MAX_IMPORT", default=64 * 1024 * 1024)
#: Calls at once in one worker; one more is answered 503 `overloaded`.
MAX_CALLS = env.int("GATEHOUSE_MAX_CALLS", default=4096)
#: Seconds, each hop of an upstream call by its own limit (providers.types.Timeouts).
TIMEOUTS = {
    name: env.float(f"GATEHOUSE_TIMEOUT_{name.upper()}", default=seconds)
    for name, seconds in (
        ("connect", 3.0),
        ("first_byte", 120.0),
        ("between_chunks", 60.0),
        ("total", 1800.0),
    )
}
#: Seconds from a connection's beginning, or a later request's first byte, to the end of the request's head.
HEAD_SECONDS: float = env.float("GATEHOUSE_TIMEOUT_HEAD", default=10.0)
#: Seconds in which some more of a request's body must come.
BODY_IDLE_SECONDS: float = env.float("GATEHOUSE_TIMEOUT_BODY_IDLE", default=20.0)
#: Seconds that running streams get after SIGTERM.
DRAIN_SECONDS = env.int("GATEHOUSE_TIMEOUT_DRAIN", default=300)
#: Seconds of listening on after SIGTERM with readiness already gone, so that a balancer notices.
PRE_DRAIN_SECONDS = env.float("GATEHOUSE_TIMEOUT_PRE_DRAIN", default=5.0)

# --- what runtime settings begin with (tenants/setting_services.py) -----------------------------------------------------

#: Days for which the log of calls is kept; 0 is for ever.
RETENTION_DAYS = env.int("GATEHOUSE_RETENTION_DAYS", default=90)
#: Days for which audit rows stay in the database; 0 is for ever.
AUDIT_RETENTION_DAYS = env.int("GATEHOUSE_AUDIT_RETENTION_DAYS", default=0)
#: Whether bodies of calls may be kept at all.
CONTENT_LOGGING = env.bool("GATEHOUSE_CONTENT_LOGGING", default=True)
#: What is shown of the limits of time, those included that only a restart changes.
TIMEOUTS_TOLD = {
    **TIMEOUTS,
    "head": HEAD_SECONDS,
    "body_idle": BODY_IDLE_SECONDS,
    "drain": DRAIN_SECONDS,
}
#: Where audit rows go when their time is over. Empty: housekeeping leaves them where they are.
AUDIT_SEGMENTS = env.str("GATEHOUSE_AUDIT_SEGMENTS", default=str(VAR / "audit-segments"))
#: Whether workers do the housekeeping. Off: cron does, by `manage.py housekeeping`.
HOUSEKEEPING = env.bool("GATEHOUSE_HOUSEKEEPING", default=True)
#: Seconds between looks at how each provider is. 0: nobody looks.
PROBE_SECONDS: float = env.float("GATEHOUSE_PROBE_SECONDS", default=60.0)
if not 0 <= PROBE_SECONDS <= 86_400:
    raise ImproperlyConfigured("GATEHOUSE_PROBE_SECONDS must be from 0 (nobody looks) to 86400.")
#: Variables that are set, and so lock the settings that they begin.
SET_BY_ENVIRONMENT = frozenset(
    name
    for name in (
        "GATEHOUSE_RETENTION_DAYS",
        "GATEHOUSE_AUDIT_RETENTION_DAYS",
        "GATEHOUSE_CONTENT_LOGGING",
        *(f"GATEHOUSE_TIMEOUT_{name.upper()}" for name in TIMEOUTS_TOLD),
    )
    if name in env.ENVIRON or f"{name}_FILE" in env.ENVIRON
)

# --- the configuration file --------------------------------------------------------------------------------------------


def _config_file() -> Path | None:
    text: str = env.str("GATEHOUSE_CONFIG", default="")
    return Path(text).absolute() if text else None


def _config_secret(name: str) -> str:
    """What a configuration file means by `{env: NAME}`; empty when it is not set."""
    return str(env.str(name, default=""))


#: Applied when a server starts. None: there is no such file.
CONFIG_FILE = _config_file()
CONFIG_SECRET = _config_secret

# --- the first run: nobody else needs what is in the environment for other programs ------------------------------------

FIRST_RUN_PROVIDERS: dict[str, first_run.Found] = {}
FIRST_RUN_UNUSED: list[str] = []
if QUICKSTART:
    FIRST_RUN_PROVIDERS = first_run.found_providers(lambda name: env.str(name, default=""))
    FIRST_RUN_UNUSED = first_run.unused_keys(lambda name: env.str(name, default=""))

# --- database and shared state ----------------------------------------------------------------------------------------

_DATABASE_SCHEMES = {"sqlite", "postgres", "postgresql"}
_REDIS_SCHEMES = {"redis", "rediss", "unix"}


def _url(name: str, text: str, schemes: set[str]) -> str:
    """An address of a kind we know. It may hold a password, so it is judged before any library could complain of it."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in schemes and "://" in text
        # `sqlite://:memory:` has no port, whatever it looks like.
        good = good and (parts.scheme == "sqlite" or parts.port != 0)
    except ValueError:
        good = False
    if text and not good:
        forms = " or ".join(f"{scheme}://…" for scheme in sorted(schemes))
        raise ImproperlyConfigured(f"{name} is no address like {forms}.")
    return text


DATABASE_URL = _url(
    "DATABASE_URL",
    env.str("DATABASE_URL", default=f"sqlite:///{VAR / 'gatehouse.sqlite3'}"),
    _DATABASE_SCHEMES,
)
if not DATABASE_URL:
    raise ImproperlyConfigured("DATABASE_URL is empty: leave it out, or say which database.")
DATABASES = {"default": env.db_url_config(DATABASE_URL)}
_database = DATABASES["default"]
_POOL = env.int("GATEHOUSE_DB_POOL", default=12)
#: Connections of a worker that nobody else may take: four look-ups, the watch on changes, the flusher, two keepers of limits.
_POOL_OF_THE_RELAY = 8
#: Requests that Django works on at once in one worker; each may hold a connection.
DJANGO_SEATS = max(2, _POOL - _POOL_OF_THE_RELAY)
#: For a process that serves. Commands are not bounded: a migration may take its time.
SERVING_OPTIONS = "-c statement_timeout=15s -c lock_timeout=5s"
#: Seconds that a serving process waits for one answer of PostgreSQL: a little longer than it lets a statement run.
ANSWER_SECONDS = 18.0
if _database["ENGINE"].endswith("sqlite3"):
    _database["ENGINE"] = "tenants.fair_sqlite3"
    _database["OPTIONS"] = {
        # A transaction takes its write lock when it begins: upgrading later fails at once, whatever the time limit.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # Checkpoints at every 16 MiB instead of 4: a page that many batches write to is copied into the file once for all.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA recursive_triggers=ON;"
        " PRAGMA mmap_size=0; PRAGMA wal_autocheckpoint=4000;",
    }
else:
    # A server that restarted leaves dead connections in the pool: each is looked at before it is used.
    _database["CONN_HEALTH_CHECKS"] = True
    _database["OPTIONS"] = {
        "connect_timeout": 3,
        # Milliseconds; a machine that vanished answers nothing at all, not even no.
        "tcp_user_timeout": 10_000,
        **_database.get("OPTIONS", {}),
        "pool": {
            "min_size": 0,
            "max_size": _POOL,
            "connection_class": patience.Connection,
            "timeout": 2,
            # The pool doubles its pause with every failure; given up early, it tries again whenever somebody asks.
            "reconnect_timeout": 0.5,
        },
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
#: Redis or Valkey; empty means none. `REDIS_PREFIX` goes before every key *and channel*.
REDIS_URL = _url("REDIS_URL", env.str("REDIS_URL", default=""), _REDIS_SCHEMES)
REDIS_PREFIX = env.str("GATEHOUSE_REDIS_PREFIX", default="gatehouse:")

# --- Django -----------------------------------------------------------------------------------------------------------

INSTALLED_APPS = [
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "csp",
    "rest_framework",
    "tenants",
    "keys",
    "providers",
    "usage",
    "gateway",
]
MIDDLEWARE = [
    "gateway.metrics.middleware.Before",
    "gateway.middleware.RequestContext",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "gateway.console_middleware.Headers",
    "gateway.console_middleware.Door",
    "django.middleware.common.CommonMiddleware",
    "gateway.console_middleware.Sessions",
    "gateway.console_middleware.Forms",
    "gateway.console_middleware.Authentication",
    "gateway.console_middleware.Messages",
    "gateway.metrics.middleware.After",
]
#: Seconds. Each view that is asked for has a series for each of them.
PROMETHEUS_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ROOT_URLCONF = "gateway.urls"
ASGI_APPLICATION = "gateway.asgi.application"
AUTH_USER_MODEL = "tenants.User"
PASSWORD_HASHERS = [
    "tenants.passwords.Argon2Hasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
SHORTEST_PASSWORD = 10
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": SHORTEST_PASSWORD},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "gateway.console_frame.frame",
            ]
        },
    }
]
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "static-built"
#: Only what is ours: the stock admin's own pages, whose files these would be, are not used.
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "gateway.static_files.Storage"},
}
LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
APPEND_SLASH = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

_behind_tls = PUBLIC_URL.startswith("https://")
# Only what a trusted proxy said gets as far as this (gateway/middleware.py).
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# The platform probes /livez over plain HTTP behind the proxy, so the redirect belongs to the proxy, not to us.
SECURE_SSL_REDIRECT = False
SECURE_HSTS_SECONDS = 31_536_000 if _behind_tls else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = False
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# A TLS proxy in front owns the redirect (W008) and decides about subdomains and preloading (W005, W021). Forms are checked by
# our own subclass of Django's middleware, which the check does not know by name (W003).
SILENCED_SYSTEM_CHECKS = ["security.W003", "security.W005", "security.W008", "security.W021"]

# --- the console ------------------------------------------------------------------------------------------------------

#: Nobody is believed but whom `tenants.sign_in` let in, which is audited; Django's own ways to sign in have no back-end.
AUTHENTICATION_BACKENDS: list[str] = []
LOGIN_URL = "console:sign-in"
SESSION_ENGINE = "tenants.sessions"
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
#: What they are called over plain HTTP on this machine. Over TLS each has `__Host-` before it (gateway/console_middleware.py).
SESSION_COOKIE_NAME = "gatehouse_session"
CSRF_COOKIE_NAME = "gatehouse_form"
THEME_COOKIE_NAME = "gatehouse_theme"
CSRF_COOKIE_AGE = None
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "gateway.refusals.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "img-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["gateway.api.authentication.OperatorAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["gateway.api.permissions.OperatorPermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["gateway.api.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "gateway.api.negotiation.AlwaysJSON",
    "EXCEPTION_HANDLER": "gateway.api.errors.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
}

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"redact": {"()": "gateway.logs.RedactionFilter"}},
    "formatters": {"json": {"()": "gateway.logs.JSONFormatter"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "json",
            "filters": ["redact"],
        }
    },
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # These would print request lines and headers of calls to providers.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
    },
}
