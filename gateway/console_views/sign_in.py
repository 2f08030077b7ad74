"""Signing in and out, one's own password, and the theme. Everything here is reachable while a new password is due."""

from typing import Any, Final

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from gateway import lateness
from gateway.console_middleware import DOCS
from tenants import sign_in as service
from tenants import tries
from tenants.console_forms import HouseForm
from tenants.errands import actor_of, show_refusal
from tenants.errors import ServiceError
from tenants.models import User
from tenants.sessions import SessionStore
from tenants.tries import TooManyTries

_MAX_CHARACTERS: Final = 1024
_A_YEAR: Final = 365 * 24 * 3600
_THEMES: Final = ("auto", "light", "dark")


class SignInForm(HouseForm):
    username = forms.CharField(
        label="User name",
        max_length=_MAX_CHARACTERS,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    password = forms.CharField(
        label="Password",
        max_length=_MAX_CHARACTERS,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class PasswordForm(HouseForm):
    current_password = forms.CharField(
        label="Current password",
        max_length=_MAX_CHARACTERS,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new_password = forms.CharField(
        label="New password",
        max_length=_MAX_CHARACTERS,
        strip=False,
        help_text="At least 10 characters, and none of the common ones. A sentence is good.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label="New password, once more",
        max_length=_MAX_CHARACTERS,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("new_password") != values.get("again"):
            self.add_error("again", "differs from the one above.")
        return values


def own_path(request: HttpRequest, text: str | None) -> str:
    """Where to go next: a page that this session opens and nobody else's, or the console's first."""
    first = reverse("console:index")
    if text == DOCS:
        return text
    good = url_has_allowed_host_and_scheme(text, allowed_hosts=None) and (text or "").startswith(
        first
    )
    return text if good and text and ".." not in text else first


def sign_in(request: HttpRequest) -> HttpResponse:
    """GET draws the form; POST opens a session. What is wrong with wrong credentials is never said."""
    onwards = own_path(request, request.POST.get("next") or request.GET.get("next"))
    if isinstance(request.user, User) and request.method != "POST":
        return HttpResponseRedirect(onwards)
    form = SignInForm(request.POST or None)
    status = 400 if form.errors else 200
    if request.method == "POST" and form.is_valid():
        try:
            return _open(request, form, onwards)
        except (service.BadCredentials, TooManyTries) as refusal:
            lateness.hold_back(request, getattr(refusal, "wait", 0.0))
            form.add_error(None, refusal.message)
            status = 400 if isinstance(refusal, service.BadCredentials) else 429
    context = {"title": "Sign in", "form": form, "next": onwards, "left": "left" in request.GET}
    context["ended"] = "ended" in request.GET
    return render(request, "console/sign_in.html", context, status=status)


def _open(request: HttpRequest, form: SignInForm, onwards: str) -> HttpResponse:
    signed_in = service.sign_in(
        actor=request.visitor,  # type: ignore[attr-defined]
        username=form.cleaned_data["username"],
        password=form.cleaned_data["password"],
        carrier=service.Carrier.COOKIE,
    )
    lateness.hold_back(request, signed_in.wait)
    store = request.session
    assert isinstance(store, SessionStore)  # noqa: S101 - settings.SESSION_ENGINE says so
    if store.operator is not None and store.row is not None:
        service.sign_out(actor=actor_of(request), session=store.row)
    store.open(signed_in.token, signed_in.session)
    rotate_token(request)
    if signed_in.user.must_change_password:
        return HttpResponseRedirect(reverse("console:password"))
    return HttpResponseRedirect(onwards)


@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    store = request.session
    if isinstance(store, SessionStore) and isinstance(request.user, User) and store.row is not None:
        service.sign_out(actor=actor_of(request), session=store.row)
        store.flush()
    return HttpResponseRedirect(f"{reverse('console:sign-in')}?left")


def password(request: HttpRequest) -> HttpResponse:
    """One's own password. The other sessions end, and this one gets a new cookie."""
    user, store = request.user, request.session
    if not isinstance(user, User) or not isinstance(store, SessionStore):
        return HttpResponseRedirect(reverse("console:sign-in"))
    form = PasswordForm(request.POST or None)
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                service.change_password(
                    actor=actor_of(request),
                    user=user,
                    current=form.cleaned_data["current_password"],
                    new=form.cleaned_data["new_password"],
                    keep=store.row,
                    door=tries.CONSOLE,
                )
            except service.BadCredentials as refusal:
                lateness.hold_back(request, refusal.wait)
                form.add_error("current_password", refusal.message)
            except ServiceError as refusal:
                status = show_refusal(form, refusal)
            else:
                store.cycle_key()
                messages.success(
                    request, "Your password is changed. Other sessions of yours have ended."
                )
                return HttpResponseRedirect(reverse("console:index"))
    template = "console/password_due.html" if user.must_change_password else "console/password.html"
    return render(request, template, {"title": "Change password", "form": form}, status=status)


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remembered by the browser alone."""
    chosen = request.POST.get("theme", "")
    response = HttpResponseRedirect(own_path(request, request.POST.get("next")))
    if chosen in _THEMES:
        response.set_cookie(
            settings.THEME_COOKIE_NAME, chosen, max_age=_A_YEAR, httponly=True, samesite="Lax"
        )
    return response
