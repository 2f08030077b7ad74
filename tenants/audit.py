"""The audit log: one row per decision, in the transaction of the change, chained per scope by HMAC.

row_hash = HMAC(key, prev_hash | canonical row); the row holds a digest of its details, so that details could be erased for
privacy without breaking the chain. A chain alone does not show a cut tail: the heads table and lists of heads kept elsewhere do.
"""

import hashlib
import json
import secrets
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import OperationalError, connection
from django.db.models import QuerySet

from tenants import audit_marks, keyring, redaction, sealing
from tenants.actor import Actor
from tenants.audit_marks import Cut, Fault
from tenants.clock import SYSTEM, to_unix_us
from tenants.models import AuditEvent, AuditHead, AuditPrune
from tenants.sealing import Secret

PLATFORM = "platform"
#: The action of the row that tells what went into a file.
PRUNED = "audit.pruned"
GENESIS = bytes(32)
_DETAIL_CHARACTERS = 256
_DETAIL_MEMBERS = 64
_PAGE = 2_000
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Target:
    """What was acted on, in text, so that the row outlives it."""

    kind: str
    id: str
    label: str = ""


@dataclass(slots=True)
class Entry:
    """A row to be: filled while the change happens, written when its outcome is known."""

    actor: Actor
    action: str
    target: Target
    scope: str = PLATFORM
    outcome: str = AuditEvent.Outcome.OK
    error_code: str = ""
    duration_ms: int = 0
    details: dict[str, Any] = field(default_factory=dict)


def scope_of(tenant_id: UUID | None) -> str:
    return str(tenant_id) if tenant_id else PLATFORM


def _redacted(value: object) -> Any:
    if isinstance(value, Mapping):
        members = list(value.items())[:_DETAIL_MEMBERS]
        return {clean_text(str(name), 64): _redacted(item) for name, item in members}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item) for item in list(value)[:_DETAIL_MEMBERS]]
    if value is None or isinstance(value, bool | int):
        return value
    return clean_text(str(value))


def clean_text(text: str, limit: int = _DETAIL_CHARACTERS) -> str:
    """Bounded, with control and direction characters made visible, and without what looks like a credential."""
    # Cut first, so that no input is long; composed first, for a letter in two parts would hide the shape of a credential.
    composed = unicodedata.normalize("NFC", text[: limit * 16])
    return redaction.visible(redaction.masked(composed))[:limit]


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_CHAINED_TEXTS = [
    "scope",
    "actor_type",
    "actor_id",
    "actor_label",
    "method",
    "action",
    "target_kind",
    "target_id",
    "target_label",
    "outcome",
    "error_code",
    "request_id",
    "source",
    "address",
    "user_agent",
]


def _canonical_row(event: AuditEvent) -> bytes:
    row: dict[str, Any] = {name: getattr(event, name) for name in _CHAINED_TEXTS}
    row |= {
        "id": str(event.id),
        "seq": event.seq,
        "created_at": to_unix_us(event.created_at),
        "duration_ms": event.duration_ms,
        "details_digest": bytes(event.details_digest).hex(),
    }
    return _canonical(row)


def _row_hash(key: Secret, event: AuditEvent) -> bytes:
    return sealing.mac(key, b"gwaud1", bytes(event.prev_hash), _canonical_row(event))


def _digest(salt: bytes, details: Mapping[str, Any]) -> bytes:
    return hashlib.sha256(salt + _canonical(details)).digest()


def chain_key(*, certain: bool = False) -> Secret:
    return keyring.platform_key(keyring.AUDIT, "audit-chain", certain=certain)


def locked_head(scope: str) -> AuditHead:
    """The end of the scope's chain, locked until commit: writers of one scope queue here."""
    AuditHead.objects.bulk_create(
        [AuditHead(scope=scope, seq=0, row_hash=GENESIS)], ignore_conflicts=True
    )
    return AuditHead.objects.select_for_update().get(pk=scope)


def write(entry: Entry) -> AuditEvent:
    """Append the row to its scope's chain. Must run inside the transaction of what it tells."""
    if not connection.in_atomic_block:
        raise RuntimeError("An audit row is written inside the transaction of the change.")
    head = locked_head(entry.scope)
    # Under the lock: a backup that was just restored brings its own key, and one wrong row would break the chain for good.
    key = chain_key(certain=True)
    details = _redacted(entry.details)
    salt = secrets.token_bytes(16)
    event = AuditEvent(
        scope=entry.scope,
        seq=head.seq + 1,
        created_at=SYSTEM.now(),
        actor_type=entry.actor.type,
        actor_id=clean_text(entry.actor.id, 64),
        actor_label=clean_text(entry.actor.label, 128),
        method=entry.actor.method,
        action=entry.action,
        target_kind=entry.target.kind,
        target_id=clean_text(entry.target.id, 64),
        target_label=clean_text(entry.target.label),
        outcome=entry.outcome,
        error_code=entry.error_code,
        duration_ms=entry.duration_ms,
        details=details,
        details_salt=salt,
        details_digest=_digest(salt, details),
        request_id=entry.actor.request_id,
        source=entry.actor.source,
        address=clean_text(entry.actor.address, 64),
        user_agent=clean_text(entry.actor.user_agent),
        prev_hash=bytes(head.row_hash),
    )
    event.row_hash = _row_hash(key, event)
    event.save(force_insert=True)
    AuditHead.objects.filter(pk=entry.scope).update(seq=event.seq, row_hash=event.row_hash)
    return event


# --- verification -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with a chain. `kind` is `altered` (a row does not fit) or `truncated` (rows are missing at the end)."""

    kind: str
    scope: str
    seq: int
    sentence: str


@dataclass(slots=True)
class Verdict:
    """`pruned`: rows that went into files before those that were read, by marks that are ours."""

    rows: int = 0
    scopes: int = 0
    pruned: int = 0
    findings: list[Finding] = field(default_factory=list)


#: Heads noted elsewhere, by scope: (seq, row hash in hex).
Anchors = Mapping[str, tuple[int, str]]


def heads() -> dict[str, tuple[int, str]]:
    """Every scope's newest row, to be kept off this machine and given to `verify` later."""
    return {head.scope: (head.seq, bytes(head.row_hash).hex()) for head in AuditHead.objects.all()}


def verify(anchors: Anchors | None = None, scope: str | None = None) -> Verdict:
    """Recompute every chain, from where it was pruned, and compare its end with the heads table and with `anchors`.

    Somebody may have written anything into the tables, also what a column's type does not allow: that is a finding too.
    """
    key = chain_key()
    verdict = Verdict()
    known, marked = (_scopes_in(rows, verdict) for rows in (AuditEvent, AuditPrune))
    stored_heads = _stored_heads(verdict)
    scopes = sorted({*known, *stored_heads, *marked, *(anchors or {})})
    for name in scopes if scope is None else [scope]:
        verdict.scopes += 1
        expected = [stored_heads[name]] if name in stored_heads else []
        if name in known and name not in stored_heads:
            last = AuditEvent.objects.filter(scope=name).count()
            sentence = "The head of this chain is missing."
            verdict.findings.append(Finding("truncated", name, last, sentence))
        expected += [anchors[name]] if anchors and name in anchors else []
        _verify_scope(key, name, expected, verdict)
    return verdict


def _scopes_in(table: type[AuditEvent | AuditPrune], verdict: Verdict) -> set[str]:
    """Every scope that has rows there."""
    try:
        scopes = table._default_manager.values_list("scope", flat=True).distinct()
        return {str(scope) for scope in scopes}
    except OperationalError as fault:
        if not _is_misread(fault):
            raise
        sentence = "A row names its chain by what is no text."
        verdict.findings.append(Finding("altered", "?", 0, sentence))
        return set()


def _stored_heads(verdict: Verdict) -> dict[str, tuple[int, str]]:
    found = {}
    rows: Any = AuditHead.objects.values_list("scope", "seq", "row_hash")
    for scope, seq, row_hash in rows:
        if type(seq) is int and type(row_hash) in {bytes, memoryview}:
            found[str(scope)] = (seq, bytes(row_hash).hex())
        else:
            sentence = "The head of this chain cannot be read."
            verdict.findings.append(Finding("altered", str(scope), 0, sentence))
    return found


def _verify_scope(
    key: Secret, scope: str, expected: list[tuple[int, str]], verdict: Verdict
) -> None:
    """Somebody may prune the chain while it is read: then it is read once more."""
    for _ in range(_ATTEMPTS):
        before, found = audit_marks.number(scope), Verdict()
        _verify_chain(key, scope, expected, found)
        if not found.findings or audit_marks.number(scope) == before:
            break
    verdict.rows += found.rows
    verdict.pruned += found.pruned
    verdict.findings += found.findings


def _verify_chain(
    key: Secret, scope: str, expected: list[tuple[int, str]], verdict: Verdict
) -> None:
    cut = audit_marks.cut_of(scope, GENESIS)
    if isinstance(cut, Fault):
        verdict.findings.append(Finding("altered", scope, cut.seq, cut.sentence))
        return
    previous, seq, is_noted = cut.row_hash, cut.seq, cut.mark is None
    verdict.pruned += cut.seq
    wanted = _wanted(expected, cut)
    if wanted.pop(cut.seq, {previous.hex()}) != {previous.hex()}:
        gone = "The last row that was pruned is not the one that was noted as head."
        verdict.findings.append(Finding("altered", scope, cut.seq, gone))
        return
    for event in _rows(scope):
        seq += 1
        verdict.rows += 1
        sentence = fault_of(key, event, seq, previous)
        if sentence is None and event is not None:
            previous = bytes(event.row_hash)
            is_noted = is_noted or _notes(event, cut)
            if wanted.pop(seq, set()) - {previous.hex()}:
                sentence = "The row is not the one that was noted as head."
        if sentence is not None:
            verdict.findings.append(Finding("altered", scope, seq, sentence))
            return
    if not is_noted:
        silent = "No row of the chain tells of what was pruned."
        verdict.findings.append(Finding("altered", scope, cut.seq, silent))
    _verify_end(scope, seq, max(wanted, default=0), verdict)


def _wanted(expected: list[tuple[int, str]], cut: Cut) -> dict[int, set[str]]:
    """What was noted of rows, by their number. What was pruned since is not there to be compared with: its file is."""
    wanted: dict[int, set[str]] = {}
    for noted_seq, noted_hash in expected:
        if noted_seq >= max(cut.seq, 1):
            wanted.setdefault(noted_seq, set()).add(noted_hash)
    return wanted


def _notes(event: AuditEvent, cut: Cut) -> bool:
    """Whether this is the row that tells of the newest mark."""
    mark = cut.mark
    return (
        mark is not None
        and (event.seq, event.action) == (mark.noted_seq, PRUNED)
        and event.target_id == str(mark.id)
    )


def _verify_end(scope: str, seq: int, noted: int, verdict: Verdict) -> None:
    """Whether the chain ends where it was noted to end: neither before nor after."""
    if noted > seq:
        sentence = f"The chain ends at {seq}, its head was {noted}."
        verdict.findings.append(Finding("truncated", scope, seq, sentence))
    # A row and the head that names it are committed together, so a head that is read after the rows is never behind them.
    head = AuditHead.objects.filter(pk=scope).values_list("seq", flat=True).first()
    if isinstance(head, int) and head < seq:
        sentence = f"There are rows after the head of this chain, which is {head}."
        verdict.findings.append(Finding("altered", scope, head + 1, sentence))


def fault_of(key: Secret, event: AuditEvent | None, seq: int, previous: bytes) -> str | None:
    """What is wrong with a row, in a sentence. Everything in it may be of any type."""
    if event is None:
        return "It cannot be read."
    if event.seq != seq:
        return _out_of_order(event.seq, seq)
    try:
        if bytes(event.prev_hash) != previous:
            return "It does not follow from the row before it."
        if _digest(bytes(event.details_salt), event.details) != bytes(event.details_digest):
            return "Its details were changed."
        if _row_hash(key, event) != bytes(event.row_hash):
            return "Its content was changed."
    except _MISREAD:
        return "It cannot be read."
    return None


def _out_of_order(found: object, expected: int) -> str:
    """Rows come in order, so one that comes too early is of before the chain's beginning."""
    if isinstance(found, int) and found < expected:
        return "A row that was pruned is there again."
    return f"Row {expected} is missing."


#: What reading a column can raise when it holds something that we never wrote.
_MISREAD = (ValueError, TypeError, AttributeError, OverflowError, RecursionError)


def _is_misread(fault: Exception) -> bool:
    """Whether the content was unreadable, not the database: SQLite says so of a text that is not UTF-8."""
    return isinstance(fault, _MISREAD) or "decode" in str(fault).lower()


def _rows(scope: str) -> Iterator[AuditEvent | None]:
    """The rows in order, a page in memory at a time; None for one that cannot be read, and then no more."""
    last = -1
    while True:
        rows = AuditEvent.objects.filter(scope=scope, seq__gt=last).order_by("seq")
        try:
            page = list(rows[:_PAGE])
        except (*_MISREAD, OperationalError) as fault:
            if not _is_misread(fault):
                raise
            yield from _until_unreadable(rows)
            return
        yield from page
        if len(page) < _PAGE:
            return
        last = page[-1].seq


def _until_unreadable(rows: QuerySet[AuditEvent]) -> Iterator[AuditEvent | None]:
    """One at a time, to find out which."""
    for seq in rows.values_list("seq", flat=True)[:_PAGE].iterator():
        try:
            event = rows.filter(seq=seq).get()
        except (*_MISREAD, OperationalError) as fault:
            if not _is_misread(fault):
                raise
            yield None
            return
        yield event
