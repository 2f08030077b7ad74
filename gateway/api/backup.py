"""Backups: the whole house, or one tenant, on its way out and in. Owners only."""

import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import IO, Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpResponseBase, StreamingHttpResponse
from rest_framework.exceptions import APIException
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api import documented
from gateway.api.bodies.backup import outcome_body
from gateway.api.door import AdminView, actor_of
from gateway.api.errors import BodyTooLarge
from gateway.api.negotiation import AlwaysJSON
from gateway.api.requests import flag, query_of
from gateway.api.shapes import backup as shapes
from gateway.api.shapes.backup import MEDIA_TYPE
from gateway.backup import services
from gateway.backup.services import Manner
from gateway.openapi.operations import switch
from gateway.openapi.schemas import TEXT, one_of, told
from tenants.clock import SYSTEM
from tenants.errors import Invalid

_TAKEN: Final = frozenset((MEDIA_TYPE, "application/x-ndjson", "application/octet-stream"))
_PIECE: Final = 256 * 1024


class ExportView(AdminView):
    @documented.operation(
        "exportBackup",
        "Make a backup",
        query={
            "tenant": told(TEXT, "The id or the slug of the only tenant that is to be in it."),
            "with_logs": switch("Calls and their money lines too."),
        },
        answer=shapes.FILE,
        refuses={404: "`not_found`: there is no such tenant."},
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Everything but clear secrets, as lines of JSON of one moment, for a download. It is a row of the audit log."""
        query = query_of(request, ("tenant", "with_logs"))
        # A file without a name first: nobody's slow line keeps that moment open, and what goes wrong is an answer of its own.
        file = tempfile.TemporaryFile(dir=settings.VAR)  # noqa: SIM115 - closed when it has been sent
        try:
            services.export_backup(
                actor=actor_of(request),
                file=file,
                tenant=query.get("tenant"),
                with_logs=flag(query, "with_logs"),
            )
            size = file.tell()
            file.seek(0)
        except BaseException:
            file.close()
            raise
        name = f"gatehouse-{SYSTEM.now():%Y%m%dT%H%M%SZ}.jsonl"
        return StreamingHttpResponse(
            _pieces(file),
            content_type=MEDIA_TYPE,
            headers={
                "Content-Disposition": f'attachment; filename="{name}"',
                "Content-Length": str(size),
            },
        )


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """As fast as they are taken away."""
    try:
        while piece := await sync_to_async(file.read)(_PIECE):
            yield piece
    finally:
        file.close()


class _NoBackup(APIException):
    status_code = 415

    def __init__(self) -> None:
        super().__init__(f"Send Content-Type: {MEDIA_TYPE}.", "unsupported_media_type")


class _OnlyBackups(AlwaysJSON):
    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser:
        kind = (request.content_type or "").split(";", 1)[0].strip().lower()
        if kind not in _TAKEN:
            raise _NoBackup
        return next(iter(parsers))


class _IntoAFile(BaseParser):
    """The body in a file without a name: it is read more than once."""

    media_type = MEDIA_TYPE

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Mapping[str, Any]:
        file = tempfile.TemporaryFile(dir=settings.VAR)  # noqa: SIM115 - closed by the view
        size = 0
        while piece := stream.read(_PIECE):
            size += len(piece)
            if size > settings.MAX_IMPORT:
                file.close()
                raise BodyTooLarge(settings.MAX_IMPORT)
            file.write(piece)
        return {"file": file}


class ImportView(AdminView):
    is_made_once = False
    max_body = settings.MAX_IMPORT
    parser_classes = (_IntoAFile,)
    content_negotiation_class = _OnlyBackups

    @documented.operation(
        "importBackup",
        "Put a backup in",
        query={
            "preview": switch("Only say what would be; nothing is changed."),
            "remap_ids": switch("Configuration with new ids, into this house."),
            "on_conflict": told(
                {**one_of(services.ON_CONFLICT), "default": services.REFUSE},
                "With new ids: when a name is taken here, refuse all, or keep what is here.",
            ),
            "accept_unreadable": switch("Although its master key is not here."),
        },
        body=shapes.FILE,
        answer=shapes.OUTCOME,
        refuses={
            409: "`conflict`: it does not fit here like this. `master_key_missing`: ask with `accept_unreadable`.",
            415: f"`unsupported_media_type`: the body must be `{MEDIA_TYPE}`.",
        },
    )
    def post(self, request: Request) -> Response:
        """All of it or nothing: as it was into an empty database, or with new ids into a house that has things. A line that does
        not fit is named.
        """
        query = query_of(request, ("preview", "remap_ids", "on_conflict", "accept_unreadable"))
        manner = Manner(
            remap_ids=flag(query, "remap_ids"),
            on_conflict=query.get("on_conflict", services.REFUSE),
            accept_unreadable=flag(query, "accept_unreadable"),
        )
        is_preview = flag(query, "preview")
        data = request.data
        file: IO[bytes] | None = data.get("file") if isinstance(data, dict) else None
        if file is None:
            raise Invalid("The body must be a backup.")
        act = services.preview_backup if is_preview else services.import_backup
        with file:
            outcome = act(actor=actor_of(request), file=file, manner=manner)
        return Response(outcome_body(outcome, is_preview=is_preview))
