"""Style sheets, icons and scripts, from the same server, under names that change with their content.

`collectstatic` puts them into `static-built/`. Whoever starts a server has that done if it is missing or of other sources, so
that nobody needs to think of it; an image has it done while it is built. The files are served by a view and not by WhiteNoise's
own middleware: that one cannot be asynchronous, and would cost every other door a change of threads.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.core.management import CommandError, call_command
from django.http import Http404, HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from whitenoise.base import WhiteNoise
from whitenoise.storage import CompressedManifestStaticFilesStorage

_STAMP: Final = "sources.sha256"
_HASHED: Final = re.compile(r"\.[0-9a-f]{12}\.\w+$")
_A_MINUTE: Final = 60


class Storage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # it comes without types
    """Hashed, compressed, and marked with the sources that it was made of."""

    def post_process(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from super().post_process(*args, **kwargs)
        Path(self.path(_STAMP)).write_text(_sources())


def ensure_built() -> None:
    """One process at a time; the others find it done. Raises `CommandError` where the folder cannot be written."""
    if _is_current():
        return
    try:
        with _alone():
            if not _is_current():
                call_command("collectstatic", interactive=False, clear=True, verbosity=0)
                _files.cache_clear()
    except OSError as fault:
        sentence = f"The static files are not built, and {settings.STATIC_ROOT} cannot be written"
        raise CommandError(
            f"{sentence} ({fault.strerror}): run `manage.py collectstatic`."
        ) from None


@contextmanager
def _alone() -> Iterator[None]:
    descriptor = os.open(settings.STATICFILES_DIRS[0], os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_current() -> bool:
    stamp = Path(settings.STATIC_ROOT) / _STAMP
    return stamp.is_file() and stamp.read_text() == _sources()


def _sources() -> str:
    digest = hashlib.sha256()
    for folder in map(Path, settings.STATICFILES_DIRS):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@cache
def _files() -> WhiteNoise:
    """Looked through once: what is there when the worker starts stays."""
    files = WhiteNoise(
        None,
        max_age=_A_MINUTE,
        allow_all_origins=False,
        immutable_file_test=lambda path, url: bool(_HASHED.search(url)),
    )
    files.add_files(str(settings.STATIC_ROOT), prefix=settings.STATIC_URL)
    return files


@require_safe
def serve(request: HttpRequest, name: str) -> HttpResponse:
    """One file. Under a hashed name it may be kept for ever."""
    found = _files().files.get(f"{settings.STATIC_URL}{name}")
    if found is None:
        raise Http404
    answer = found.get_response(request.method, request.META)
    content = b""
    if answer.file is not None:
        with answer.file as opened:
            content = opened.read()
    response = HttpResponse(content, status=answer.status)
    del response.headers["Content-Type"]
    for header, value in answer.headers:
        response.headers[header] = value
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response
