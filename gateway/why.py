"""Why a call went as it did: the questions it was asked on its way in, in their order, and what was answered.

From what its log row says, so it can be told as long as the log is kept, whatever has become of key, model and limits since.
"""

from typing import Final, Literal, NamedTuple

from usage.models import RequestLog
from usage.records import Why

Outcome = Literal["passed", "refused", "not asked"]

_FAILED: Final = 400
#: Of `Why.checked`: the caller's body was understood.
_READ: Final = "b"
#: Which question a refusal's code answers.
_QUESTIONS: Final = {
    "body_too_large": "request",
    "unsupported_media_type": "request",
    "idempotency_mismatch": "idempotency",
    "conflict": "idempotency",
    "not_replayable": "idempotency",
    "invalid_api_key": "key",
    "scope_missing": "scope",
    "address_not_allowed": "addresses",
    "model_not_allowed": "models",
    "model_not_found": "route",
    "not_ready": "route",
    "model_not_priced": "limits",
    "rate_limit_exceeded": "limits",
    "budget_exhausted": "limits",
    "balance_exhausted": "limits",
    "budget_held": "limits",
    "ledger_unavailable": "journal",
}
_ORDER: Final = (
    *("key", "request", "scope", "addresses", "models", "route", "idempotency", "limits"),
    "journal",
)
_SENTENCES: Final = {
    "key": "The key is known, and neither it nor its tenant has ended.",
    "request": "The body is JSON of the right shape.",
    "scope": "The key has the scope inference.",
    "addresses": "The caller's address may use the key.",
    "models": "The key and its tenant may use the model, for this.",
    "route": "The model exists for this tenant and somebody serves it.",
    "idempotency": "No Idempotency-Key, or one that is this call's.",
    "limits": "Every level has enough left.",
    "journal": "The call could be recorded.",
}
_REFUSALS: Final = {
    "key": "The key is not known, or it or its tenant has ended.",
    "request": "The body is not JSON of the right shape.",
    "scope": "The key does not have the scope inference.",
    "addresses": "The caller's address may not use the key.",
    "models": "The key or its tenant may not use the model, or not for this.",
    "route": "The model does not exist for this tenant, or nobody serves it.",
    "idempotency": "The Idempotency-Key is another call's.",
    "limits": "A level does not have enough left, or the model has no price.",
    "journal": "The call could not be recorded.",
}
#: The letters of `Why.checked` that say that there was a list.
_LISTS: Final = {"addresses": {"a"}, "models": {"m", "c"}}
_NO_LIST: Final = {"addresses": "No list: any address.", "models": "No list: any model."}


class Check(NamedTuple):
    """One question. `sentence` says what the answer means; of a question that was not asked, what a yes would have."""

    name: str
    outcome: Outcome
    sentence: str


class Limit(NamedTuple):
    """One limit that counted, and what was left of it before the call and after its take, as far as its worker had heard of
    others. `limit` 0: unknown. `unit` is `usd` for amounts in nano-USD.
    """

    level: str
    what: str
    limit: int
    before: int
    after: int

    @property
    def unit(self) -> str:
        return "usd" if self.what.startswith("nano_usd") else "count"

    @property
    def name(self) -> str:
        """`what`, as one says it."""
        return self.what.replace("nano_usd", "cost")


def checks_of_row(row: RequestLog, why: Why | None) -> list[Check]:
    """The questions that the call of this log row was asked."""
    was_refused = not row.attempts and row.status >= _FAILED
    return checks_of(why, row.error_code if was_refused else "")


def checks_of(why: Why | None, error_code: str) -> list[Check]:
    """The questions that a call was asked which was refused with this code, or empty: which was not."""
    refused = _refused_by(error_code, why)
    found = []
    outcome: Outcome = "passed"
    for name in _ORDER:
        if name == refused:
            outcome = "refused"
        elif outcome == "refused":
            outcome = "not asked"
        found.append(Check(name, outcome, _sentence(name, outcome, why)))
    return found


def of_a_dry_run(checks: list[Check]) -> list[Check]:
    """A dry run is no call that could be repeated or recorded."""
    skipped = ("idempotency", "journal")
    return [each._replace(outcome="not asked") if each.name in skipped else each for each in checks]


def limits_of(why: Why | None) -> list[Limit]:
    """The limits that counted, with what was left of each."""
    return [Limit(*taken) for taken in (why.taken if why is not None else ())]


def _refused_by(error_code: str, why: Why | None) -> str | None:
    """The question whose answer was no; None when it was not one of these that ended the call."""
    was_read = why is not None and _READ in why.checked
    was_routed = why is not None and bool(why.candidates)
    if error_code == "invalid_request":
        return "idempotency" if was_routed else "route" if was_read else "request"
    if error_code == "not_ready" and was_routed:
        return None
    return _QUESTIONS.get(error_code)


def _sentence(name: str, outcome: Outcome, why: Why | None) -> str:
    if outcome == "refused":
        return _REFUSALS[name]
    if why is not None and name in _NO_LIST and not _LISTS[name] & set(why.checked):
        return _NO_LIST[name]
    return _SENTENCES[name]
