"""The columns that count: wide enough for every sum, and exact."""

from uuid import uuid4

import pytest
from django.db import models

from usage import models as usage_models
from usage.models import Rollup

LARGEST = 2**63 - 1
#: Lines, tries and statuses stay small.
SMALL = {"line", "n", "status", "attempts"}
TABLES = [usage_models.Hold, usage_models.LedgerEntry, usage_models.Attempt, Rollup]
TABLES += [usage_models.RequestLog, usage_models.RequestContent]


@pytest.mark.django_db
def test_sums_of_tokens_and_money_have_64_bits():
    sums = {
        field.name: LARGEST
        for field in Rollup._meta.concrete_fields
        if isinstance(field, models.BigIntegerField) and not field.primary_key
    }
    assert len(sums) == 8
    names = {"tenant": "a", "key_prefix": "gwk_abcdef", "month": "2026-11", "model": "m"}
    stored = Rollup.objects.create(**names, tenant_id=uuid4(), key_id=uuid4(), **sums)
    assert Rollup.objects.values(*sums).get(pk=stored.pk) == sums


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_count_of_a_call_is_narrower(table):
    numbers = [field for field in table._meta.fields if isinstance(field, models.IntegerField)]
    narrow = {field.name for field in numbers if not isinstance(field, models.BigIntegerField)}
    assert narrow <= SMALL
