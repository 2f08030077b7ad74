"""What is known about the well-known kinds of provider. A plain table, pure; a row is a default, never a limit.

Windows and caps are the providers' own words. The lists are short on purpose: they serve where nobody can be asked. What
models cost is in the price table (providers/price_table.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

_MAX_PORT: Final = 65535


class UnknownKind(Exception):
    """No provider of that kind is known."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"There is no provider kind {kind!r}; known are {', '.join(PRESETS)}.")
        self.kind = kind


class PresetModel(NamedTuple):
    """A model under the upstream's own id. Windows and caps in tokens."""

    upstream_id: str
    capability: str
    context_window: int | None
    max_output: int | None


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of provider. `base_url` empty: whoever adds one has to say where it is.

    `env_key` and `env_base_url` name the variables in which people already keep a key or an address for it;
    `in_process` ones are answered by this house itself, without a connection. `path` is what the path of every address of this
    kind ends with; `cap_member` is what a chat's output cap is called there; `also_lists_at` is where, in place of `path`, more
    is told of the models that are there.
    """

    name: str
    label: str
    base_url: str
    needs_key: bool
    env_key: str = ""
    env_base_url: str = ""
    dialect: str = "openai"
    in_process: bool = False
    models: tuple[PresetModel, ...] = ()
    path: str = ""
    cap_member: str = "max_tokens"
    also_lists_at: str = ""

    def completed(self, path: str) -> str:
        """The path of somebody's base URL, with what they left out of it."""
        return path if path.endswith(self.path) else path + self.path


def _chat(upstream_id: str, context_window: int | None, max_output: int | None) -> PresetModel:
    return PresetModel(upstream_id, "chat", context_window, max_output)


def _embedding(upstream_id: str, context_window: int) -> PresetModel:
    return PresetModel(upstream_id, "embedding", context_window, None)


_OPENAI = Preset(
    name="openai",
    label="OpenAI",
    base_url="https://api.openai.com/v1",
    needs_key=True,
    env_key="OPENAI_API_KEY",
    env_base_url="OPENAI_BASE_URL",
    cap_member="max_completion_tokens",
    models=(
        _chat("gpt-5", 400_000, 128_000),
        _chat("gpt-5-mini", 400_000, 128_000),
        _chat("gpt-5-nano", 400_000, 128_000),
        _chat("gpt-4.1", 1_047_576, 32_768),
        _chat("gpt-4.1-mini", 1_047_576, 32_768),
        _chat("gpt-4o", 128_000, 16_384),
        _chat("gpt-4o-mini", 128_000, 16_384),
        _embedding("text-embedding-3-small", 8192),
        _embedding("text-embedding-3-large", 8192),
    ),
)

# An address is each customer's own, and so are the names of what is deployed there.
_AZURE = Preset(
    name="azure",
    label="Azure OpenAI",
    base_url="",
    needs_key=True,
    dialect="azure",
    cap_member="max_completion_tokens",
)

_OPENAI_COMPATIBLE = Preset(
    name="openai-compatible", label="OpenAI-compatible server", base_url="", needs_key=False
)

_GROQ = Preset(
    name="groq",
    label="Groq",
    base_url="https://api.groq.com/openai/v1",
    needs_key=True,
    env_key="GROQ_API_KEY",
    models=(
        _chat("llama-3.3-70b-versatile", 131_072, 32_768),
        _chat("llama-3.1-8b-instant", 131_072, 131_072),
        _chat("openai/gpt-oss-120b", 131_072, 65_536),
    ),
)

_MISTRAL = Preset(
    name="mistral",
    label="Mistral",
    base_url="https://api.mistral.ai/v1",
    needs_key=True,
    env_key="MISTRAL_API_KEY",
    models=(
        _chat("mistral-large-2512", 262_144, None),
        _chat("mistral-small-2603", 262_144, None),
        _chat("codestral-2508", 262_144, None),
        _embedding("mistral-embed", 8192),
    ),
)

_DEEPSEEK = Preset(
    name="deepseek",
    label="DeepSeek",
    base_url="https://api.deepseek.com/v1",
    needs_key=True,
    env_key="DEEPSEEK_API_KEY",
    models=(
        _chat("deepseek-v4-flash", 1_000_000, None),
        _chat("deepseek-v4-pro", 1_000_000, None),
    ),
)

_OPENROUTER = Preset(
    name="openrouter",
    label="OpenRouter",
    base_url="https://openrouter.ai/api/v1",
    needs_key=True,
    env_key="OPENROUTER_API_KEY",
    models=(
        _chat("openai/gpt-5-mini", 400_000, 128_000),
        _chat("openai/gpt-4o-mini", 128_000, 16_384),
    ),
)

_TOGETHER = Preset(
    name="together",
    label="Together AI",
    base_url="https://api.together.xyz/v1",
    needs_key=True,
    env_key="TOGETHER_API_KEY",
    models=(
        _chat("meta-llama/Llama-3.3-70B-Instruct-Turbo", 131_072, None),
        _chat("openai/gpt-oss-120b", 131_072, None),
    ),
)

_FIREWORKS = Preset(
    name="fireworks",
    label="Fireworks AI",
    base_url="https://api.fireworks.ai/inference/v1",
    needs_key=True,
    env_key="FIREWORKS_API_KEY",
    models=(
        _chat("accounts/fireworks/models/gpt-oss-120b", 131_072, None),
        _chat("accounts/fireworks/models/gpt-oss-20b", 131_072, None),
    ),
)

_XAI = Preset(
    name="xai",
    label="xAI",
    base_url="https://api.x.ai/v1",
    needs_key=True,
    env_key="XAI_API_KEY",
    models=(
        _chat("grok-4.5", 500_000, None),
        _chat("grok-4.3", 1_000_000, None),
        _chat("grok-4-1-fast-non-reasoning", 2_000_000, None),
    ),
)

# Servers that people run themselves. vLLM has no default here: its usual port is the one that we listen on.
_VLLM = Preset(name="vllm", label="vLLM", base_url="", needs_key=False)
_LLAMACPP = Preset(
    name="llamacpp", label="llama.cpp", base_url="http://127.0.0.1:8080/v1", needs_key=False
)
_OLLAMA = Preset(
    name="ollama",
    label="Ollama",
    base_url="http://127.0.0.1:11434/v1",
    needs_key=False,
    env_base_url="OLLAMA_HOST",
    path="/v1",
    also_lists_at="/api/tags",
)

# Answers in this process, deterministically, for a first try and for tests; the last three misbehave on purpose.
_DEMO = Preset(
    name="demo",
    label="Demo (no account needed)",
    base_url="",
    needs_key=False,
    in_process=True,
    models=(
        _chat("echo", 8192, 4096),
        _chat("slow", 8192, 4096),
        _chat("fail-503", 8192, 4096),
        _chat("cut", 8192, 4096),
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        preset.name: preset
        for preset in (
            _OPENAI,
            _AZURE,
            _OPENAI_COMPATIBLE,
            _GROQ,
            _MISTRAL,
            _DEEPSEEK,
            _OPENROUTER,
            _TOGETHER,
            _FIREWORKS,
            _XAI,
            _VLLM,
            _LLAMACPP,
            _OLLAMA,
            _DEMO,
        )
    }
)


def preset(kind: str) -> Preset:
    """The preset of that kind. Raises UnknownKind."""
    try:
        return PRESETS[kind]
    except KeyError:
        raise UnknownKind(kind) from None


def ollama_base_url(host: str) -> str:
    """The base URL for a value of `OLLAMA_HOST`: host, `host:port`, `:port`, an IPv6 address with or without brackets, or a URL
    with or without a path, as Ollama itself reads it. A port that is none counts as not given.

    A server that listens on every address is asked on loopback. Source: envconfig/config.go of Ollama.
    """
    text = host.strip().strip("\"'").strip()
    if text == "ollama.com":
        text = "https://ollama.com"
    scheme, separator, rest = text.rpartition("://")
    default_port = {"http": 80, "https": 443}.get(scheme, 11434) if separator else 11434
    address, slash, path = rest.partition("/")
    name, port = _host_and_port(address)
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104  (read, not bound)
    where = f"[{name}]" if ":" in name else name
    port = port if port.isdigit() and 0 < int(port) <= _MAX_PORT else str(default_port)
    base = (slash + path).rstrip("/")
    return f"{scheme or 'http'}://{where}:{port}{_OLLAMA.completed(base)}"


def _host_and_port(address: str) -> tuple[str, str]:
    """`::1` is a host; `[::1]:80`, `host:80` and `:80` have a port."""
    if address.startswith("["):
        name, _, rest = address[1:].partition("]")
        return name, rest.removeprefix(":")
    if address.count(":") > 1:
        return address, ""
    name, _, port = address.partition(":")
    return name, port
