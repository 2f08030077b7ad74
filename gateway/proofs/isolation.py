"""The proof that tenants are apart: each tries everything at every door with the things of the other, and is answered as if there
were no such thing; and nothing of the other's has changed.

Two tenants have one of everything, a third has nothing but keys. Whoever tries has a key with every scope; then people of a
tenant, who sign in, try the admin API. The doors come from the URLconf itself, and each is tried with every method. What is
answered is compared with what is answered for names that nobody has.
"""

import asyncio
import secrets
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from django.apps import apps

from gateway.proofs import house, sides
from gateway.proofs.budget import until_told
from gateway.proofs.doors import Attempt, Door, Request, attempts, doors
from gateway.proofs.grounds import SQLITE, Grounds, ProofFailed
from gateway.proofs.house import House
from gateway.proofs.prying import Answer, Found, Pryer, Read, Side, belongings
from gateway.proofs.witness import opened

_AT_ONCE: Final = 4
#: A key may make so many changes a minute (keys/self_service.py); before that another one goes on.
_CHANGES_OF_A_KEY: Final = 80
_QUIET_SECONDS: Final = 20.0
_PAUSE: Final = 0.5
_READS: Final = ("GET", "HEAD", "OPTIONS")
_MOST_SHOWN: Final = 50
#: What is open to people of a tenant, without what is about their own sign-in: to end that would end the trial.
_OF_PEOPLE: Final = "v1/admin/"
_OF_ONESELF: Final = "v1/admin/auth/"


@dataclass(frozen=True)
class Plan:
    """`database_url`: `sqlite`, or a PostgreSQL where a database may be made. `only`: doors whose route begins like that."""

    workers: int
    database_url: str = SQLITE
    only: str = ""


@dataclass
class Report:
    plan: Plan
    found: Found = field(default_factory=Found)
    doors: int = 0
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        return self.found.holds


def run(plan: Plan, tell: Callable[[str], object]) -> Report:
    """Raises ProofFailed when it could not be carried out, which is no verdict."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-prove-") as folder:
        name = f"gatehouse_prove_{secrets.token_hex(4)}"
        grounds = Grounds(Path(folder), plan.database_url, name)
        return asyncio.run(until_told(_prove(plan, grounds, tell)))


async def _prove(plan: Plan, grounds: Grounds, tell: Callable[[str], object]) -> Report:
    began = time.monotonic()
    password = secrets.token_urlsafe(24)
    tell(f"Starting {plan.workers} workers on an installation that will be thrown away.")
    async with (
        house.provider(grounds.folder / "provider.log", 1, 1, 0) as upstream,
        house.serving(grounds, plan.workers, {"LOG_LEVEL": "WARNING"}, password) as served,
    ):
        bearer = served.api.http.headers["authorization"]
        with _Admin(served.port, bearer) as admin:
            trial = _Trial(plan, served, admin, tell)
            await asyncio.to_thread(trial.run, f"http://127.0.0.1:{upstream}/v1")
    trial.report.seconds = time.monotonic() - began
    return trial.report


class _Admin(httpx.Client):
    """The admin API as its operator. Raises ProofFailed for whatever is no success."""

    def __init__(self, port: int, bearer: str) -> None:
        super().__init__(
            base_url=f"http://127.0.0.1:{port}/v1/admin/",
            headers={"authorization": bearer},
            trust_env=False,
            timeout=30,
        )

    def __call__(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        return house.checked(self.request(method, path, json=body))


class _Person(httpx.Client):
    """Somebody of a side, with the token of a sign-in."""

    def __init__(self, port: int, bearer: str = "") -> None:
        super().__init__(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        self.headers["authorization"] = f"Bearer {bearer}"

    def ask(self, request: Request) -> Answer:
        answer = self.request(
            request.method,
            request.path,
            content=request.body,
            headers={"content-type": "application/json"},
        )
        return Answer(answer.status_code, dict(answer.headers), answer.content)


class _Holder(_Person):
    """Whoever holds keys of a side, and takes a new one when the old has made enough changes."""

    def __init__(self, port: int, admin: sides.Admin, side: Side) -> None:
        super().__init__(port)
        self._admin = admin
        self._side = side
        self._changes = _CHANGES_OF_A_KEY

    def ask(self, request: Request) -> Answer:
        if request.method not in _READS:
            self._changes += 1
        if self._changes >= _CHANGES_OF_A_KEY:
            self.headers["authorization"] = f"Bearer {sides.key_of(self._admin, self._side)}"
            self._changes = 0
        return super().ask(request)


#: Comes in with a credential of whoever tries.
Enter = Callable[[], _Person]


def _is_of_people(door: Door) -> bool:
    return door.route.startswith(_OF_PEOPLE) and not door.route.startswith(_OF_ONESELF)


class _Trial:
    """On one installation, one pair after the other."""

    def __init__(
        self, plan: Plan, served: House, admin: _Admin, tell: Callable[[str], object]
    ) -> None:
        self._served = served
        self._admin = admin
        self._tell = tell
        self.report = Report(plan)

    def run(self, base_url: str) -> None:
        one, two = (
            sides.furnished(self._admin, self._call, base_url, label) for label in ("one", "two")
        )
        third = sides.bare(self._admin)
        found = doors(self.report.plan.only)
        self.report.doors = len(found)
        read, close = opened(self._served.database_url)
        try:
            # People first: what keys ask for by the other's names stands, refused, in their own tenant's log, and there its
            # people would rightly find it.
            theirs = [door for door in found if _is_of_people(door)]
            for tries, role, suffers in ((one, "owner", two), (two, "member", one)):
                if theirs:
                    who, enter = f"{role} of {tries.label}", self._person(tries, role)
                    self._pair(who, tries, suffers, theirs, read, enter)
            for tries, suffers in ((one, two), (two, one), (third, one)):
                self._pair(tries.label, tries, suffers, found, read, self._holder(tries))
        finally:
            close()

    def _holder(self, side: Side) -> Enter:
        return lambda: _Holder(self._served.port, self._admin, side)

    def _person(self, side: Side, role: str) -> Enter:
        token = sides.signed_in(self._admin, side, role)
        return lambda: _Person(self._served.port, token)

    def _pair(
        self, who: str, tries: Side, suffers: Side, found: Sequence[Door], read: Read, enter: Enter
    ) -> None:
        who = f"{who} against {suffers.label}"
        before = self._quiet(read, suffers)
        everything = [it for door in found for it in attempts(door, suffers.names, tries.own)]
        self._tell(f"{who}: {len(everything):,} attempts at {len(found)} doors.")
        self._all_at_once(who, enter, suffers, everything)
        after = self._quiet(read, suffers)
        for table in (name for name, digest in after.items() if digest != before[name]):
            self.report.found.fault(f"{who}: rows of {table} have changed")

    def _call(self, key: str, model: str, correlation: str, trace: str) -> str:
        """A call of that key; its own id, once it is in the log."""
        answer = httpx.post(
            f"http://127.0.0.1:{self._served.port}/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": "Whose is it?"}]},
            headers={
                "authorization": f"Bearer {key}",
                "x-request-id": correlation,
                "traceparent": f"00-{trace}-{secrets.token_hex(8)}-01",
            },
            trust_env=False,
            timeout=30,
        )
        if answer.status_code != 200:
            raise ProofFailed(f"A call was answered {answer.status_code}: {answer.text[:200]}")
        deadline = time.monotonic() + _QUIET_SECONDS
        while not (rows := self._admin("GET", f"logs?trace_id={trace}")["data"]):
            if time.monotonic() > deadline:
                raise ProofFailed("A call did not get into the log.")
            time.sleep(_PAUSE / 10)
        return str(rows[0]["id"])

    def _all_at_once(
        self, who: str, enter: Enter, suffers: Side, everything: Sequence[Attempt]
    ) -> None:
        shares = [everything[number::_AT_ONCE] for number in range(_AT_ONCE)]

        def work(share: Sequence[Attempt]) -> Found:
            found = Found()
            with enter() as visitor:
                Pryer(who, visitor.ask, suffers, found).pry(share)
            return found

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for found in pool.map(work, shares):
                self.report.found.add(found)

    def _quiet(self, read: Read, side: Side) -> dict[str, str]:
        """What belongs to a side, once nothing of it changes by itself any more: its own calls are settled."""
        tables = [model._meta.db_table for model in apps.get_models()]
        deadline = time.monotonic() + _QUIET_SECONDS
        seen = belongings(read, tables, side)
        while True:
            time.sleep(_PAUSE)
            again = belongings(read, tables, side)
            if again == seen:
                return seen
            if time.monotonic() > deadline:
                raise ProofFailed(f"What {side.label} has does not come to rest.")
            seen = again


def data(report: Report) -> dict[str, Any]:
    """For `--json`."""
    found = report.found
    return {
        "holds": report.holds,
        "database": "sqlite" if report.plan.database_url == SQLITE else "postgres",
        "workers": report.plan.workers,
        "doors": report.doors,
        "attempts": found.attempts,
        "requests": found.requests,
        "methods": sorted(found.methods),
        "statuses": {str(status): count for status, count in sorted(found.statuses.items())},
        "leaks": len(found.faults),
        "seconds": round(report.seconds, 1),
        "faults": found.faults[:_MOST_SHOWN],
    }


def lines(report: Report) -> list[str]:
    """For people."""
    found, plan = report.found, report.plan
    kind = "SQLite" if plan.database_url == SQLITE else "PostgreSQL"
    statuses = ", ".join(
        f"{count:,} × {status}" for status, count in sorted(found.statuses.items())
    )
    rows = {
        "Proved on": f"{kind}, {plan.workers} workers",
        "Doors": f"{len(found.routes)} of {report.doors}, by {', '.join(sorted(found.methods))}",
        "Attempts": f"{found.attempts:,}, with {found.requests:,} requests",
        "Answers": statuses,
        "Leaks": str(len(found.faults)),
    }
    end = "The tenants are apart" if report.holds else f"{len(found.faults)} faults"
    return [
        *(f"{name:<12} {value}" for name, value in rows.items()),
        *(f"✗ {fault}" for fault in found.faults[:_MOST_SHOWN]),
        f"{end}, in {report.seconds:.0f} s.",
    ]
