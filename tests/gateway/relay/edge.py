"""An edge made of lists: what an exchange asked for is looked at, what it is to hear is said by the test."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from gateway.pictures import caller_of, levels_of
from gateway.relay import endpoints
from gateway.relay.asking import asked
from gateway.relay.exchange import Exchange
from gateway.relay.letters import Letters
from gateway.relay.ports import House, Slots
from gateway.snapshot import Known
from keys import tokens
from keys.chain import Chain, Identity, TenantKeyAuthenticator
from providers.credentials import SealedCredential, binding_of
from providers.dialects import openai
from providers.routing import Catalogue, OwnRoutes, Route, Serving, Upstream
from providers.types import Headers, Origin, PriceTag, Timeouts, UpstreamRequest
from tenants import sealing
from tenants.clock import from_unix_us
from tenants.limits import NO_LIMITS
from tenants.sealing import Secret
from tests.support.leases import HeldBank, held_leases
from usage.idempotency import Wish
from usage.journal import JournalUnavailable
from usage.leases import Leases
from usage.records import AttemptStarted, Intent, Record, Refusal, Settlement
from usage.wants import Want

PEPPER = Secret(b"p" * 32)
KEY = tokens.generate(tokens.Kind.TENANT_KEY).reveal().decode()
UPSTREAM_KEY = b"sk-upstream-0123456789abcdef"
PRICE = PriceTag(id=uuid4(), input=1_000_000_000, output=2_000_000_000)  # 1 and 2 USD per million


class FakeClock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.seconds = 1_000.0
        self.micros = 1_764_000_000_000_000

    def now(self) -> Any:
        return from_unix_us(self.micros)

    def unix_us(self) -> int:
        return self.micros

    def monotonic(self) -> float:
        return self.seconds


def upstream(name: str = "first", api_key: bytes | None = UPSTREAM_KEY) -> Upstream:
    purpose = Secret(b"k" * 32)
    bare = SealedCredential(uuid4(), 1, None, binding_of("openai", "https://a.example:443"), b"")
    sealed = sealing.seal(purpose, 1, bare.place(), api_key) if api_key else b""
    credential = SealedCredential(bare.id, 1, None, bare.binding, sealed) if api_key else None
    return Upstream(
        id=uuid4(),
        name=name,
        kind="openai",
        dialect=openai,
        origin=Origin("https", "a.example", 443),
        path="/v1",
        in_process=False,
        tenant_id=None,
        credential=credential,
        key=(1, purpose),
    )


def route(name: str = "m", *targets: Upstream, **more: Any) -> Route:
    fields: dict[str, Any] = {
        "capability": "chat",
        "is_active": True,
        "context_window": 1000,
        "max_output_tokens": 100,
        "prices": ((0, PRICE),),
        **more,
    }
    serving = tuple(Serving(each, f"up-{name}") for each in (targets or (upstream(),)))
    return Route(name=name, targets=serving, **fields)


def identity(**changes: Any) -> Identity:
    fields: dict[str, Any] = {
        "tenant_id": uuid4(),
        "tenant": "acme",
        "key_id": uuid4(),
        "key_prefix": KEY[:10],
        "team": "",
        "project_id": None,
        "project": "",
        "account_id": None,
        "account": "",
        "scopes": frozenset({"inference", "usage"}),
        "allowed_models": (),
        "allowed_capabilities": None,
        "allowed_networks": (),
        "key_limits": NO_LIMITS,
        "project_limits": NO_LIMITS,
        "account_limits": NO_LIMITS,
        "tenant_limits": NO_LIMITS,
        "log_content": False,
        "valid_until": None,
        "ends_at": None,
        **changes,
    }
    return Identity(**fields)


def known(
    *routes: Route, who: Identity | None = None, own: OwnRoutes | None = None, content: bool = False
) -> Known:
    who = who or identity()
    return Known(
        identity=who,
        caller=caller_of(who),
        shared=Catalogue(routes or (route(),)),
        own=own or OwnRoutes(Catalogue(), None),
        levels=levels_of(who),
        content_key=(1, Secret(b"c" * 32)) if content else None,
    )


@dataclass
class Edge:
    """Answers a look-up with `found` at once; takes limits from real `Leases`, without their threads; keeps everything else
    for the test.
    """

    found: Any = None
    clock: FakeClock = field(default_factory=FakeClock)
    limits: Leases | None = None
    slots: int = 10
    journal_full_after: int = 10**9
    sends: bool = True
    writes: bool = True
    records: list[Record] = field(default_factory=list)
    requests: list[UpstreamRequest] = field(default_factory=list)
    aborted: int = 0
    unreadable_seen: list[UUID] = field(default_factory=list)
    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    finished: bool = False
    was_cut: bool = False
    reads_on: bool = False
    commits: int = 0
    wants_body: bool = False
    bank: HeldBank = field(default_factory=HeldBank)

    def __post_init__(self) -> None:
        self.leases = self.limits or held_leases(self.clock, self.bank)
        self.house = House(
            chain=Chain([TenantKeyAuthenticator(PEPPER)]),
            clock=self.clock,
            max_body=1_000_000,
            slots=Slots(self.slots),
            letters=Letters(Timeouts()),
        )
        self.wishes: list[Wish] = []
        self.unclaimed: list[UUID] = []
        self.exchange = Exchange(self, self.house)

    # --- what the exchange asks for
    def lookup(self, fingerprint: bytes) -> None:
        if self.found is not None:
            self.exchange.identified(self.found)

    def read_body(self, limit: int) -> None:
        self.wants_body = True

    def claim(self, wish: Wish) -> None:
        self.wishes.append(wish)

    def unclaim(self, claim: UUID) -> None:
        self.unclaimed.append(claim)

    def take(self, want: Want) -> None:
        now = self.clock.monotonic()
        lease = self.leases.at_hand(want, now)
        if lease is not None:
            self.exchange.taken(lease)
            return
        self.leases.take(want, now, self.exchange.taken, lambda: not self.exchange.is_over)

    def peek(self, want: Want) -> None:
        now = self.clock.monotonic()
        self.leases.peek(want, now, self.exchange.peeked, lambda: not self.exchange.is_over)

    def append(self, record: Record, attempt: AttemptStarted | None = None) -> None:
        records = [record] if attempt is None else [record, attempt]
        if len(self.records) + len(records) > self.journal_full_after:
            raise JournalUnavailable("full")
        self.records += records

    def commit(self) -> None:
        self.commits += 1

    def connect(self, upstream: Upstream, request: UpstreamRequest) -> None:
        self.requests.append(request)
        if self.sends:
            self.exchange.upstream_sent(0.0)

    def abort_upstream(self) -> None:
        self.aborted += 1

    def unreadable(self, upstream: Upstream) -> None:
        self.unreadable_seen.append(upstream.id)

    def start(self, status: int, headers: Headers) -> None:
        assert not self.status, "an answer begins once"
        self.status, self.headers = status, headers

    def relay(self, data: bytes) -> None:
        assert self.status, "no body before the head"
        assert not self.finished, "nothing after the end"
        self.body += data

    def finish(self) -> None:
        assert not self.finished, "an answer ends once"
        self.finished = True
        if self.writes:
            self.exchange.leave()

    def reply(self, status: int, headers: Headers, body: bytes) -> None:
        self.start(status, headers)
        self.relay(body)
        self.finish()

    def read_on(self) -> None:
        self.reads_on = True

    def cut(self) -> None:
        self.was_cut = True
        if self.writes:
            self.exchange.leave()

    # --- what the test says
    def call(
        self, body: Any, headers: Headers | None = None, path: str = "/v1/chat/completions"
    ) -> "Edge":
        found = endpoints.find("POST", path)
        assert found is not None
        sent = headers if headers is not None else [(b"authorization", b"Bearer " + KEY.encode())]
        self.exchange.begin(asked(self.house.chain, *found, sent), "203.0.113.9")
        if self.wants_body:
            self.exchange.received(body if isinstance(body, bytes) else json.dumps(body).encode())
        return self

    def wait(self) -> "Edge":
        """Half a second, in which calls of these limits ask again."""
        for _ in range(10):
            self.clock.seconds += 0.05
            self.leases.look(self.clock.seconds)
        return self

    def answer(self, status: int, body: bytes, content_type: bytes = b"application/json") -> "Edge":
        self.exchange.upstream_head(status, [(b"content-type", content_type)])
        if body:
            self.exchange.upstream_bytes(body)
        self.exchange.upstream_end()
        return self

    def stream(self, *chunks: bytes) -> "Edge":
        self.exchange.upstream_head(200, [(b"content-type", b"text/event-stream; charset=utf-8")])
        for chunk in chunks:
            self.exchange.upstream_bytes(chunk)
        return self

    # --- what the test looks at
    @property
    def error(self) -> dict[str, Any]:
        return dict(json.loads(self.body)["error"])

    def header(self, name: str) -> str | None:
        return next((v.decode() for n, v in self.headers if n == name.encode()), None)

    def of_kind(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.records if isinstance(record, kind)]

    @property
    def intent(self) -> Intent:
        (one,) = self.of_kind(Intent)
        return one  # type: ignore[no-any-return]

    @property
    def settlement(self) -> Settlement:
        (one,) = self.of_kind(Settlement)
        return one  # type: ignore[no-any-return]

    def assert_nothing_left(self) -> None:
        """No seat taken, no lease held, every intent settled, every try accounted for."""
        assert self.house.slots.free == self.slots
        assert self.leases.taken == 0
        assert len(self.of_kind(Intent)) == len(self.of_kind(Settlement))
        tries = sum(len(settled.attempts) for settled in self.of_kind(Settlement))
        assert tries == len(self.of_kind(AttemptStarted))
        assert self.exchange.is_over
        assert self.finished or self.was_cut

    @property
    def refusal(self) -> Refusal:
        (one,) = self.of_kind(Refusal)
        return one  # type: ignore[no-any-return]
