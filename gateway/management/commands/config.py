"""`config plan|apply|rollback|show|lint`: what is configured, as a file."""

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandParser

from gateway.config_file import applying, exporting, shape, sources, telling
from gateway.config_file.faults import ConfigInvalid
from gateway.config_file.shape import Resolve, Wish
from tenants.commands import Actions, HouseCommand, Options, printable, shell_actor


class Command(HouseCommand):
    help = "The configuration as a file: plan, apply, rollback, show, lint."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        plan = actions.add("plan", self.plan, "Show what applying a file would change.")
        apply = actions.add("apply", self.apply, "Make everything that a file names as it says.")
        lint = actions.add("lint", self.lint, "Look a file over, without any database.")
        for reading in (plan, apply, lint):
            reading.add_argument("file", metavar="FILE", help="A path, or - for standard input.")
        for pruning in (plan, apply):
            pruning.add_argument(
                "--prune",
                action="store_true",
                help="Take away what the file named once and names no more.",
            )
        apply.add_argument("--base-revision", type=int, help="Refuse if another one is in force.")
        apply.add_argument("--keys-file", help="Append keys that are made to this file (0600).")
        rollback = actions.add("rollback", self.rollback, "Take back the revision in force.")
        rollback.add_argument("--revision", type=int, help="Refuse if another one is in force.")
        actions.add("show", self.show, "What is configured now, as a file without secrets.")

    def plan(self, options: Options) -> None:
        found = applying.plan(self._wish(options), shell_actor(), prune=options["prune"])
        self.answer(telling.plan_body(found), *map(printable, telling.plan_lines(found)))
        self._warn(found.warnings)

    def apply(self, options: Options) -> None:
        keys_file = options["keys_file"]
        more: dict[str, Any] = {"deliver": sources.into(Path(keys_file))} if keys_file else {}
        applied = applying.apply(
            self._wish(options),
            shell_actor(),
            prune=options["prune"],
            base_revision=options["base_revision"],
            **more,
        )
        body = telling.applied_body(applied)
        lines = [*map(printable, telling.plan_lines(applied.plan)), _outcome(applied)]
        if keys_file:
            body["keys"] = [{**key, "key": None} for key in body["keys"]]
        else:
            lines += [
                f"Key {key['tenant']}/{key['name']} (shown this once): {key['key']}"
                for key in body["keys"]
            ]
        self.answer(body, *lines)
        self._warn(applied.plan.warnings)

    def rollback(self, options: Options) -> None:
        done = applying.rollback(shell_actor(), revision=options["revision"])
        now = f"revision {done.current} is in force" if done.current else "no revision is in force"
        self.answer(
            telling.rolled_back_body(done), f"Revision {done.revision} is taken back; {now}."
        )
        self._warn(done.warnings)

    def show(self, options: Options) -> None:
        text = exporting.text()
        self.answer({"document": text}, text.rstrip("\n"))

    def lint(self, options: Options) -> None:
        wish = self._wish(options, sources.unlooked_at)
        self.answer(
            {"ok": True, "entries": len(wish.entries)},
            f"{len(wish.entries)} entries, and nothing wrong with them.",
        )

    def _wish(self, options: Options, resolve: Resolve | None = None) -> Wish:
        """With more than one fault, each is told on standard error."""
        path = Path(options["file"])
        is_piped = options["file"] == "-"
        text = sys.stdin.read() if is_piped else sources.read_file(path)
        folder = Path() if is_piped else path.parent
        try:
            return shape.read(text, resolve or sources.on_this_machine(folder))
        except ConfigInvalid as invalid:
            self._tell_faults(invalid)
            raise

    def _tell_faults(self, invalid: ConfigInvalid) -> None:
        for fault in invalid.faults[1:]:
            self.tell(str(fault))

    def _warn(self, warnings: list[str]) -> None:
        for warning in warnings:
            self.tell(warning)


def _outcome(applied: applying.Applied) -> str:
    if not applied.is_new:
        return "There is nothing to change."
    return f"Applied as revision {applied.revision}."
