"""What a call came to: the provider's word, an estimate, or nothing."""

import logging
from dataclasses import dataclass
from typing import Final

from gateway.relay.endpoints import Endpoint
from providers.dialects.base import CallBody, StreamWatcher
from providers.routing import Serving
from providers.types import Usage
from usage import pricing
from usage.records import UsageSource

logger = logging.getLogger(__name__)

#: How a try ends that we stopped while the provider was at work.
_STOPPED_BY_US: Final = frozenset(("cancelled", "revoked", "drained"))
#: Bytes of a whole answer that an estimate looks at.
_MAX_ESTIMATED: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Used:
    """`overrun`: the provider reported more than the call could use at most."""

    usage: Usage
    source: UsageSource
    overrun: bool = False


NOTHING: Final = Used(Usage(), "none")


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of the last try of a call: how it ended, and the provider's answer as far as it came.

    `most` is what the call could use at most (input, output); 0 where nothing bounds it.
    """

    endpoint: Endpoint
    call: CallBody
    outcome: str
    status: int
    sent: bool
    answer: bytes
    watcher: StreamWatcher | None
    most: tuple[int, int]


def used(seen: Seen, serving: Serving | None, name: str) -> Used:
    """The provider's word, if it is one: no more than anybody could mean. Else, if it was at work, an estimate; else nothing.

    An overrun is logged, with the provider that served it and the call's name.
    """
    found = _used(seen)
    if found.overrun:
        logger.warning(
            "Provider %s reported more than a call could use (%d and %d tokens): charged %d and %d, %s.",
            serving.upstream.id if serving else None,
            *seen.most,
            found.usage.input,
            found.usage.output,
            found.source,
            extra={"request_id": name},
        )
    return found


def _used(seen: Seen) -> Used:
    reported = _reported(seen)
    if reported is not None and pricing.is_sane(reported):
        return Used(reported, "provider", _overruns(reported, seen.most))
    if not _was_at_work(seen):
        return NOTHING
    estimated = Usage(input=seen.call.prompt_estimate, output=_output_of(seen))
    return Used(estimated, "estimated", overrun=reported is not None)


def _is_answered(seen: Seen) -> bool:
    return 200 <= seen.status < 300


def _reported(seen: Seen) -> Usage | None:
    if seen.watcher is not None:
        return seen.watcher.usage
    if _is_answered(seen) and seen.outcome == "ok":
        return seen.endpoint.dialect.read_usage(seen.answer)
    return None


def _was_at_work(seen: Seen) -> bool:
    """Whether the provider worked for this caller; leaving early does not make that free."""
    if seen.watcher is not None:
        return True
    if seen.outcome == "no_answer":
        return False
    return _is_answered(seen) or (seen.sent and seen.outcome in _STOPPED_BY_US)


def _output_of(seen: Seen) -> int:
    if seen.watcher is not None:
        return seen.watcher.estimate_output()
    if not seen.answer or seen.endpoint.operation == "embedding":
        return 0
    return seen.endpoint.dialect.estimate_output_of(seen.answer[:_MAX_ESTIMATED])


def _overruns(usage: Usage, most: tuple[int, int]) -> bool:
    pairs = zip((usage.input, usage.output), most, strict=True)
    return any(bound and reported > bound for reported, bound in pairs)
