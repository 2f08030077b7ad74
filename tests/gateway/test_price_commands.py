"""`prices import` and `prices rerate`."""

from datetime import timedelta

import msgspec
import pytest

from providers.model_services import create_model
from providers.models import Model, Price
from providers.services import create_provider
from tenants.actor import system_actor
from tenants.clock import SYSTEM, month_of
from tests.usage.samples import CALLER, attempt, intent, settlement
from usage import ledger
from usage.calls import Call
from usage.models import LedgerEntry

pytestmark = pytest.mark.django_db
HERE = system_actor("story")
SINCE = "2026-01-01T00:00:00Z"


@pytest.fixture
def model() -> Model:
    create_provider(actor=HERE, name="main", kind="openai", api_key="sk-0123456789abcdef")
    targets = [{"provider": "main", "upstream_model": "gpt-4o"}]
    create_model(
        actor=HERE,
        id="unheard-of",
        targets=[{"provider": "main", "upstream_model": "nobody-knows"}],
    )
    return create_model(actor=HERE, id="m", targets=targets)


def called(number: int) -> None:
    ago = int((SYSTEM.now() - timedelta(minutes=2)).timestamp() * 1_000_000)
    month = month_of(ago)
    begun = msgspec.structs.replace(intent(number, caller=CALLER, at=ago), month=month)
    tried = msgspec.structs.replace(attempt(number), month=month)
    ended = msgspec.structs.replace(settlement(number, cost=None), month=month, settled_at=ago)
    ledger.apply([Call(begun, (tried,), ended)])


def test_the_listed_prices_are_shown_then_added(manage, model):
    dry = manage("prices", "import", "--dry-run", "--json")
    assert dry.code == 0, dry.err
    told = {row["model"]: row for row in dry.json["models"]}
    assert (told["m"]["state"], told["unheard-of"]["state"]) == ("added", "unknown")
    assert told["m"]["prices"][0]["input_usd_per_mtok"] == "2.5"
    assert not Price.objects.exists()
    done = manage("prices", "import")
    assert done.code == 0, done.err
    assert "added     m: 2.5 in, 10 out" in done.out
    assert "unknown   unheard-of" in done.out
    assert model.prices.get().cached_input_nano_per_mtok == 1_250_000_000


def test_calls_are_re_rated_once_it_is_said_so(manage, model):
    called(1)
    assert manage("prices", "rerate", "--model", "m", "--since", SINCE).code == 1
    manage("prices", "import")
    shown = manage("prices", "rerate", "--model", "m", "--since", SINCE, "--json").json
    assert (shown["applied"], shown["wrong"], shown["unpriced"]) == (False, 1, 1)
    # 8 × 2.5 + 2 × 1.25 + 5 × 10 USD per million
    assert shown["delta_usd"] == "0.0000725"
    assert LedgerEntry.objects.count() == 1
    done = manage("prices", "rerate", "--model", "m", "--since", SINCE, "--apply")
    assert done.code == 0, done.err
    assert "were written" in done.out
    assert LedgerEntry.objects.get(line=2).cost_nano_usd == 72_500
    again = manage("prices", "rerate", "--model", "m", "--since", SINCE, "--json").json
    assert (again["wrong"], again["delta_usd"]) == (0, "0")


@pytest.mark.parametrize(
    "arguments",
    [
        ("import", "--file", "/nowhere/prices.json"),
        ("import", "--file", "pyproject.toml"),
        ("import", "--model", "nothing-fits"),
        ("rerate", "--model", "m", "--since", "yesterday"),
        ("rerate", "--model", "m", "--since", "2999-01-01T00:00:00Z"),
        ("rerate", "--model", "nobody", "--since", SINCE),
        ("rerate", "--model", "m", "--tenant", "nobody", "--since", SINCE),
    ],
)
def test_what_cannot_be_is_one_sentence(manage, model, arguments):
    done = manage("prices", *arguments)
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.out == ""
