"""Where in its life this process is, for readiness. The worker says so; a process that never did has nothing to warm up.

Also what the running parts report of themselves (journal counters, open holds): `/health/detail` shows it.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

Report = Callable[[], Mapping[str, object]]


class Phase(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class _Life:
    phase = Phase.READY


_life = _Life()
_reports: dict[str, Report] = {}


def set_starting() -> None:
    """Not warm yet. A process that was told to go before it had started stays that way."""
    if _life.phase is not Phase.DRAINING:
        _life.phase = Phase.STARTING


def set_ready() -> None:
    """Warm and serving. A process that is draining stays that way."""
    if _life.phase is not Phase.DRAINING:
        _life.phase = Phase.READY


def set_draining() -> None:
    _life.phase = Phase.DRAINING


def phase() -> Phase:
    return _life.phase


def draining() -> bool:
    return _life.phase is Phase.DRAINING


def report_with(name: str, report: Report) -> None:
    """`report` must be quick and safe to call from any thread; one per name, the latest counts."""
    _reports[name] = report


def reports() -> dict[str, Mapping[str, object]]:
    return {name: report() for name, report in sorted(_reports.items())}


def begin_anew() -> None:
    """As at import: after a fork, and between tests."""
    _life.phase = Phase.READY
    _reports.clear()
