"""What every page of the console is drawn with: where one can go, who is there, the theme. A context processor of Django's."""

from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest

from gateway.console import site
from gateway.console_middleware import is_console
from gateway.version import VERSION
from tenants.clock import SYSTEM

THEMES: Final = ("auto", "light", "dark")


def frame(request: HttpRequest) -> dict[str, Any]:
    if not is_console(request.path):
        return {}
    return {
        "frame": {
            "theme": theme_of(request),
            "themes": THEMES,
            "version": VERSION,
            "now": SYSTEM.now(),
            "plain_http": not request.is_secure(),
            "public_url": settings.PUBLIC_URL,
            "navigation": lambda: site.navigation(request),
        }
    }


def theme_of(request: HttpRequest) -> str:
    chosen = request.COOKIES.get(settings.THEME_COOKIE_NAME, "")
    return chosen if chosen in THEMES else THEMES[0]
