"""`manage.py serve`: the server, on a machine that is set up."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from gateway import server
from gateway.config_file import at_start
from tenants.commands import SEALED_SENTENCE, database_sentence
from tenants.errors import ServiceError
from tenants.sealing import SealingError

_MAX_WORKERS = 256


class Command(BaseCommand):
    help = "Serve the gateway: the data plane, the admin API, health."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default=f"{settings.HOST}:{settings.PORT}", help="host:port")
        parser.add_argument("--workers", type=int, default=settings.WEB_CONCURRENCY)

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["workers"] <= _MAX_WORKERS:
            raise CommandError(f"--workers must be between 1 and {_MAX_WORKERS}.")
        host, separator, port = options["bind"].rpartition(":")
        if not separator or not host or not port.isdigit():
            raise CommandError("--bind must be host:port.")
        self._apply_config()
        server.serve(options["bind"], options["workers"])

    def _apply_config(self) -> None:
        """Before the workers are made, so that it happens once."""
        try:
            at_start.apply_file()
        except ServiceError as refusal:
            raise CommandError(refusal.message) from None
        except SealingError:
            raise CommandError(SEALED_SENTENCE) from None
        except DatabaseError as fault:
            raise CommandError(database_sentence(fault)) from fault
