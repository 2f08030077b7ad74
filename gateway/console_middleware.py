"""What surrounds the console's pages, and nothing else: other doors take no cookie, and pass by without a change of threads."""

import ipaddress
from collections.abc import Awaitable
from typing import Any, Final

from csp.middleware import CSPMiddleware
from csp.utils import build_policy
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AnonymousUser
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.shortcuts import render
from django.utils.deprecation import MiddlewareMixin
from django.utils.functional import SimpleLazyObject

from gateway import context
from gateway.refusals import csrf_failure
from tenants.actor import Actor

ROOT: Final = "/console"
#: A page of its own address, which the console's session opens as well.
DOCS: Final = "/v1/admin/docs"
#: What only a browser can keep to one host and to TLS; it takes such cookies from nobody else.
HOST_PREFIX: Final = "__Host-"
COOKIES: Final = (
    settings.SESSION_COOKIE_NAME,
    settings.CSRF_COOKIE_NAME,
    settings.THEME_COOKIE_NAME,
)
#: Beside the policy, and what Django's own middleware sets on every answer.
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=(),"
    " browsing-topics=(), clipboard-write=(self), publickey-credentials-get=(self)",
}
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FOREIGN_SITES: Final = frozenset({"cross-site", "same-site"})
#: A proxy that nobody told us of still leaves one of these.
_FORWARDING: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")

_Answer = HttpResponseBase | Awaitable[HttpResponseBase]


def is_console(path: str) -> bool:
    return path in (ROOT, DOCS) or path.startswith(f"{ROOT}/")


def bare_headers() -> list[tuple[bytes, bytes]]:
    """The same for a page that is answered in front of Django."""
    whole = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": build_policy(),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": settings.X_FRAME_OPTIONS,
        "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
        "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
        **HEADERS,
    }
    return [(name.lower().encode(), value.encode()) for name, value in whole.items()]


class OnConsole(MiddlewareMixin):
    """Put before one of Django's middlewares, it keeps that one to the console's paths."""

    def __call__(self, request: HttpRequest) -> Any:
        if is_console(request.path):
            return super().__call__(request)
        return self.get_response(request)


class Headers(OnConsole, CSPMiddleware):
    """On every page, refusals among them: the policy, and that nothing keeps a copy."""

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        response = super().process_response(request, response)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response


class Door(OnConsole):
    """TLS, or this very machine; and cookies under the names that belong to either.

    Inside, cookies have their plain names. Over TLS only those with the prefix are believed and set.
    """

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        if not request.is_secure():
            if not _is_local(request):
                return render(request, "console/tls.html", {"title": "TLS"}, status=403)
            return None
        for name in COOKIES:
            request.COOKIES.pop(name, None)
            if (value := request.COOKIES.pop(f"{HOST_PREFIX}{name}", None)) is not None:
                request.COOKIES[name] = value
        return None

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        secure = request.is_secure()
        for name in COOKIES:
            if (morsel := response.cookies.get(name)) is None:
                continue
            morsel["secure"] = secure or ""
            if secure:
                prefixed = f"{HOST_PREFIX}{name}"
                morsel.set(prefixed, morsel.value, morsel.coded_value)
                del response.cookies[name]
                dict.__setitem__(response.cookies, prefixed, morsel)
        return response


def _is_local(request: HttpRequest) -> bool:
    """Whether nobody on the way could read along: the caller is this machine, by its name, and without a proxy unknown to us."""
    meta = request.META
    if not context.is_trusted_peer(meta.get("REMOTE_ADDR", ""), settings.TRUSTED_PROXIES) and any(
        name in meta for name in _FORWARDING
    ):
        return False
    host, _ = split_domain_port(request.get_host())
    return _is_loopback(context.address_of(meta)) and (
        host == "localhost" or _is_loopback(host.strip("[]"))
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class Sessions(OnConsole, SessionMiddleware):
    """`request.session`, in the row of the operator (tenants/sessions.py)."""


class Forms(OnConsole, CsrfViewMiddleware):
    """A form is sent from our own pages, with its token; a browser that says otherwise is believed as well."""

    def process_view(
        self, request: HttpRequest, callback: Any, callback_args: Any, callback_kwargs: Any
    ) -> Any:
        if not is_console(request.path):
            return None
        foreign = request.headers.get("sec-fetch-site") in _FOREIGN_SITES
        if foreign and request.method not in _SAFE_METHODS:
            return csrf_failure(request)
        return super().process_view(request, callback, callback_args, callback_kwargs)


class Authentication(OnConsole, AuthenticationMiddleware):
    """`request.user` is the operator with a live session, or nobody; `request.visitor` whoever it is, before they said so."""

    def process_request(self, request: HttpRequest) -> None:
        session: Any = request.session
        request.user = SimpleLazyObject(  # type: ignore[assignment]
            lambda: session.operator or AnonymousUser()
        )
        request_id = str(getattr(request, "request_id", "")) or context.request_id_for(None)
        request.visitor = Actor(  # type: ignore[attr-defined]
            type="visitor",
            id="anonymous",
            label="anonymous",
            method="password",
            **context.circumstances(request.META, request_id, "console"),
        )


class Messages(OnConsole, MessageMiddleware):
    """What the next page says once."""
