"""What an import would bring, what it would leave behind, and which rows are no good."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from keys import importing
from tenants.errors import Invalid
from tenants.limits import Window

#: Windows that something used elsewhere is counted in; `prepaid` is an account's balance.
UsedIn = Window | Literal["prepaid"]


class LeftBehind(NamedTuple):
    """Something that has no place here: whose it is, what, and what that means."""

    whose: str
    what: str
    why: str


class Fault(NamedTuple):
    """A row that cannot be taken: where it stands, and why."""

    where: str
    sentence: str


@dataclass(slots=True)
class Used:
    """Nano-USD that were used elsewhere, in the running window of that kind."""

    window: UsedIn
    nano_usd: int


@dataclass(slots=True)
class PlannedKey:
    """`values` are clean. `project` and `account`: references among those of the plan, empty for none."""

    where: str
    sha256: bytes
    shown: str
    values: dict[str, Any]
    project: str = ""
    account: str = ""
    used: list[Used] = field(default_factory=list)


@dataclass(slots=True)
class PlannedGroup:
    """A project or an account. `paid_in`: nano-USD that its balance is to begin with. `is_here`: it is not made, only named."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    used: list[Used] = field(default_factory=list)
    paid_in: int = 0
    is_here: bool = False


@dataclass(slots=True)
class PlannedProvider:
    fields: dict[str, Any]


@dataclass(slots=True)
class PlannedModel:
    """Targets name providers by their references in the plan."""

    where: str
    fields: dict[str, Any]
    targets: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """`source` says where from. Projects, accounts and providers by what the rows call them."""

    source: str
    providers: dict[str, PlannedProvider] = field(default_factory=dict)
    models: dict[str, PlannedModel] = field(default_factory=dict)
    projects: dict[str, PlannedGroup] = field(default_factory=dict)
    accounts: dict[str, PlannedGroup] = field(default_factory=dict)
    keys: list[PlannedKey] = field(default_factory=list)
    left_behind: list[LeftBehind] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    _seen: dict[bytes, str] = field(default_factory=dict, repr=False)

    def leave(self, whose: str, what: str, why: str) -> None:
        self.left_behind.append(LeftBehind(whose, what, why))

    def fault(self, where: str, refusal: Invalid | str) -> None:
        if isinstance(refusal, str):
            self.faults.append(Fault(where, refusal))
            return
        said = [f"{name}: {sentence}" for name, sentence in refusal.fields.items()]
        self.faults.append(Fault(where, "; ".join(said) or refusal.message))

    def add_key(
        self,
        where: str,
        sha256: bytes,
        fields: Mapping[str, Any],
        *,
        shown: str = "",
        project: str = "",
        account: str = "",
        used: list[Used] | None = None,
    ) -> PlannedKey | None:
        """One more key, or a fault in its place."""
        if sha256 in self._seen:
            self.fault(where, f"is the same key as {self._seen[sha256]}.")
            return None
        self._seen[sha256] = where
        try:
            values = importing.checked(fields)
        except Invalid as fault:
            self.fault(where, fault)
            return None
        shown = importing.shown_part(sha256, shown)
        key = PlannedKey(where, sha256, shown, values, project, account, used or [])
        self.keys.append(key)
        return key
