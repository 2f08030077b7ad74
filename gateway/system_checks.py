"""What `manage.py check` says about settings that are possible and not wise, each under an id that can be searched for.

Secrets are not here: a weak one stops the start (gateway/settings.py).

    gatehouse.E001  GATEHOUSE_ALLOWED_UPSTREAMS holds something that is neither a host nor a network
    gatehouse.E002  ALLOWED_HOSTS lets every Host header through                                      (--deploy)
    gatehouse.E003  TRUSTED_PROXIES trusts the whole world                                            (--deploy)
    gatehouse.W001  PUBLIC_URL is plain http to another machine                                       (--deploy)
    gatehouse.W002  several workers on an SQLite with the WAL-reset bug                               (--deploy)
    gatehouse.W003  secrets.env can be read by others                                                 (--deploy)
"""

import ipaddress
import sqlite3
import stat
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from gateway import first_run
from gateway.checks import has_wal_reset_bug
from tenants.outbound import AddressFilter

_LOCAL_NAMES = {"localhost", None}


def install() -> None:
    """Called once, when the apps are ready."""
    register(check_upstreams, Tags.security)
    for deployed in (check_hosts, check_proxies, check_public_url, check_sqlite, check_secrets):
        register(deployed, Tags.security, deploy=True)


def check_upstreams(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    try:
        AddressFilter(settings.ALLOWED_UPSTREAMS)
    except ValueError as fault:
        return [Error(f"GATEHOUSE_ALLOWED_UPSTREAMS: {fault}", id="gatehouse.E001")]
    return []


def check_hosts(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    sentence = "ALLOWED_HOSTS holds '*': any site could name itself in links. List your names."
    return [Error(sentence, id="gatehouse.E002")]


def check_proxies(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    networks = [ipaddress.ip_network(text, strict=False) for text in settings.TRUSTED_PROXIES]
    if all(network.prefixlen for network in networks):
        return []
    sentence = "TRUSTED_PROXIES trusts everybody: any caller could claim any address."
    return [Error(sentence, id="gatehouse.E003")]


def check_public_url(
    app_configs: Sequence[AppConfig] | None = None, **_: Any
) -> list[CheckMessage]:
    url = urlsplit(settings.PUBLIC_URL)
    if url.scheme == "https" or url.hostname in _LOCAL_NAMES or _is_loopback(str(url.hostname)):
        return []
    sentence = (
        "PUBLIC_URL is plain http: keys and passwords would travel in clear. Put TLS in front."
    )
    return [Warning(sentence, id="gatehouse.W001")]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_sqlite(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    on_sqlite = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
    affected = has_wal_reset_bug(sqlite3.sqlite_version_info)
    if not (on_sqlite and affected and settings.WEB_CONCURRENCY > 1):
        return []
    sentence = (
        f"SQLite {sqlite3.sqlite_version} has the WAL-reset bug and there are several workers:"
        " use 3.51.3 or newer, PostgreSQL, or one worker."
    )
    return [Warning(sentence, id="gatehouse.W002")]


def check_secrets(app_configs: Sequence[AppConfig] | None = None, **_: Any) -> list[CheckMessage]:
    path = settings.VAR / first_run.FILE_NAME
    if not path.is_file() or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        return []
    sentence = f"Others on this machine may read {path.name}; chmod 600 it."
    return [Warning(sentence, id="gatehouse.W003")]
