"""`backup export|import`: the whole house or one tenant as a file without a clear secret, and back.

`import --preview` exits 0 when such an import would be carried out, 1 when not. It needs no more than a look at the database.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from django.core.management.base import CommandParser

from gateway.api.bodies.backup import outcome_body
from gateway.backup import services
from gateway.backup.services import Manner
from tenants.commands import Actions, HouseCommand, Options, shell_actor
from tenants.errors import Invalid


class Command(HouseCommand):
    help = "Backups: export, import."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        export = actions.add("export", self.export, "Write everything but clear secrets.")
        export.add_argument("--output", metavar="FILE", help="A new file; else standard output.")
        export.add_argument("--with-logs", action="store_true", help="Calls and money lines too.")
        export.add_argument("--tenant", help="Only what belongs to this tenant: its id or slug.")
        importing = actions.add("import", self.import_file, "Put a backup in: all or nothing.")
        importing.add_argument("file", metavar="FILE")
        importing.add_argument("--preview", action="store_true", help="Only say what would be.")
        importing.add_argument(
            "--remap-ids", action="store_true", help="Configuration with new ids, into this house."
        )
        importing.add_argument(
            "--on-conflict",
            choices=services.ON_CONFLICT,
            default=services.REFUSE,
            help="With new ids: when a name is taken here, refuse all, or keep what is here.",
        )
        importing.add_argument(
            "--accept-unreadable",
            action="store_true",
            help="Although the master key of the backup is not here.",
        )

    def export(self, options: Options) -> None:
        path = options["output"]
        with _sink(path) as file:
            end = services.export_backup(
                actor=shell_actor(),
                file=file,
                tenant=options["tenant"],
                with_logs=options["with_logs"],
                progress=self._progress,
            )
        if path:
            told = {"rows": end.rows, "tables": dict(end.tables), "sha256": end.digest.hex()}
            self.answer({**told, "output": path}, f"Wrote {end.rows} rows to {path}.")

    def import_file(self, options: Options) -> None:
        manner = Manner(
            remap_ids=options["remap_ids"],
            on_conflict=options["on_conflict"],
            accept_unreadable=options["accept_unreadable"],
        )
        asked: dict[str, Any] = {"actor": shell_actor(), "manner": manner}
        with _source(options["file"]) as file:
            if options["preview"]:
                outcome = services.preview_backup(file=file, **asked)
            else:
                outcome = services.import_backup(file=file, progress=self._progress, **asked)
        body = outcome_body(outcome, is_preview=options["preview"])
        self.answer(body, *_lines(body))
        if outcome.refusals:
            raise SystemExit(1)

    def _progress(self, count: int) -> None:
        if sys.stderr.isatty():
            self.tell(f"{count} rows …")


def _lines(body: dict[str, Any]) -> list[str]:
    is_preview = body["object"] == "backup_preview"
    verb = "would come" if is_preview else "came"
    lines = [f"Backup of {body['created_at']}, made by Gatehouse {body['product']}."]
    lines += [
        f"{label}: {counts['new']} of {counts['rows']} {verb}"
        + (f", {counts['existing']} are here already" if counts["existing"] else "")
        + (f", {counts['conflicts']} names are taken" if counts["conflicts"] else "")
        + (f", {counts['left_out']} left out" if counts["left_out"] else "")
        for label, counts in body["tables"].items()
    ]
    lines += [f"Taken: {each['table']} {each['name']!r}" for each in body["conflicts"]]
    lines += [f"Note: {sentence}" for sentence in body["warnings"]]
    lines += [f"Not possible: {sentence}" for sentence in body["refusals"]]
    if is_preview and body["possible"]:
        lines.append("An import like this would be carried out. Nothing was changed.")
    return lines


@contextmanager
def _source(path: str) -> Iterator[IO[bytes]]:
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as fault:
        raise Invalid.field("file", f"cannot be read: {fault.strerror}.") from None
    with file:
        if not file.seekable():
            raise Invalid.field("file", "must be a file: it is read more than once.")
        yield file


@contextmanager
def _sink(path: str | None) -> Iterator[IO[bytes]]:
    """A new file that only its owner reads, gone again if it does not get to its end; or standard output."""
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise Invalid.field("output", f"cannot be made: {fault.strerror}.") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise
