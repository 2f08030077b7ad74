"""`quickstart`: sets up what is missing, says where everything is, and serves. `make run` ends here."""

import socket
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from gateway import quickstart, server
from gateway.config_file import at_start
from gateway.quickstart import Prepared
from tenants import examples
from tenants.commands import HouseCommand, Options, add_json


class Command(HouseCommand):
    help = "Set up what is missing on this machine, say where everything is, and serve."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-serve", action="store_true", help="Set up and end.")
        add_json(parser)

    def run(self, options: Options) -> None:
        serves = not (self.as_json or options["no_serve"])
        if serves:
            self._check_port()
        prepared = quickstart.prepare(self.tell)
        at_start.apply_file()
        self.answer(_data(prepared), *_lines(prepared))
        if serves:
            self.stdout.flush()
            server.serve(_bind(), settings.WEB_CONCURRENCY)

    def _check_port(self) -> None:
        """Before anything is made: a port that is taken is the commonest reason for a first run to fail."""
        family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.HOST, settings.PORT))
            except OSError as fault:
                raise self.error(
                    f"Cannot listen on {settings.HOST}:{settings.PORT} ({fault.strerror});"
                    " PORT and HOST choose another place."
                ) from None


def _bind() -> str:
    host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
    return f"{host}:{settings.PORT}"


def _data(prepared: Prepared) -> dict[str, Any]:
    return {
        "url": settings.PUBLIC_URL,
        "console_url": f"{settings.PUBLIC_URL}/console/",
        "username": prepared.username,
        "password": prepared.password,
        "api_key": prepared.api_key,
        "tenant": prepared.tenant.slug,
    }


def _lines(prepared: Prepared) -> list[str]:
    lines = [
        "",
        f"Console   {settings.PUBLIC_URL}/console/",
        f"API       {settings.PUBLIC_URL}/v1",
        f"Operator  {prepared.username}",
    ]
    if prepared.password is not None:
        lines.append(f"Password  {prepared.password}   (shown this once; change it at sign-in)")
    else:
        lines.append(
            "Password  as it was; `manage.py operator reset-password"
            f" --username {prepared.username}` makes a new one"
        )
    if prepared.api_key is None:
        slug = prepared.tenant.slug
        lines.append(f"Key       `manage.py key issue --tenant {slug} --name NAME` makes another")
        return [*lines, ""]
    return [
        *lines,
        f"Key       {prepared.api_key}   (shown this once)",
        "",
        "Try it:",
        examples.curl(prepared.api_key, prepared.tenant.id),
        "",
    ]
