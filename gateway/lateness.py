"""Answers that are late on purpose, by a second or two.

The view has long ended when its answer waits: what is held meanwhile is the answer alone, and neither a thread nor a seat nor a
connection to the database. Only `gateway/front.py` waits; under any other server an answer is in time.
"""

from collections.abc import MutableMapping
from typing import Any, Final

from django.http import HttpRequest
from rest_framework.request import Request

_NAME: Final = "gatehouse.lateness"


class Lateness:
    """Seconds by which one answer is to be late."""

    def __init__(self) -> None:
        self.seconds = 0.0


def put_into(scope: MutableMapping[str, Any]) -> Lateness:
    """By the front, before it hands a request on."""
    scope[_NAME] = Lateness()
    found: Lateness = scope[_NAME]
    return found


def hold_back(request: HttpRequest | Request, seconds: float) -> None:
    """By a view: the longest wait that anybody asked for counts."""
    lateness = getattr(request, "scope", {}).get(_NAME)
    if isinstance(lateness, Lateness):
        lateness.seconds = max(lateness.seconds, seconds)
