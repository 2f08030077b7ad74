"""Changes with an `Idempotency-Key`: made once, and who asks again gets the first answer.

The claim, the change and the kept answer are one transaction, so a worker that dies leaves all of them or none. What was refused
left nothing: its claim goes with it, and it may be asked again.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Final, NamedTuple
from uuid import UUID, uuid4

from django.db import OperationalError, transaction
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.encoding import force_bytes
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.measured import MeasuredView
from gateway.relay import once
from gateway.relay.errors import Refusal
from tenants.errors import ServiceError
from usage import idempotency
from usage.idempotency import Answer, Fresh, Outcome, Verdict, Wish

HEADER: Final = "Idempotency-Key"
REPLAY: Final = once.REPLAY.decode()

#: What PostgreSQL says when a lock was not to be had in time.
_LOCK_NOT_AVAILABLE: Final = "55P03"

Handler = Callable[..., Response]


class Asker(NamedTuple):
    """Whose names they are. `tenant_id`: whose root seals the answer. `rights`: what they may do; with other rights it is another
    request, for the answer was for those.
    """

    tenant_id: UUID
    id: UUID
    rights: str


class OnceView(MeasuredView):
    """Its POST is made once for one `Idempotency-Key`, unless `is_made_once` is off: where nothing is changed, where a name makes
    a second one impossible, or where it takes what no transaction waits for: somebody outside, or the hash of a password.
    """

    is_made_once: ClassVar[bool] = True

    def asker_of(self, request: Request) -> Asker | None:
        """None: it is nobody that we would know again."""
        raise NotImplementedError

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """When this is through, DRF looks for the method that answers: it finds ours around it."""
        super().initial(request, *args, **kwargs)
        if request.method != "POST" or not self.is_made_once or HEADER not in request.headers:
            return
        asker = self.asker_of(request)
        handler: Handler | None = getattr(self, "post", None)
        if asker and handler:
            # DRF asks the view for its `post` by name; this one shadows the class's.
            vars(self)["post"] = partial(_once, _wish_of(request, asker), handler)


def _wish_of(request: Request, asker: Asker) -> Wish:
    """The body counts as it was understood: the order of its members and its blanks say nothing."""
    name = once.name_in([request.headers[HEADER].encode("latin-1", "replace")])
    what = f"{request.method} {request.get_full_path()}"
    body = json.dumps(request.data, sort_keys=True)
    same = (what.encode(), asker.rights.encode(), body.encode())
    return Wish(asker.tenant_id, asker.id, name, same, uuid4())


def _once(
    wish: Wish, handler: Handler, request: Request, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    refusal: Exception
    with transaction.atomic():
        claimed = _claim(wish)
        if not isinstance(claimed, Fresh):
            return _answer_again(claimed)
        try:
            response = handler(request, *args, **kwargs)
        except (ServiceError, APIException) as fault:
            # What it left is no change but the audit log's row of the refusal, which stays.
            idempotency.give_back(claimed.id)
            refusal = fault
        else:
            idempotency.keep(claimed, _kept(request, response))
            return response
    raise refusal


def _claim(wish: Wish) -> Outcome:
    try:
        return idempotency.claim(wish, None)
    except OperationalError as fault:
        if getattr(fault.__cause__, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
            raise
        raise Refusal(once.problem_of(Verdict.IN_FLIGHT)) from None


def _kept(request: Request, response: Response) -> Answer:
    renderer, media_type = request.accepted_renderer, request.accepted_media_type
    body = force_bytes(renderer.render(response.data, media_type))
    return Answer(response.status_code, media_type.encode(), body)


def _answer_again(outcome: Answer | Verdict) -> HttpResponseBase:
    if isinstance(outcome, Verdict):
        raise Refusal(once.problem_of(outcome))
    answer = HttpResponse(
        outcome.body, content_type=outcome.content_type.decode(), status=outcome.status
    )
    answer.headers[REPLAY] = "true"
    return answer
