"""What every command is built from: actions, one answer as text or JSON, one sentence when it cannot be done, an exit code.

Exit codes: 0 done · 1 refused or failed, with one sentence on standard error · 2 bad usage. A command that has more says so.
With `--json` the answer is one JSON line on standard output; a refusal is `{"error": {"code", "message", "fields"}}` there.
"""

import json
import os
import pwd
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from tenants.actor import Actor, command_actor
from tenants.errors import Invalid, ServiceError
from tenants.sealing import SealingError

Options = dict[str, Any]
Action = Callable[[Options], None]

REFUSED: Final = 1
_SECRET_FILE_BYTES: Final = 64 * 1024
#: Nothing that is easily taken for something else: these are read off one screen and typed into another.
_MAX_LISTED: Final = 1_000


class Error(CommandError):
    """What ends a command: Django prints it as `Error: sentence` and exits with `returncode`."""


class Actions:
    """The actions of a command that has several: `key issue`, `key list` …"""

    def __init__(self, parser: CommandParser) -> None:
        self._parsers = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(self, name: str, run: Action, help_text: str) -> CommandParser:
        # Options are written out: `--api-key` must not become `--api-key-file` with a credential for a path.
        parser: CommandParser = self._parsers.add_parser(
            name, help=help_text, description=help_text, allow_abbrev=False
        )
        parser.set_defaults(run=run)
        add_json(parser)
        return parser


def add_json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", help="One JSON line instead of text.")


def add_if_missing(parser: CommandParser) -> None:
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="Leave one of that name as it is, and succeed.",
    )


def add_limit(parser: CommandParser) -> None:
    parser.add_argument(
        "--limit",
        type=_listed,
        default=200,
        help=f"At most so many rows (1 to {_MAX_LISTED}; 200).",
    )


def _listed(text: str) -> int:
    number = int(text)
    if not 1 <= number <= _MAX_LISTED:
        raise ArgumentTypeError(f"must be between 1 and {_MAX_LISTED}")
    return number


class HouseCommand(BaseCommand):
    """A command of the house. Subclasses fill in `add_arguments`, and `run` unless they have `Actions`."""

    #: They belong to `manage.py check`: a fault in a URL must not keep anybody from revoking a key.
    requires_system_checks = []  # noqa: RUF012 - Django's own form of it
    as_json = False

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = bool(options.get("json"))
        action: Action = options.pop("run", None) or self.run
        try:
            action(options)
        except ServiceError as refusal:
            raise self.error(refusal.message, code=refusal.code, fields=refusal.fields) from None
        except SealingError:
            raise self.error(SEALED_SENTENCE, code="key_unavailable") from None
        except DatabaseError as fault:
            raise self.error(database_sentence(fault), code="database") from fault

    def run(self, options: Options) -> None:
        raise NotImplementedError

    def error(
        self,
        sentence: str,
        *,
        code: str = "failed",
        exit_code: int = REFUSED,
        fields: Mapping[str, str] | None = None,
    ) -> Error:
        """What to raise; with `--json` it has been said on standard output as well."""
        if self.as_json:
            self._line({"error": {"code": code, "message": sentence, "fields": dict(fields or {})}})
        return Error(sentence, returncode=exit_code)

    def answer(self, data: Mapping[str, Any], *lines: str) -> None:
        """The result: `data` as one JSON line, or `lines` for people."""
        if self.as_json:
            self._line(data)
            return
        for line in lines:
            self.stdout.write(line)

    def answer_rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """A list: all members as JSON, or the named ones as a table."""
        if self.as_json:
            self._line({"object": "list", "data": rows})
            return
        for line in table(rows, columns):
            self.stdout.write(line)

    def tell(self, sentence: str) -> None:
        """Progress and remarks: on standard error, so that the answer stays clean."""
        self.stderr.write(printable(sentence), self.style.NOTICE)

    def _line(self, data: Mapping[str, Any]) -> None:
        self.stdout.write(json.dumps(data, ensure_ascii=False, default=plain))


def plain(value: object) -> str:
    """How ids and times are written in JSON and tables."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form here.")


def printable(text: str) -> str:
    """What could steer a terminal, made visible. Names and addresses stay whole, however long."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else f"\\u{ord(character):04x}" for character in text
    )


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Aligned lines, headings first; whatever could steer a terminal is made visible."""
    cells = [[name.upper() for name in columns]]
    cells += [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return printable(",".join(str(item) for item in value))
    if isinstance(value, datetime | UUID):
        return plain(value)
    return printable(str(value))


SEALED_SENTENCE: Final = (
    "A secret in the database does not open. Is GATEHOUSE_KEK the one that it was made with?"
    " `manage.py doctor` tells more."
)


def database_sentence(fault: DatabaseError) -> str:
    """Never the database's own text, which may name hosts, users and values."""
    return (
        f"The database refused ({type(fault).__name__}). Is DATABASE_URL right, and has"
        " `manage.py migrate` been run? `manage.py doctor` tells more."
    )


def shell_user() -> str:
    """The account that the process runs as; the environment could claim anything."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def shell_actor() -> Actor:
    return command_actor(shell_user())


def read_secret(path: str, what: str, stdin: TextIO | None = None) -> str:
    """The one line in a file (`-`: standard input), so that no secret stands on a command line. Raises `Invalid`."""
    try:
        text = _secret_text(path, stdin or sys.stdin)
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise Invalid.field(what, f"the file cannot be read: {reason}.") from None
    if len(text) > _SECRET_FILE_BYTES:
        raise Invalid.field(what, f"the file is larger than {_SECRET_FILE_BYTES} bytes.")
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret or "\n" in secret:
        raise Invalid.field(what, "the file must hold exactly one line.")
    return secret


def _secret_text(path: str, stdin: TextIO) -> str:
    if path == "-":
        return stdin.read(_SECRET_FILE_BYTES + 1)
    with Path(path).open(encoding="utf-8", newline="") as file:
        return file.read(_SECRET_FILE_BYTES + 1)


def comma_list(text: str) -> list[str]:
    """`a,b` as an argument type; an empty entry is kept for the service to refuse."""
    return [part.strip() for part in text.split(",")]
