"""LiteLLM's `config.yaml`: its list of models as providers and models of ours, and what else stands in it, by name.

Source of names and meanings: the proxy's documentation and code, LiteLLM 1.110.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final

from gateway.config_file import yaml_text
from gateway.config_file.yaml_text import NotReadable
from gateway.imports import amounts, upstreams
from gateway.imports.plan import Plan, PlannedModel
from gateway.imports.upstreams import ReadVariable
from providers import model_services, presets
from tenants import validation
from tenants.errors import Invalid
from tenants.models import MAX_REQUESTS, MAX_TOKENS
from usage.money import NANO_PER_USD, usd_text

#: What stands before the slash of a model → kind of provider.
KINDS: Final = {
    **{name: name for name in ("openai", "azure", "groq", "mistral", "deepseek", "openrouter")},
    **{name: name for name in ("xai", "ollama", "anthropic", "gemini", "bedrock")},
    **dict.fromkeys(("text-completion-openai",), "openai"),
    **dict.fromkeys(("azure_text",), "azure"),
    **dict.fromkeys(("ollama_chat",), "ollama"),
    **dict.fromkeys(("together_ai",), "together"),
    **dict.fromkeys(("fireworks_ai",), "fireworks"),
    **dict.fromkeys(("hosted_vllm", "vllm"), "vllm"),
    **dict.fromkeys(
        ("custom_openai", "openai_like", "litellm_proxy", "llamafile", "lm_studio"),
        "openai-compatible",
    ),
}
#: Models that LiteLLM knows without anything before a slash.
_BARE: Final = {
    **dict.fromkeys(("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-"), "openai"),
    "claude": "anthropic",
    "gemini": "gemini",
}
_VARIABLE: Final = "os.environ/"
_PRICES: Final = {
    "input_cost_per_token": "input_usd_per_mtok",
    "output_cost_per_token": "output_usd_per_mtok",
    "cache_read_input_token_cost": "cached_input_usd_per_mtok",
    "cache_creation_input_token_cost": "cache_write_usd_per_mtok",
}
_READ: Final = frozenset(
    ("model", "api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "rpm", "tpm")
) | frozenset(_PRICES)
_INFO_READ: Final = frozenset(
    (
        *("id", "mode", "access_groups", "max_tokens", "max_input_tokens", "max_output_tokens"),
        *("base_model", "description", "db_model", "team_id", "team_public_model_name"),
    )
) | frozenset(_PRICES)
_LIMITS: Final = {"rpm": ("rate_limit_rpm", MAX_REQUESTS), "tpm": ("rate_limit_tpm", MAX_TOKENS)}
_SECTIONS: Final = ("litellm_settings", "router_settings", "general_settings")
_MOST_MODELS: Final = 5_000


def read(plan: Plan, text: str, variable: ReadVariable) -> dict[str, list[str]]:
    """Into the plan; gives the models of each access group. Raises `Invalid` for a file that is no configuration."""
    try:
        document = yaml_text.read(text).value
    except NotReadable as fault:
        raise Invalid.field("config", f"{fault.fault}") from None
    if not isinstance(document, dict):
        raise Invalid.field("config", "must be a mapping with model_list in it.")
    reader = _Reader(plan, variable, document.get("environment_variables"))
    models = document.get("model_list") or []
    if not isinstance(models, list) or len(models) > _MOST_MODELS:
        raise Invalid.field("config", f"model_list must be a list of at most {_MOST_MODELS}.")
    for number, entry in enumerate(models):
        where = f"model_list[{number}]"
        try:
            reader.entry(where, entry)
        except Invalid as fault:
            plan.fault(where, fault)
    reader.finish(document)
    return reader.groups


class _Reader:
    def __init__(self, plan: Plan, variable: ReadVariable, own_variables: object) -> None:
        self._plan, self._variable = plan, variable
        self._own = own_variables if isinstance(own_variables, dict) else {}
        self.groups: dict[str, list[str]] = defaultdict(list)
        #: Requests and tokens a minute of each deployment, None where one has no limit.
        self._rates: dict[str, list[dict[str, int]]] = defaultdict(list)

    # --- one deployment

    def entry(self, where: str, entry: object) -> None:
        if not isinstance(entry, dict) or not isinstance(entry.get("litellm_params"), dict):
            raise Invalid.field("litellm_params", "must be a mapping.")
        name = validation.name("model_name", entry.get("model_name"))
        model_services.CREATE_RULES["id"]("model_name", name)
        params: dict[str, Any] = entry["litellm_params"]
        info = entry.get("model_info") or {}
        if not isinstance(info, dict):
            raise Invalid.field("model_info", "must be a mapping.")
        whose = f"model {name}"
        kind, upstream = self._upstream(params)
        if kind is None or upstream is None:
            why = "no provider here speaks that; this deployment does not come along."
            self._plan.leave(whose, str(params.get("model")), why)
            return
        capability = upstreams.capability_of(upstream, info.get("mode"))
        if capability is None:
            why = "no model here is for that; this deployment does not come along."
            self._plan.leave(whose, f"mode {info.get('mode')}", why)
            return
        reference = upstreams.provider(
            self._plan,
            kind=kind,
            base_url=self._text(whose, params, "api_base", "base_url"),
            api_key=self._credential(whose, kind, params),
            api_version=self._text(whose, params, "api_version"),
        )
        model = self._plan.models.get(name)
        if model is None:
            facts = upstreams.listed_facts(self._plan, reference, upstream, capability)
            facts |= self._facts(info) | self._price(params, info)
            model = PlannedModel(where, {"id": name, "capability": capability, **facts})
            self._plan.models[name] = model
        if (reference, upstream) not in model.targets:
            model.targets.append((reference, upstream))
        self._rates[name].append(amounts.limits(params, _LIMITS)[0])
        for group in amounts.texts("access_groups", info.get("access_groups")):
            self.groups[group].append(name)
        self._leave(whose, "litellm_params", params, _READ)
        self._leave(whose, "model_info", info, _INFO_READ)

    def _upstream(self, params: Mapping[str, Any]) -> tuple[str | None, str | None]:
        """Kind of provider and the model's name there; None where we have none of that kind."""
        text = params.get("model")
        if not isinstance(text, str) or not text:
            raise Invalid.field("model", "must be a text.")
        named = params.get("custom_llm_provider")
        prefix, slash, rest = text.partition("/")
        kind = KINDS.get(named) if isinstance(named, str) else KINDS.get(prefix) if slash else None
        if kind is not None and slash and prefix in KINDS:
            text = rest
        elif not slash and named is None:
            kind = next((it for begin, it in _BARE.items() if text.startswith(begin)), None)
        if kind == "azure":
            # Of `azure/chat/name` and the like only the last says which deployment.
            text = text.rpartition("/")[2]
        return (kind if kind in presets.PRESETS else None), text

    def _text(self, whose: str, params: Mapping[str, Any], *names: str) -> str:
        value = next((params[name] for name in names if params.get(name)), "")
        if not isinstance(value, str):
            raise Invalid.field(names[0], "must be a text.")
        if not value.startswith(_VARIABLE):
            return value
        name = value.removeprefix(_VARIABLE)
        found = self._own.get(name)
        found = found if isinstance(found, str) and found else self._variable(name)
        if not found:
            self._plan.leave(
                whose, f"{names[0]} {value}"[:160], "is not set, or is a secret of this house."
            )
        return found

    def _credential(self, whose: str, kind: str, params: Mapping[str, Any]) -> str:
        """What is given, else what the kind's own variable says, as it is there."""
        if params.get("api_key"):
            return self._text(whose, params, "api_key")
        own = presets.PRESETS[kind].env_key
        return self._variable(own) if own else ""

    @staticmethod
    def _facts(info: Mapping[str, Any]) -> dict[str, int]:
        names = {"context_window": "max_input_tokens", "max_output_tokens": "max_output_tokens"}
        read = {ours: amounts.whole(theirs, info.get(theirs)) for ours, theirs in names.items()}
        return {name: value for name, value in read.items() if value is not None and value > 0}

    @staticmethod
    def _price(params: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
        """Per million tokens; what is finer than we can hold is rounded up."""
        found = {}
        for theirs, ours in _PRICES.items():
            cost = amounts.number(theirs, params.get(theirs, info.get(theirs)))
            if cost is not None:
                nano = (cost * 1_000_000 * NANO_PER_USD).to_integral_value(ROUND_CEILING)
                found[ours] = usd_text(int(max(nano, Decimal(0))))
        if not {"input_usd_per_mtok", "output_usd_per_mtok"} & found.keys():
            return {}
        return {"prices": [{"input_usd_per_mtok": "0", "output_usd_per_mtok": "0", **found}]}

    # --- all of them

    def finish(self, document: Mapping[str, Any]) -> None:
        for name, rates in self._rates.items():
            self._finish_model(name, rates)
        router = document.get("router_settings")
        aliases = router.get("model_group_alias") if isinstance(router, dict) else None
        for alias, name in (aliases if isinstance(aliases, dict) else {}).items():
            model = self._plan.models.get(name) if isinstance(name, str) else None
            if model is None:
                self._plan.leave(f"model {alias}", "model_group_alias", "has no model behind it.")
            elif alias not in self._plan.models:
                fields = {**model.fields, "id": alias}
                self._plan.models[alias] = PlannedModel(model.where, fields, list(model.targets))
        for section in _SECTIONS:
            self._section(section, document.get(section))
        read = {"model_list", "environment_variables", *_SECTIONS}
        for name in document:
            if name not in read:
                self._plan.leave("config", name[:128], "has no place here.")

    def _finish_model(self, name: str, rates: Sequence[Mapping[str, int]]) -> None:
        fields, number = self._plan.models[name].fields, len(self._plan.models[name].targets)
        # Together they take what each takes, if every one says how much.
        for ours, most in _LIMITS.values():
            if all(ours in each for each in rates):
                fields[ours] = min(sum(each[ours] for each in rates), most)
        if "rate_limit_rpm" in fields:
            fields["burst"] = fields["rate_limit_rpm"]
        if number > 1:
            why = "are tried in the order of the list, and not balanced."
            self._plan.leave(f"model {name}", f"{number} deployments", why)

    def _section(self, section: str, settings: object) -> None:
        for name in settings if isinstance(settings, dict) else ():
            if (section, name) == ("router_settings", "model_group_alias"):
                continue
            why = "has no place here."
            if name == "master_key":
                why = "is no tenant's key: operators sign in, or have service tokens."
            self._plan.leave("config", f"{section}.{name}"[:128], why)

    def _leave(
        self, whose: str, where: str, values: Mapping[str, Any], known: frozenset[str]
    ) -> None:
        for name, value in values.items():
            if name not in known and not amounts.is_nothing(value):
                self._plan.leave(whose, f"{where}.{name}"[:128], "has no place here.")
