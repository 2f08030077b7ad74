"""What a call came to: the provider's word, an estimate, or nothing; and what that costs."""

import logging
from typing import Final

from gateway.relay.facts import NOTHING, Seen, Used
from providers.routing import Serving
from providers.types import Usage
from usage import pricing
from usage.pricing import Tariff

logger = logging.getLogger(__name__)

#: How a try ends that we stopped while the provider was at work.
_STOPPED_BY_US: Final = frozenset(("cancelled", "revoked", "drained"))
#: Bytes of a whole answer that an estimate looks at.
_MAX_ESTIMATED: Final = 1024 * 1024


def used(seen: Seen, serving: Serving | None, name: str) -> Used:
    """The provider's word, if it is one: no more than anybody could mean. Else, if it was at work, an estimate; else nothing.

    An overrun is logged, with the provider that served it and the call's name.
    """
    reported = seen.reported
    if reported is not None and pricing.is_sane(reported):
        most_in, most_out = seen.most
        overruns = 0 < most_in < reported.input or 0 < most_out < reported.output
        found = Used(reported, "provider", overruns)
    elif _was_at_work(seen):
        estimated = Usage(input=seen.call.prompt_estimate, output=_output_of(seen))
        found = Used(pricing.credible(estimated), "estimated", overrun=reported is not None)
    else:
        return NOTHING
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


def cost_of(used: Used, tariff: Tariff | None) -> int | None:
    """Nano-USD. Nothing used costs nothing, whatever the price; something used without a price costs an unknown amount."""
    if used.source == "none":
        return 0
    if tariff is None:
        return 0 if used.usage == Usage() else None
    return tariff.cost(used.usage)


def _was_at_work(seen: Seen) -> bool:
    """Whether the provider worked for this caller; leaving early does not make that free."""
    if seen.watcher is not None:
        return True
    if seen.outcome == "no_answer":
        return False
    return 200 <= seen.status < 300 or (seen.sent and seen.outcome in _STOPPED_BY_US)


def _output_of(seen: Seen) -> int:
    if seen.watcher is not None:
        return seen.watcher.estimate_output()
    if not seen.answer or seen.endpoint.operation == "embedding":
        return 0
    return seen.endpoint.dialect.estimate_output_of(seen.answer[:_MAX_ESTIMATED])
