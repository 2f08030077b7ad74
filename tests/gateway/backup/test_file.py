"""A file that is not as it was written is refused, with a sentence that names the line, and changes nothing."""

import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from gateway.backup import services
from gateway.backup.services import Manner
from keys.services import issue_key
from providers.services import create_provider
from tenants import sealing
from tenants.actor import Actor
from tenants.errors import Invalid
from tenants.keyring import KEYRING, PEPPER
from tenants.models import AuditEvent, Tenant

pytestmark = pytest.mark.django_db

Lines = list[dict[str, Any]]
MOVING = Manner(remap_ids=True, on_conflict="skip")


@pytest.fixture
def whole(tenant: Tenant, staging: Actor, settings: Any) -> bytes:
    """A small house."""
    KEYRING.forget()
    settings.ALLOWED_UPSTREAMS = ["127.0.0.0/8"]
    issue_key(actor=staging, tenant_id=tenant.id, name="first")
    create_provider(
        actor=staging,
        name="ours",
        kind="openai-compatible",
        base_url="http://127.0.0.1:9/v1",
        api_key="sk-0123456789",
    )
    file = io.BytesIO()
    services.export_backup(actor=staging, file=file)
    return file.getvalue()


def put(actor: Actor, raw: bytes) -> services.Outcome:
    return services.import_backup(actor=actor, file=io.BytesIO(raw), manner=MOVING)


def refusal_of(actor: Actor, raw: bytes) -> str:
    """What is said, by import and preview alike; and that nothing changed but for the audit row about it."""
    before = Tenant.objects.count(), AuditEvent.objects.count()
    with pytest.raises(Invalid) as first:
        put(actor, raw)
    with pytest.raises(Invalid) as second:
        services.preview_backup(actor=actor, file=io.BytesIO(raw), manner=MOVING)
    assert str(first.value) == str(second.value)
    assert (Tenant.objects.count(), AuditEvent.objects.count()) == (before[0], before[1] + 1)
    last = AuditEvent.objects.order_by("seq").filter(scope="platform").last()
    assert last is not None
    assert (last.action, last.outcome) == ("backup.imported", "refused")
    return str(first.value)


def edited(raw: bytes, edit: Callable[[Lines], object], key: sealing.Secret | None = None) -> bytes:
    """The lines after an edit, with a new digest; with a `key` even with a MAC."""
    lines = [json.loads(line) for line in raw.splitlines()]
    edit(lines)
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines[:-1])
    end = lines[-1]["end"]
    counts = Counter(line["table"] for line in lines[1:-1] if "row" in line)
    end |= {"tables": dict(counts), "rows": counts.total()}
    end["sha256"] = hashlib.sha256(body).hexdigest()
    if key is not None:
        end["mac"] = sealing.mac(key, b"gwbak1", hashlib.sha256(body).digest()).hex()
    return body + json.dumps({"end": end}).encode() + b"\n"


def row_of(lines: Lines, table: str) -> dict[str, Any]:
    return dict_of(next(line for line in lines if line.get("table") == table))


def dict_of(line: dict[str, Any]) -> dict[str, Any]:
    found = line["row"]
    assert isinstance(found, dict)
    return found


def test_the_file_as_it_was_written_is_taken(whole: bytes, staging: Actor):
    outcome = put(staging, whole)
    assert outcome.new["keys.apikey"] == 1
    assert outcome.existing["tenants.tenant"] == 2


@pytest.mark.parametrize("lost", [1, 2, 200])
def test_a_file_that_was_cut_is_noticed(whole: bytes, staging: Actor, lost: int):
    assert "cut" in refusal_of(staging, whole[:-lost])


def test_a_file_without_its_last_line_is_noticed(whole: bytes, staging: Actor):
    raw = b"".join(whole.splitlines(keepends=True)[:-1])
    assert "without its last line" in refusal_of(staging, raw)


def test_a_line_that_is_missing_is_noticed(whole: bytes, staging: Actor):
    lines = whole.splitlines(keepends=True)
    raw = b"".join(line for line in lines if b'"keys.keysecret"' not in line or b'"end"' in line)
    assert "sha256" in refusal_of(staging, raw)


def test_an_edit_is_noticed(whole: bytes, staging: Actor):
    assert "sha256" in refusal_of(staging, whole.replace(b'"name":"Acme"', b'"name":"Acne"', 1))


def test_an_edit_with_a_new_digest_is_noticed_where_the_master_key_is(whole: bytes, staging: Actor):
    raw = edited(whole, lambda lines: row_of(lines, "tenants.tenant").update(name="Eve"))
    assert "mac: the file is not as it was written" in refusal_of(staging, raw)


def test_something_after_the_end_is_noticed(whole: bytes, staging: Actor):
    assert "after the end" in refusal_of(staging, whole + b"{}\n")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\n", b"{}\n", b"not json\n", b'{"format":"other"}\n', b"\xff\xfe\n", b"[1]\n"],
)
def test_what_is_no_backup_is_refused(staging: Actor, tenant: Tenant, raw: bytes):
    assert refusal_of(staging, raw).startswith("Line 1: ")


def _first(table: str, **values: Any) -> Callable[[Lines], object]:
    return lambda lines: row_of(lines, table).update(values)


def _forget(table: str, name: str) -> Callable[[Lines], object]:
    return lambda lines: row_of(lines, table).pop(name)


BAD = {
    "version: this release reads version 1": lambda lines: lines[0].update(version=2),
    "the head must have": lambda lines: lines[0].update(more=1),
    "there is no table 'auth.user' here": lambda lines: lines[1].update(table="auth.user"),
    "a table and a row, and nothing else": lambda lines: lines[1].update(more=1),
    "tenants.tenant, colour: is not a field": _first("tenants.tenant", colour="red"),
    "tenants.tenant, id: is missing": _forget("tenants.tenant", "id"),
    "tenants.tenant, name: is missing": _forget("tenants.tenant", "name"),
    "tenants.tenant, name: must be a text": _first("tenants.tenant", name=7),
    "tenants.tenant, name: must not be null": _first("tenants.tenant", name=None),
    "name: must have at most 128": _first("tenants.tenant", name="x" * 129),
    "tenants.tenant, id: must be a UUID": _first("tenants.tenant", id="x"),
    "status: is none of the words": _first("tenants.tenant", status="gone"),
    "content_logging: must be true or false": _first("tenants.tenant", content_logging=1),
    "daily_limit: must be an integer": _first("tenants.tenant", daily_limit=1.5),
    "daily_limit: is out of range": _first("tenants.tenant", daily_limit=10**19),
    "created_at: must be a time": _first("tenants.tenant", created_at="yesterday"),
    "fingerprint: must be base64": _first("keys.keysecret", fingerprint="?"),
    "fingerprint: must have at most 33 bytes": _first("keys.keysecret", fingerprint="QUJD" * 20),
    "tenant_id: names no tenants.tenant": _first("keys.apikey", tenant_id=str(uuid4())),
    "id: stands there twice": lambda lines: lines.insert(2, lines[1]),
    "only a backup of one tenant": lambda lines: lines.insert(
        1, {"table": "providers.provider", "id": str(uuid4()), "name": "x"}
    ),
    "wrapped: is not what the master key wrapped": lambda lines: row_of(
        lines, "tenants.rootsecret"
    ).update(tenant_id=None, purpose="audit", version=9),
}


@pytest.mark.parametrize("sentence", BAD)
def test_a_line_that_makes_no_sense_is_named_with_its_field(
    whole: bytes, staging: Actor, sentence: str
):
    key = KEYRING.root(PEPPER).key("backup")
    said = refusal_of(staging, edited(whole, BAD[sentence], key))
    assert sentence in said
    assert said.startswith("Line ")


def test_a_backup_of_an_older_release_may_lack_what_has_a_default(whole: bytes, staging: Actor):
    key = KEYRING.root(PEPPER).key("backup")
    raw = edited(whole, _forget("keys.apikey", "log_content"), key)
    assert put(staging, raw).new["keys.apikey"] == 1


def test_a_backup_in_which_nothing_vouches_for_anything_is_refused(whole: bytes, staging: Actor):
    def without_pepper(lines: Lines) -> None:
        lines[:] = [
            line
            for line in lines
            if line.get("table") != "tenants.rootsecret" or line["row"]["purpose"] != "pepper"
        ]

    assert "nothing vouches for it" in refusal_of(staging, edited(whole, without_pepper))
