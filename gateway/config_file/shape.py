"""What a configuration file can say, and how it is taken apart: into one entry for everything that it names.

version: 1
prune: false
providers: [{name, kind, …}]          what all share
models:    [{id, targets, prices, …}]
prices:    [{model, tenant, …}]       dated prices, of models that may stand elsewhere
tenants:   [{slug, …, projects, accounts, providers, provider_config, models, keys}]

Nothing here asks a database. Values are judged by the rules that the admin API has; a fault names its path and its line.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.config_file import yaml_text
from gateway.config_file.faults import ConfigInvalid, Faults
from gateway.config_file.yaml_text import Document
from keys import tokens
from keys.services import EDIT_RULES as KEY_RULES
from keys.services import ISSUE_RULES as NEW_KEY_RULES
from providers import grants
from providers.model_services import CREATE_RULES as MODEL_RULES
from providers.services import CONFIG_RULES
from providers.services import CREATE_RULES as PROVIDER_RULES
from tenants import account_services, project_services, validation
from tenants.errors import Invalid
from tenants.sealing import Secret
from tenants.services import TENANT_RULES
from tenants.validation import Rule

VERSION: Final = 1
#: Gives the secret that `{env: NAME}` or `{file: PATH}` stands for, or None if nobody wants to know; raises `Invalid`.
Resolve = Callable[[str, str], Secret | None]

_ANY: Rule = lambda field, value: value  # noqa: E731 - a rule like its neighbours, without a rule


@dataclass(frozen=True, slots=True)
class Sort:
    """One sort of thing. `rules`: of its fields; `named_by`: which of them is its natural name; `hides`: which is secret.

    `folds`: names that differ in case only are one. `inner`: sections of things that belong to it.
    """

    kind: str
    named_by: str
    rules: Mapping[str, Rule]
    hides: str = ""
    folds: bool = False
    inner: tuple[str, ...] = ()


def _key_secret(field: str, value: object) -> object:
    if not isinstance(value, str) or not tokens.is_well_formed(value, tokens.Kind.TENANT_KEY):
        raise Invalid.field(field, "must be a key in our form: gwk_, 49 characters, checksum.")
    return Secret(value.encode())


def _grants(field: str, value: object) -> list[str] | None:
    """By slug alone: a tenant that is named may be made by the same file."""
    if value is None:
        return None
    if not isinstance(value, list) or len(value) > validation.MAX_LISTED:
        raise Invalid.field(
            field, f"must be null or a list of at most {validation.MAX_LISTED} slugs of tenants."
        )
    return list(dict.fromkeys(validation.slug(field, each) for each in value))


TENANT: Final = Sort(
    "tenant",
    "slug",
    TENANT_RULES,
    inner=("projects", "accounts", "providers", "provider_config", "models", "keys"),
)
PROJECT: Final = Sort("project", "name", project_services.RULES, folds=True)
ACCOUNT: Final = Sort("account", "username", account_services.RULES, folds=True)
PROVIDER: Final = Sort(
    "provider", "name", {**PROVIDER_RULES, grants.FIELD: _grants}, hides="api_key"
)
PROVIDER_CONFIG: Final = Sort("provider_config", "provider", CONFIG_RULES, hides="api_key")
MODEL: Final = Sort("model", "id", {**MODEL_RULES, grants.FIELD: _grants})
KEY: Final = Sort(
    "key",
    "name",
    {**NEW_KEY_RULES, **KEY_RULES, "made": validation.flag, "secret": _key_secret},
    hides="secret",
)
SORTS: Final = {
    it.kind: it for it in (TENANT, PROJECT, ACCOUNT, PROVIDER, PROVIDER_CONFIG, MODEL, KEY)
}
#: Section → sort, at the top and inside a tenant.
_TOP: Final = {"providers": PROVIDER, "models": MODEL, "tenants": TENANT}
_INNER: Final = {
    "projects": PROJECT,
    "accounts": ACCOUNT,
    "providers": PROVIDER,
    "models": MODEL,
    "keys": KEY,
}
#: What is there must be made before what points to it.
_ORDER: Final = ("tenant", "project", "account", "provider", "provider_config", "model", "key")
_MAX_PRICES: Final = 64
#: Fields that are lists of mappings.
_LISTED: Final = frozenset({"targets", "prices"})


@dataclass(slots=True)
class Entry:
    """Something that the file names. `given`: its fields as written; `clean`: as the rules leave them; `secret`: None if it has
    none, else the value, null for a secret that is to be cleared. `owns`: false for a model of which only prices are said.
    """

    sort: Sort
    name: str
    tenant: str | None
    path: str
    given: dict[str, Any]
    clean: dict[str, Any] = field(default_factory=dict)
    has_secret: bool = False
    secret: Secret | None = None
    is_made: bool = False
    owns: bool = True

    @property
    def identity(self) -> tuple[str, str | None, str]:
        return self.sort.kind, self.tenant, self.name.casefold() if self.sort.folds else self.name


@dataclass(frozen=True, slots=True)
class Wish:
    """What a file wants, in the order in which it can be done. `redacted` is the file without its secrets."""

    document: Document
    entries: list[Entry]
    prune: bool
    redacted: Any


def read(text: str, resolve: Resolve) -> Wish:
    """Raises `ConfigInvalid` with every fault there is."""
    try:
        document = yaml_text.read(text)
    except yaml_text.NotReadable as fault:
        raise ConfigInvalid([fault.fault]) from None
    reader = _Reader(document, resolve)
    wish = reader.wish()
    reader.faults.raise_if_any()
    return wish


class _Reader:
    def __init__(self, document: Document, resolve: Resolve) -> None:
        self.faults = Faults(document)
        self._document = document
        self._resolve = resolve
        self._entries: dict[tuple[str, str | None, str], Entry] = {}

    def wish(self) -> Wish:
        top = self._document.value
        if top is None:
            top = {}
        if not isinstance(top, dict):
            self.faults.add("", "must be a mapping with sections such as tenants.")
            top = {}
        prune = False
        for name, value in top.items():
            if name == "version":
                if type(value) is not int or value != VERSION:
                    self.faults.add(name, f"must be {VERSION}.")
            elif name == "prune":
                prune = self._flag(name, value)
            elif name in _TOP:
                self._section(_TOP[name], value, name, None)
            elif name != "prices":
                self.faults.add(name, "is not a section of this.")
        self._prices(top.get("prices"))
        entries = sorted(self._entries.values(), key=lambda it: _ORDER.index(it.sort.kind))
        return Wish(self._document, entries, prune, _redacted(top))

    def _flag(self, path: str, value: object) -> bool:
        if not isinstance(value, bool):
            self.faults.add(path, "must be true or false.")
        return value is True

    def _items(self, value: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The mappings of a list; null is an empty one."""
        if value is None:
            return
        if not isinstance(value, list):
            self.faults.add(path, "must be a list.")
            return
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if isinstance(item, dict):
                yield at, item
            else:
                self.faults.add(at, "must be a mapping.")

    def _section(self, sort: Sort, value: Any, path: str, tenant: str | None) -> None:
        for at, item in self._items(value, path):
            self._one(sort, item, at, tenant)

    def _one(self, sort: Sort, item: dict[str, Any], path: str, tenant: str | None) -> None:
        name = self._name(sort, item, path)
        if name is None:
            return
        outer = {key: value for key, value in item.items() if key not in sort.inner}
        entry = Entry(sort, name, tenant, path, outer)
        if entry.identity in self._entries:
            self.faults.add(f"{path}.{sort.named_by}", "is named in this file before.")
        self._entries[entry.identity] = entry
        self._judge(entry)
        for section in sort.inner:
            at = f"{path}.{section}"
            if section == "provider_config":
                self._own_provider(item, at, name)
            elif section in item:
                self._section(_INNER[section], item[section], at, name)

    def _own_provider(self, item: dict[str, Any], path: str, tenant: str) -> None:
        """A tenant has one at most, so it has no name; null is none."""
        if "provider_config" not in item:
            return
        value = item["provider_config"]
        if value is not None and not isinstance(value, dict):
            self.faults.add(path, "must be a mapping, or null for none.")
            return
        entry = Entry(PROVIDER_CONFIG, "own", tenant, path, dict(value or {}))
        self._entries[entry.identity] = entry
        if value is not None:
            self._judge(entry)

    def _name(self, sort: Sort, item: dict[str, Any], path: str) -> str | None:
        if item.get(sort.named_by) is None:
            self.faults.add(path, f"needs its {sort.named_by}.")
            return None
        try:
            return str(sort.rules[sort.named_by](sort.named_by, item[sort.named_by]))
        except Invalid as fault:
            self.faults.of_fields(path, fault)
            return None

    def _judge(self, entry: Entry) -> None:
        """The values by their rules; secrets apart, so that none is ever among the others."""
        sort = entry.sort
        if sort.hides and sort.hides in entry.given:
            self._take_secret(entry, entry.given.pop(sort.hides))
        try:
            entry.clean = validation.checked(entry.given, sort.rules)
        except Invalid as fault:
            self._tell(entry, fault)
        if sort is KEY:
            entry.is_made = entry.clean.pop("made", False) is True
            entry.given.pop("made", None)
            if entry.is_made and entry.has_secret:
                self.faults.add(f"{entry.path}.made", "cannot be true beside a secret.")

    def _tell(self, entry: Entry, fault: Invalid) -> None:
        """Every field that is wrong; in a list of mappings which of them, and what of it."""
        for name, sentence in fault.fields.items():
            path, items = f"{entry.path}.{name[:64]}", entry.given.get(name)
            is_listed = name in _LISTED and isinstance(items, list)
            wrong = self._wrong_items(name, items, entry.sort.rules[name]) if is_listed else []
            for index, of_item in wrong:
                self._tell_item(f"{path}[{index}]", name, of_item)
            if not wrong:
                self.faults.add(path, sentence)

    @staticmethod
    def _wrong_items(name: str, items: Any, rule: Rule) -> list[tuple[int, Invalid]]:
        """Those that are wrong by themselves."""
        wrong = []
        for index, item in enumerate(items[:_MAX_PRICES]):
            try:
                rule(name, [item])
            except Invalid as fault:
                wrong.append((index, fault))
        return wrong

    def _tell_item(self, path: str, name: str, fault: Invalid) -> None:
        """`name` is the list that it stands in; what a rule says of that is said of the item."""
        for part, sentence in fault.fields.items():
            self.faults.add(path if part == name else f"{path}.{part[:64]}", sentence)

    def _take_secret(self, entry: Entry, value: Any) -> None:
        field = entry.sort.hides
        path = f"{entry.path}.{field}"
        entry.has_secret = True
        if isinstance(value, dict):
            way = next(iter(value), "")
            if len(value) != 1 or way not in ("env", "file") or not isinstance(value[way], str):
                self.faults.add(path, "must be a text, or {env: NAME}, or {file: PATH}.")
                return
            try:
                found = self._resolve(way, value[way])
            except Invalid as fault:
                self.faults.add(path, next(iter(fault.fields.values()), fault.message))
                return
            if found is None:
                return
            value = found.reveal().decode()
        try:
            entry.secret = entry.sort.rules[field](field, value)
        except Invalid as fault:
            self.faults.of_fields(entry.path, fault)

    def _prices(self, value: Any) -> None:
        """Prices that stand apart go to their model, which need not stand in this file."""
        rule = MODEL_RULES["prices"]
        for path, item in self._items(value, "prices"):
            price = dict(item)
            name = price.pop("model", None)
            if not isinstance(name, str):
                self.faults.add(path, "needs its model.")
                continue
            try:
                clean = rule("prices", [price])
            except Invalid as fault:
                self._tell_item(path, "prices", fault)
                continue
            identity = ("model", None, name)
            entry = self._entries.get(identity)
            if entry is None:
                entry = self._entries[identity] = Entry(MODEL, name, None, path, {}, owns=False)
            entry.given["prices"] = [*(entry.given.get("prices") or []), price]
            entry.clean["prices"] = [*(entry.clean.get("prices") or []), *clean]
            if len(entry.given["prices"]) > _MAX_PRICES:
                self.faults.add(path, f"a model has at most {_MAX_PRICES} prices in one file.")


_SECRETS: Final = frozenset(it.hides for it in SORTS.values() if it.hides)


def _redacted(value: Any) -> Any:
    """References to secrets stay, secrets that are written out go."""
    if isinstance(value, dict):
        return {
            name: _redacted(item)
            for name, item in value.items()
            if name not in _SECRETS or item is None or isinstance(item, dict)
        }
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return value
