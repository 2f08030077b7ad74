"""Calls that were made before a story begins."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from usage.models import Attempt, LedgerEntry, RequestLog, Rollup


def _caller(**fields: Any) -> dict[str, Any]:
    return {
        "tenant_id": uuid4(),
        "tenant": "Acme",
        "key_id": uuid4(),
        "key_prefix": "gwk_abcdef",
        **fields,
    }


def log_row(**fields: Any) -> RequestLog:
    """A finished call, made just now unless told otherwise."""
    moment = fields.get("created_at", datetime.now(UTC))
    request_id = uuid4()
    values = _caller(
        month=f"{moment:%Y-%m}",
        request_id=request_id,
        correlation_id=request_id.hex,
        created_at=moment,
        model="gpt",
        provider="main",
        target="gpt-4.1",
        dialect_in="openai",
        dialect_out="openai",
        stream=False,
        status=200,
        dispatched="yes",
        attempts=1,
        tokens_in=10,
        tokens_out=20,
        cost_nano_usd=12_000,
        usage_source="provider",
        duration_us=123_456,
        ttfb_us=100_000,
        overhead_us=350,
    )
    return RequestLog.objects.create(**{**values, **fields})


def attempt(of: RequestLog, n: int, **fields: Any) -> Attempt:
    values = {
        "month": of.month,
        "request_id": of.request_id,
        "n": n,
        "started_at": of.created_at,
        "provider_id": uuid4(),
        "provider": "main",
        "target": "gpt-4.1",
        "dialect_out": "openai",
        "outcome": "ok",
        "status": 200,
        "duration_us": 5_000,
        "ttfb_us": 1_000,
    }
    return Attempt.objects.create(**{**values, **fields})


def line(of: RequestLog, number: int, **fields: Any) -> LedgerEntry:
    values = _caller(
        month=of.month,
        request_id=of.request_id,
        line=number,
        created_at=of.created_at,
        model=of.model,
        tokens_in=10,
        tokens_cached=0,
        tokens_out=20,
        tokens_reasoning=0,
        cost_nano_usd=12_000,
        usage_source="provider",
        dispatched="yes",
    )
    return LedgerEntry.objects.create(**{**values, **fields})


def rollup(month: str, key_id: object, **fields: Any) -> Rollup:
    values = _caller(
        month=month,
        key_id=key_id,
        model="gpt",
        requests=1,
        tokens_in=10,
        tokens_cached=0,
        tokens_out=20,
        tokens_reasoning=0,
        cost_nano_usd=1_000_000_000,
        unpriced_requests=0,
        estimated_requests=0,
    )
    return Rollup.objects.create(**{**values, **fields})
