"""Prices for models out of a price table: shown first, then added as dated prices. What is in force is never rewritten."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from providers import model_services
from providers.models import Model, Price, Provider
from providers.price_table import Listed, PriceTable
from tenants.actor import Actor
from tenants.clock import SYSTEM
from tenants.errors import Conflict, Invalid, NotFound

_MATCH_CHARACTERS: Final = 128
_CHUNK: Final = 200

#: `added`: it had no price. `replaced`: another one follows the price in force. `kept`: it has a price, and only missing ones
#: were wanted. `unknown`: the table does not have it. `unusable`: it does, and ours cannot say it, or nobody may store it.
State = Literal["added", "replaced", "same", "kept", "unknown", "unusable"]
#: Hears how many models have been looked at.
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the table means for one model. `fields` is the price from now on, `to_come` are dated ones; `note` says why not."""

    model: Model
    state: State
    listed: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    to_come: tuple[tuple[datetime, Mapping[str, Any]], ...] = ()
    left_out: tuple[str, ...] = ()
    note: str = ""

    @property
    def is_change(self) -> bool:
        return self.state in {"added", "replaced"}

    def prices(self) -> list[dict[str, Any]]:
        """As the service takes them."""
        later = [{**fields, "effective_from": begins} for begins, fields in self.to_come]
        return [dict(self.fields), *later]


def complete(fields: Mapping[str, Any], capability: str) -> dict[str, Any] | None:
    """A listed price as ours, which always has input and output. None: of a chat model one of them is not listed."""
    has_both = {"input_usd_per_mtok", "output_usd_per_mtok"} <= fields.keys()
    if capability == Model.Capability.CHAT and not has_both:
        return None
    return {"input_usd_per_mtok": "0", "output_usd_per_mtok": "0", **fields}


def listed_for(table: PriceTable, provider: Provider, name: str, now: datetime) -> Listed | None:
    return table.find(provider.kind, provider.base_url, name, now)


def proposals(
    table: PriceTable, *, match: str = "*", missing: bool = False, now: datetime
) -> Iterator[Proposal]:
    """For every model whose public name fits `match` (a glob), by name. `missing`: leave those that have a price."""
    if not 1 <= len(match) <= _MATCH_CHARACTERS:
        raise Invalid.field("model", f"must be 1 to {_MATCH_CHARACTERS} characters.")
    models = Model.objects.order_by("name", "id").prefetch_related("targets__provider", "prices")
    for model in models.iterator(chunk_size=_CHUNK):
        if fnmatchcase(model.name, match):
            yield _proposal(table, model, missing=missing, now=now)


def _proposal(table: PriceTable, model: Model, *, missing: bool, now: datetime) -> Proposal:
    everybodys = [price for price in model.prices.all() if price.tenant_id is None]
    begun = [price for price in everybodys if price.effective_from <= now]
    in_force = max(begun, key=lambda price: price.effective_from, default=None)
    if missing and in_force is not None:
        return Proposal(model, "kept")
    if model.name.endswith("*"):
        return Proposal(model, "unknown", note="many models stand behind a prefix")
    listed = _first_listed(table, model, now)
    if listed is None:
        return Proposal(model, "unknown")
    fields = complete(listed.fields, model.capability) if not listed.unusable else None
    later = tuple((begins, complete(each, model.capability)) for begins, each in listed.to_come)
    if fields is None:
        note = listed.unusable or "input and output are not both listed"
        return Proposal(model, "unusable", listed.name, note=note)
    # Whoever has announced prices of their own knows better than the list.
    plans = any(price.effective_from > now for price in everybodys)
    to_come = () if plans else tuple((begins, each) for begins, each in later if each is not None)
    state: State = "added" if in_force is None else "replaced"
    if in_force is not None and _is_same(in_force, fields):
        state = "same"
    return Proposal(model, state, listed.name, fields, to_come, listed.left_out)


def _first_listed(table: PriceTable, model: Model, now: datetime) -> Listed | None:
    """By its targets, in the order in which they are tried."""
    targets = sorted(model.targets.all(), key=lambda target: (target.priority, target.created_at))
    for target in targets:
        if target.provider is not None:
            listed = listed_for(table, target.provider, target.upstream_model, now)
            if listed is not None:
                return listed
    return None


def _is_same(price: Price, fields: Mapping[str, Any]) -> bool:
    try:
        row = model_services.price_row("prices", dict(fields))
    except Invalid:
        return False
    columns = {*model_services.PRICE_COLUMNS.values(), model_services.LONG_CONTEXT}
    return all(getattr(price, column) == row.get(column) for column in columns)


def import_prices(
    *,
    actor: Actor,
    table: PriceTable,
    match: str = "*",
    missing: bool = False,
    dry_run: bool = False,
    progress: Progress = lambda done: None,
) -> list[Proposal]:
    """Add what `proposals` says, each model a change of its own; so what an interruption left out comes with the next import."""
    done = []
    # The list is made before anything is added: a price that was added just now is not compared again.
    for n, proposal in enumerate(
        list(proposals(table, match=match, missing=missing, now=SYSTEM.now()))
    ):
        progress(n)
        if proposal.is_change and not dry_run:
            proposal = _add(actor, proposal)
        done.append(proposal)
    return done


def _add(actor: Actor, proposal: Proposal) -> Proposal:
    model = proposal.model
    try:
        model_services.update_model(actor=actor, model_id=model.id, prices=proposal.prices())
    except (Conflict, Invalid, NotFound) as fault:
        return Proposal(model, "unusable", proposal.listed, note=fault.message)
    return proposal
