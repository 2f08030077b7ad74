"""`prove budget`, `prove isolation`: what is promised, carried out on a throw-away installation. It touches nobody's data."""

import secrets
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from django.core.management.base import CommandParser

from gateway.proofs import budget, isolation, report
from gateway.proofs.doors import doors
from gateway.proofs.grounds import SQLITE, ProofFailed
from gateway.proofs.report import Plan
from tenants.commands import Actions, HouseCommand, Options

_MAX_WORKERS: Final = 64
_MAX_CALLERS: Final = 4_000
_MAX_ROUNDS: Final = 100_000


class Command(HouseCommand):
    help = (
        "Prove on a throw-away installation that what is promised holds. Exits 1 when it does not."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        actions = Actions(parser)
        proof = actions.add(
            "budget",
            self.budget,
            "Many callers at once on one budget: it is never passed, and used up to the last call.",
        )
        add = proof.add_argument
        add("--workers", type=_count(_MAX_WORKERS), default=4, help="Worker processes (4).")
        add("--concurrency", type=_count(_MAX_CALLERS), default=512, help="Callers at once (512).")
        add("--rounds", type=_count(_MAX_ROUNDS), default=50, help="Budgets, one by one (50).")
        _add_database(proof)
        add("--redis-url", type=_address("redis", "rediss", "unix"))
        add("--seed", type=int, default=None, help="Repeats the same budgets in the same order.")
        proof = actions.add(
            "isolation",
            self.isolation,
            "Tenants try everything at every door with each other's things: it is as if there were none.",
        )
        add = proof.add_argument
        add("--workers", type=_count(_MAX_WORKERS), default=2, help="Worker processes (2).")
        _add_database(proof)
        add("--only", default="", metavar="ROUTE", help="Doors that begin like that: v1/keys.")

    def budget(self, options: Options) -> None:
        seed = options["seed"] if options["seed"] is not None else secrets.randbelow(1_000_000)
        plan = Plan(
            workers=options["workers"],
            concurrency=options["concurrency"],
            rounds=options["rounds"],
            database_url=options["database_url"],
            redis_url=options["redis_url"] or "",
            seed=seed,
        )
        try:
            found = budget.run(plan, self.tell)
        except ProofFailed as fault:
            raise self.error(str(fault)) from None
        self.answer(report.data(found), *report.lines(found))
        if not found.holds:
            self.as_json = False  # the answer is out already
            raise self.error(f"A budget did not hold: {found.faults[0]}.")

    def isolation(self, options: Options) -> None:
        plan = isolation.Plan(options["workers"], options["database_url"], options["only"])
        if not doors(plan.only):
            raise self.error("There is no door that begins like that.")
        try:
            found = isolation.run(plan, self.tell)
        except ProofFailed as fault:
            raise self.error(str(fault)) from None
        self.answer(isolation.data(found), *isolation.lines(found))
        if not found.holds:
            self.as_json = False  # the answer is out already
            told = found.found.faults
            raise self.error(f"Tenants are not apart: {told[0] if told else 'nothing was tried'}.")


def _add_database(proof: CommandParser) -> None:
    proof.add_argument(
        "--database-url",
        type=_address("sqlite", "postgres", "postgresql"),
        default=SQLITE,
        help="sqlite (a new file), or postgres://… of a server where a database may be made.",
    )


def _count(most: int) -> Callable[[str], int]:
    def count(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise ArgumentTypeError(f"must be a whole number between 1 and {most}")
        return int(text)

    return count


def _address(*schemes: str) -> Callable[[str], str]:
    """An address of one of these schemes, or the bare word `sqlite` where that is one of them."""

    def address(text: str) -> str:
        if text == SQLITE and SQLITE in schemes:
            return text
        if urlsplit(text).scheme not in set(schemes) - {SQLITE} or "://" not in text:
            known = [SQLITE] if SQLITE in schemes else []
            known += [f"{scheme}://…" for scheme in schemes if scheme != SQLITE]
            raise ArgumentTypeError(f"must be {' or '.join(known)}")
        return text

    return address
