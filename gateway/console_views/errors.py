"""What the console says when it cannot: in the frame for who is signed in, never with a word about what is inside."""

from typing import Final

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string

_RETRY_SECONDS: Final = "5"
_WORDS: Final = {
    400: ("That request cannot be read", "Something in it is not as it should be. Go back and try again."),
    403: ("Your role does not allow this", "Nothing was done. Ask an owner of this house for it."),
    404: ("There is no such page", "It may have been deleted, or the address has a typing error."),
    408: ("That took too long", "The request did not come to its end. Try again."),
    413: ("That is too much", "The form holds more than can be taken at once."),
    405: ("That cannot be done here", "This page is only to be looked at."),
    429: ("Too many at once", "Wait a moment, then try again."),
    500: ("Something went wrong on our side", "It was written down. The request id below leads to it."),
    503: ("This cannot be done right now", "The database does not answer. Try again in a moment."),
}  # fmt: skip


def page(request: HttpRequest, status: int, title: str = "", sentence: str = "") -> HttpResponse:
    words = _WORDS[status]
    context = {
        "status": status,
        "title": title or words[0],
        "sentence": sentence or words[1],
        "request_id": getattr(request, "request_id", ""),
    }
    # A look at who is signed in needs what has just failed.
    bare = status >= 500 or not _is_signed_in(request)
    template = "console/error_bare.html" if bare else "console/error.html"
    response = render(request, template, context, status=status)
    if status in {429, 503}:
        response.headers["Retry-After"] = _RETRY_SECONDS
    return response


def bare(status: int, request_id: str) -> bytes:
    """A page for where there is no request yet: in front of Django. Without the frame."""
    title, sentence = _WORDS[status]
    context = {"status": status, "title": title, "sentence": sentence, "request_id": request_id}
    return render_to_string("console/error_bare.html", context).encode()


def _is_signed_in(request: HttpRequest) -> bool:
    try:
        return bool(getattr(request, "user", None) and request.user.is_authenticated)
    except DatabaseError:
        return False


def form_refused(request: HttpRequest) -> HttpResponse:
    """A form without its token, or from another site."""
    return page(
        request,
        403,
        "This form did not come from this page",
        "Nothing was done. Cookies may be off, or you signed in again elsewhere: open the page anew and send its form.",
    )
