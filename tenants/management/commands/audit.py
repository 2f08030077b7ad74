"""`audit verify|export|heads|prune`: whether the log is what was written, the log itself, the ends of its chains; and taking its
oldest rows out of the database.

`verify` exits 0 when everything fits, 1 when a row was altered (the first one is named), 2 when rows or whole chains are
missing, 3 when the key is not available (wrong KEK, missing root secret), and will exit 4 for intents without an outcome;
this release writes no intents, so 4 does not occur. Bad usage exits 2 as everywhere; `--json` tells the two apart.
"""

import os
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from django.conf import settings
from django.core.management.base import CommandParser

from tenants import audit, audit_export, audit_marks, audit_prune, validation
from tenants.audit import Entry, Finding, Target, Verdict
from tenants.audit_export import Selection
from tenants.audit_prune import Outcome
from tenants.changes import note
from tenants.clock import SYSTEM
from tenants.commands import Actions, HouseCommand, Options, shell_actor
from tenants.errors import Invalid
from tenants.services import find_tenant

ALTERED: Final = 1
TRUNCATED: Final = 2
KEY_UNAVAILABLE: Final = 3
_EXIT_CODES: Final = {"altered": ALTERED, "truncated": TRUNCATED}
_MOST_DAYS: Final = 36_500
_ANCHORS_BYTES: Final = 32 * 1024 * 1024


class Command(HouseCommand):
    help = "The audit log: verify, export, heads, prune."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        verify = actions.add("verify", self.verify, "Recompute the chains.")
        verify.add_argument(
            "--anchors", metavar="FILE", help="Heads noted earlier by `audit heads`."
        )
        verify.add_argument(
            "--segments",
            metavar="DIR",
            help="Where pruned rows went: those files are read as well.",
        )
        export = actions.add("export", self.export, "Write the log as JSON lines.")
        export.add_argument("--since", help="A time like 2026-01-31T12:00:00Z.")
        export.add_argument("--until", help="Up to, and without, that time.")
        export.add_argument("--output", metavar="FILE", help="A new file; else standard output.")
        prune = actions.add(
            "prune", self.prune, "Take old rows out of the database, into files that verify."
        )
        before = prune.add_mutually_exclusive_group(required=True)
        before.add_argument("--before", metavar="TIME", help="Such as 2026-01-31T12:00:00Z.")
        before.add_argument(
            "--keep-days", metavar="N", type=_days, help="What is older than so many days goes."
        )
        prune.add_argument(
            "--output",
            metavar="DIR",
            default=settings.AUDIT_SEGMENTS,
            help="For the files (GATEHOUSE_AUDIT_SEGMENTS).",
        )
        prune.add_argument("--dry-run", action="store_true", help="Count, and change nothing.")
        for scoped in (verify, export, prune):
            scoped.add_argument("--scope", help="`platform`, or a tenant's id or slug; else all.")
        actions.add("heads", self.heads, "Print the chains' ends, to be kept elsewhere.")

    def verify(self, options: Options) -> None:
        anchors = _read_anchors(options["anchors"]) if options["anchors"] else None
        fault = audit_export.key_fault()
        if fault is not None:
            raise self.error(fault, code="key_unavailable", exit_code=KEY_UNAVAILABLE)
        scope = _scope(options["scope"])
        empty = audit_export.is_empty() and not anchors
        verdict = Verdict() if empty else audit.verify(anchors, scope)
        if options["segments"]:
            verdict.findings += [
                Finding("altered", mark.scope, mark.from_seq, sentence)
                for mark, sentence in audit_marks.wrong_files(Path(options["segments"]), scope)
            ]
        self._conclude(verdict)

    def _conclude(self, verdict: Verdict) -> None:
        code = min((_EXIT_CODES[finding.kind] for finding in verdict.findings), default=0)
        lines = [f"{verdict.rows} rows in {verdict.scopes} chains."]
        if verdict.pruned:
            lines.append(f"{verdict.pruned} rows before them were pruned, by marks that are ours.")
        lines += [
            f"{found.kind}: {found.scope} at {found.seq}: {found.sentence}"
            for found in verdict.findings
        ]
        findings = [
            {"kind": it.kind, "scope": it.scope, "seq": it.seq, "message": it.sentence}
            for it in verdict.findings
        ]
        self.answer(
            {
                "ok": code == 0,
                "rows": verdict.rows,
                "scopes": verdict.scopes,
                "pruned": verdict.pruned,
                "exit_code": code,
                "findings": findings,
            },
            *lines,
        )
        if code:
            self.as_json = False  # the answer is out already
            fault = next(it for it in verdict.findings if _EXIT_CODES[it.kind] == code)
            sentence = f"The audit log of {fault.scope} is {fault.kind} at {fault.seq}."
            raise self.error(sentence, exit_code=code)

    def export(self, options: Options) -> None:
        selection = Selection(
            _scope(options["scope"]),
            validation.moment("since", options["since"]),
            validation.moment("until", options["until"]),
        )
        with _sink(options["output"], self.stdout.write) as write:
            count = audit_export.write_lines(selection, write, self._progress)
        target = Target("audit", selection.scope or "all", "export")
        note(Entry(shell_actor(), "audit.exported", target, details={"rows": count}))
        if options["output"]:
            self.answer({"rows": count, "output": options["output"]}, f"Wrote {count} rows.")

    def prune(self, options: Options) -> None:
        before = (
            validation.moment("before", options["before"])
            if options["before"]
            else SYSTEM.now() - timedelta(days=options["keep_days"])
        )
        if before is None or not options["output"]:
            raise Invalid.field("output", "must be given: where the rows are to go.")
        scope = _scope(options["scope"])
        if options["dry_run"]:
            segments = audit_prune.old(before, scope)
            rows = sum(each.rows for each in segments)
            told = [
                {"scope": each.scope, "from_seq": each.first, "to_seq": each.last}
                for each in segments
            ]
            self.answer(
                {"dry_run": True, "rows": rows, "segments": told},
                *(f"{each.rows:>10}  {each.scope}" for each in segments),
                f"{rows} rows would go.",
            )
            return
        outcome = audit_prune.prune(
            actor=shell_actor(),
            before=before,
            folder=Path(options["output"]).absolute(),
            scope=scope,
            progress=lambda mark: self._progress(mark.to_seq),
        )
        self._tell_outcome(outcome)

    def _tell_outcome(self, outcome: Outcome) -> None:
        told = [
            {
                "scope": mark.scope,
                "from_seq": mark.from_seq,
                "to_seq": mark.to_seq,
                "file": mark.file,
                "digest": bytes(mark.digest).hex(),
            }
            for mark in outcome.marks
        ]
        self.answer(
            {
                "dry_run": False,
                "rows": outcome.rows,
                "segments": told,
                "refused": outcome.refused,
            },
            *(f"{mark.file}: rows {mark.from_seq} to {mark.to_seq}" for mark in outcome.marks),
            f"{outcome.rows} rows went.",
        )
        if outcome.refused:
            self.as_json = False  # the answer is out already
            scope, sentence = next(iter(outcome.refused.items()))
            raise self.error(f"{scope}: {sentence}", exit_code=ALTERED)

    def _progress(self, count: int) -> None:
        if sys.stderr.isatty():
            self.tell(f"{count} rows …")

    def heads(self, options: Options) -> None:
        self.as_json = True  # a list for a machine, always
        self.answer(audit_export.anchors_document())


def _scope(reference: str | None) -> str | None:
    """A tenant that is gone has its chain still, so an id that nobody has any more is a scope too."""
    if reference is None or reference == audit.PLATFORM or reference in audit.heads():
        return reference
    return audit.scope_of(find_tenant(reference).id)


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= _MOST_DAYS:
        raise ArgumentTypeError(f"must be between 1 and {_MOST_DAYS}")
    return days


def _read_anchors(path: str) -> audit.Anchors:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(_ANCHORS_BYTES + 1)
    except (OSError, UnicodeDecodeError):
        raise Invalid.field("anchors", "the file cannot be read.") from None
    if len(text) > _ANCHORS_BYTES:
        raise Invalid.field("anchors", f"the file is larger than {_ANCHORS_BYTES} bytes.")
    return audit_export.read_anchors(text)


@contextmanager
def _sink(path: str | None, standard: Callable[..., object]) -> Iterator[Callable[[str], object]]:
    """Where lines go: a new file that only its owner reads, or standard output."""
    if path is None:
        yield lambda line: standard(line, ending="")
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise Invalid.field("output", f"cannot be made: {fault.strerror}.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        yield file.write
