"""Lists: pages that neither skip nor repeat, whatever is added meanwhile, in a fixed number of queries."""

import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.api.paging import Cursor
from gateway.proofs.doors import doors
from keys.services import issue_key
from providers.models import Credential, Model, Price, Provider, Target
from tenants.models import Project, Tenant
from tests.gateway.api.calls import log_row
from usage.models import RequestLog

LISTS = ["tenants", "keys", "providers", "models", "logs", "audit", "tenants/{tenant}/api-keys"]


@pytest.fixture
def reading(api, owner):
    """Somebody who may read everything."""
    return api.signed_in(owner)


@pytest.fixture
def plenty(tenant, staging):
    """Nine of each, with what hangs on them."""
    Tenant.objects.bulk_create(Tenant(name="t", slug=f"t-{n}") for n in range(9))
    for number in range(9):
        issue_key(actor=staging, tenant_id=tenant.id, name=f"key {number}")
        provider = Provider.objects.create(name=f"p{number}", kind="openai")
        Credential.objects.create(provider=provider, sealed=b"x", binding="x")
        model = Model.objects.create(name=f"m{number}")
        Target.objects.create(model=model, provider=provider, upstream_model="x")
        Price.objects.create(
            model=model,
            effective_from=datetime.now(UTC),
            input_nano_per_mtok=1,
            output_nano_per_mtok=1,
        )
        log_row(tenant_id=tenant.id)
    return tenant


def _walk(api, path: str, limit: int, between=lambda: None) -> list[dict]:
    """All pages, one after the other."""
    rows: list[dict] = []
    cursor = ""
    joint = "&" if "?" in path else "?"
    for _ in range(200):
        body = api.get(f"{path}{joint}limit={limit}{cursor}").json()
        assert len(body["data"]) <= limit
        assert body["has_more"] == (body["next_cursor"] is not None)
        rows += body["data"]
        if not body["has_more"]:
            return rows
        cursor = f"&cursor={body['next_cursor']}"
        between()
    raise AssertionError("the list has no end")


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", [1, 2, 4, 200])
def test_pages_put_together_are_the_list(reading, plenty, path, limit):
    path = path.format(tenant=plenty.id)
    whole = reading.get(f"{path}?limit=200").json()["data"]
    assert len(whole) >= 3
    assert _walk(reading, path, limit) == whole
    moments = [datetime.fromisoformat(row["created_at"]) for row in whole]
    assert moments == sorted(moments, reverse=True)


def test_rows_of_one_moment_are_neither_skipped_nor_repeated(reading):
    """Also at a full second and at a full millisecond, where times are written differently."""
    moments = [
        datetime(2026, 1, 1, 12, 0, 0, micros, tzinfo=UTC) for micros in (0, 1, 999, 1000, 345000)
    ]
    for moment, n in itertools.product(moments, range(4)):
        tenant = Tenant.objects.create(name="t", slug=f"t-{moment.microsecond}-{n}")
        Tenant.objects.filter(pk=tenant.pk).update(created_at=moment)
        log_row(created_at=moment)
    for path, limit in itertools.product(("tenants", "logs"), (1, 3)):
        rows = _walk(reading, path, limit)
        model = Tenant if path == "tenants" else RequestLog
        assert len({row["id"] for row in rows}) == len(rows) == model.objects.count()


def test_rows_that_the_database_dated_are_neither_skipped_nor_repeated(reading):
    Tenant.objects.bulk_create(Tenant(name="t", slug=f"t-{n}") for n in range(40))
    rows = _walk(reading, "tenants", 3)
    assert len({row["id"] for row in rows}) == len(rows) == Tenant.objects.count()


def test_what_is_added_meanwhile_neither_shifts_nor_repeats(reading, plenty):
    before = [row["id"] for row in reading.get("logs?limit=200").json()["data"]]
    seen = _walk(reading, "logs", 2, between=lambda: log_row(tenant_id=plenty.id))
    assert [row["id"] for row in seen] == before


def test_what_is_removed_meanwhile_takes_nothing_else_along(reading, plenty):
    first = reading.get("models?limit=3").json()
    Model.objects.filter(name=first["data"][-1]["id"]).delete()
    rest = reading.get(f"models?limit=200&cursor={first['next_cursor']}").json()["data"]
    assert len(first["data"]) + len(rest) == 9


WHAT_HAPPENS = st.lists(
    st.tuples(st.sampled_from(["add", "add older", "remove"]), st.integers(0, 30)), max_size=4
)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    moments=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    limit=st.integers(1, 5),
    between=st.lists(WHAT_HAPPENS, max_size=6),
)
def test_whatever_is_added_and_removed_meanwhile_what_stays_is_shown_once(
    reading, tenant, moments, limit, between
):
    """Rows of one moment among them, as rows of one transaction are."""
    Project.objects.all().delete()
    begun = datetime(2026, 1, 1, 12, tzinfo=UTC)
    added = itertools.count()

    def add(at: int) -> None:
        row = Project.objects.create(tenant=tenant, name=f"p{next(added)}")
        Project.objects.filter(pk=row.pk).update(created_at=begun + timedelta(microseconds=at))

    for at in moments:
        add(at)
    there = {str(pk) for pk in Project.objects.values_list("pk", flat=True)}
    steps = iter(between)

    def meanwhile() -> None:
        for what, number in next(steps, []):
            if what == "remove":
                rows = Project.objects.order_by("pk")
                if rows:
                    rows[number % len(rows)].delete()
            else:
                add(number if what == "add" else -number)

    shown = [row["id"] for row in _walk(reading, "projects", limit, between=meanwhile)]
    assert len(shown) == len(set(shown))
    stayed = there & {str(pk) for pk in Project.objects.values_list("pk", flat=True)}
    assert stayed <= set(shown)


def test_every_list_of_the_admin_api_costs_at_most_six_queries_a_page(reading, plenty):
    """All that the URLconf has: whatever answers a list to a GET is one."""
    seen = {}
    for door in doors("v1/admin/"):
        if set(door.parts) - {"tenant_id"}:
            continue
        path = door.path([str(plenty.id)] * len(door.parts)).removeprefix("/v1/admin/")
        with CaptureQueriesContext(connection) as queries:
            answer = reading.get(path)
        is_json = answer.status_code == 200 and answer.headers["content-type"] == "application/json"
        if is_json and answer.json().get("object") == "list":
            seen[door.route] = _counted(queries)
    known = {f"v1/admin/{path.replace('{tenant}', '{tenant_id}')}" for path in LISTS}
    assert known | {"v1/admin/projects", "v1/admin/users", "v1/admin/holds"} <= set(seen)
    assert {route: count for route, count in seen.items() if count > 6} == {}


@pytest.mark.parametrize("path", LISTS)
def test_a_page_costs_at_most_six_queries_however_long_it_is(reading, plenty, path):
    path = path.format(tenant=plenty.id)
    counts = []
    for limit in (1, 9):
        with CaptureQueriesContext(connection) as queries:
            answer = reading.get(f"{path}?limit={limit}")
        assert len(answer.json()["data"]) == limit
        counts.append(_counted(queries))
    assert counts[0] == counts[1] <= 6


@pytest.mark.parametrize("path", ["tenants/{tenant}", "keys/{key}", "keys/{key}/usage"])
def test_one_thing_costs_at_most_six_queries(reading, tenant, key, path):
    with CaptureQueriesContext(connection) as queries:
        assert reading.get(path.format(tenant=tenant.id, key=key.key.id)).status_code == 200
    assert _counted(queries) <= 6


def _counted(queries: CaptureQueriesContext) -> int:
    """A server reads the key that tokens are signed with once; here it is in no commit, and so is read each time."""
    return sum("tenants_rootsecret" not in query["sql"] for query in queries)


def test_small_tables_are_counted_and_those_that_grow_are_not(reading, plenty):
    totals = {
        path: reading.get(f"{path}?limit=1").json()["total"]
        for path in ("keys", "providers", "models", "logs", "audit")
    }
    assert totals == {"keys": 9, "providers": 9, "models": 9, "logs": None, "audit": None}


@pytest.mark.parametrize("limit", ["0", "-1", "201", "x", "1.0", "1e1", "٣", " 5", "99999999999"])
def test_a_limit_that_cannot_be_is_a_400(reading, limit):
    answer = reading.get(f"tenants?limit={limit}")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["limit"])


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "AAAA",
        "!" * 32,
        "_" * 32,
        "f" * 32,
        "%00",
        "A" * 33,
        str(uuid4()),
        Cursor(datetime(1, 1, 1, tzinfo=UTC), uuid4()).text(),
        Cursor(datetime(9999, 12, 31, tzinfo=UTC), uuid4()).text(),
    ],
)
def test_a_cursor_that_no_list_gave_out_is_a_400(reading, cursor):
    answer = reading.get(f"tenants?cursor={cursor}")
    assert (answer.status_code, list(answer.json()["error"]["fields"])) == (400, ["cursor"])


def test_a_cursor_says_what_it_was_made_of():
    moment = datetime(2026, 11, 21, 23, 59, 59, 999999, tzinfo=UTC)
    cursor = Cursor(moment, UUID(int=7))
    assert Cursor.parse(cursor.text()) == cursor
    later = Cursor(moment + timedelta(microseconds=1), UUID(int=7))
    assert Cursor.parse(later.text()) != cursor
