"""Starting gunicorn from within Python, so that one command serves and nothing needs a shell."""

import gc
import logging
from typing import Any

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgresWrapper
from django.urls import get_resolver
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from gateway import compiled, static_files
from gateway.asgi import application
from gateway.metrics.shared import SharedFiles
from gateway.worker import Worker, after_fork
from tenants import patience

logger = logging.getLogger(__name__)

_HEARTBEAT_SECONDS = 30
_KEEP_ALIVE_SECONDS = 65
_MARGIN_SECONDS = 45


class JSONLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines go through our handlers: one line of JSON each."""

    def setup(self, cfg: Any) -> None:
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        for log in (self.error_log, self.access_log):
            log.propagate = True
            log.handlers.clear()
            log.setLevel(settings.LOG_LEVEL)


class _Server(BaseApplication):  # type: ignore[misc]
    def __init__(self, bind: str, workers: int) -> None:
        self._bind = bind
        self._workers = workers
        self._counters = SharedFiles(settings.VAR / "metrics")
        super().__init__()

    def load_config(self) -> None:
        for name, value in {
            "bind": self._bind,
            "workers": self._workers,
            "worker_class": Worker,
            "pre_fork": self._counters.assign_seat,
            "post_fork": self._after_fork,
            "child_exit": self._counters.clear_seat,
            "on_exit": self._on_exit,
            "logger_class": JSONLogger,
            "proc_name": "gatehouse",
            "timeout": _HEARTBEAT_SECONDS,
            "keepalive": _KEEP_ALIVE_SECONDS,
            "graceful_timeout": int(
                settings.PRE_DRAIN_SECONDS + settings.DRAIN_SECONDS + _MARGIN_SECONDS
            ),
            "limit_request_fields": 100,
            "limit_request_field_size": 16_384,
            # Who may speak for a caller's address is decided in one place of ours (TRUSTED_PROXIES).
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
        }.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def _after_fork(self, arbiter: Any, worker: Worker) -> None:
        after_fork(arbiter, worker)
        self._counters.take_seat(worker)

    def _on_exit(self, arbiter: Any) -> None:
        self._counters.remove()

    def load(self) -> Any:
        return application


def _bound_waits() -> None:
    """From here on nobody waits for the database without end."""
    patience.bound_process(settings.ANSWER_SECONDS)
    if isinstance(default := connections[DEFAULT_DB_ALIAS], PostgresWrapper):
        # What DATABASE_URL says goes first: some poolers take no options at all.
        default.settings_dict["OPTIONS"].setdefault("options", settings.SERVING_OPTIONS)


def serve(bind: str, workers: int) -> None:
    """Serve until a signal ends it. `bind` is `host:port`. Nothing opened before the fork may be shared after it."""
    static_files.ensure_built()
    if not compiled.is_used() and compiled.look() == "stale":
        logger.warning("%s is of other sources, and not used: `make compile`.", compiled.FOLDER)
    for connection in connections.all(initialized_only=True):
        connection.close()
        if isinstance(connection, PostgresWrapper):
            # The pool belongs to the process, its threads do not survive a fork, and its sockets would be everybody's.
            connection.close_pool()
    _bound_waits()
    _share_memory()
    _Server(bind, workers).run()


def _share_memory() -> None:
    """What is loaded before the fork is there once for all workers, as long as nobody writes to it: the garbage collector does,
    to what it looks through. No module of ours opens anything when it is imported.
    """
    get_resolver().url_patterns  # noqa: B018 - imports every view
    gc.collect()
    gc.freeze()
