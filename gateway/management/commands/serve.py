"""`manage.py serve`: the server, on a machine that is set up."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway import server

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
        server.serve(options["bind"], options["workers"])
