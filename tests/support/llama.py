"""A real llama.cpp server on a tiny model with random weights: true OpenAI endpoints, meaningless text.

The model is made here (llama architecture, one layer, a byte-level tokenizer, a chat template that knows tools), so nothing
is downloaded. The server runs in its own process: `python -m tests.support.llama MODEL.gguf` prints its address.
"""

import importlib.util
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

CONTEXT = 2048
WIDTH = 64
LAYERS = 1
HEADS = 4
FEED_FORWARD = 128
MODEL_ALIAS = "tiny-random"
START_SECONDS = 30
ROOT = Path(__file__).resolve().parents[2]

MERGES = [(a, b) for a in "etaoinsh" for b in "etaoinsh"]
TOOL_CALL = "<tool_call>\n"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# The shape of Qwen 2.5's template: llama.cpp recognises its tool calls and constrains the output to them.
CHAT_TEMPLATE = """
{%- if tools %}{{- '<|im_start|>system\\n<tools>' }}
{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}
{{- '\\n</tools>\\n<tool_call>\\n{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role }}
{%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
{%- for tool_call in message.tool_calls or [] %}
{%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
{{- '\\n<tool_call>\\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
{{- tool_call.arguments | tojson }}{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""


class LlamaUnavailable(RuntimeError):
    """The wheel is missing or its server did not come up; the message says which."""


def _byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes (openai/gpt-2, encoder.py: bytes_to_unicode)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def write_model(path: Path, *, seed: int = 1) -> Path:
    """Write a GGUF of about half a megabyte to `path`; the same seed gives the same weights."""
    import gguf
    import numpy as np

    tokens = [*_byte_alphabet(), *(a + b for a, b in MERGES), TOOL_CALL, *SPECIAL]
    plain = len(tokens) - len(SPECIAL) - 1
    kinds = [gguf.TokenType.NORMAL] * plain + [gguf.TokenType.USER_DEFINED]
    kinds += [gguf.TokenType.CONTROL] * len(SPECIAL)

    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(MODEL_ALIAS)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([f"{a} {b}" for a, b in MERGES])
    writer.add_bos_token_id(tokens.index("<|endoftext|>"))
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)

    random = np.random.default_rng(seed)

    def matrix(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return (random.standard_normal(shape) / 8).astype(np.float32)

    ones = np.ones(WIDTH, dtype=np.float32)
    writer.add_tensor("token_embd.weight", matrix(len(tokens), WIDTH))
    writer.add_tensor("output_norm.weight", ones)
    head = matrix(len(tokens), WIDTH)
    head[-len(SPECIAL) :] = (
        0  # never among the 40 likeliest: `max_tokens` is the length, only a grammar ends a text early
    )
    writer.add_tensor("output.weight", head)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        writer.add_tensor(f"{block}.attn_norm.weight", ones)
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            writer.add_tensor(f"{block}.{name}.weight", matrix(WIDTH, WIDTH))
        writer.add_tensor(f"{block}.ffn_norm.weight", ones)
        writer.add_tensor(f"{block}.ffn_gate.weight", matrix(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_up.weight", matrix(FEED_FORWARD, WIDTH))
        writer.add_tensor(f"{block}.ffn_down.weight", matrix(WIDTH, FEED_FORWARD))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def serve(model: str) -> None:
    """Run the server in this process on a free port until standard input closes; prints one JSON line when it listens."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.model_alias = {MODEL_ALIAS}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = CONTEXT
    parameters.n_parallel = 2
    parameters.n_threads_http = 8
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.use_jinja = True
    parameters.warmup = False
    parameters.offline = True
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    sys.stdout.write(json.dumps({"url": server.listening_address}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    os._exit(0)


@dataclass(frozen=True)
class Llama:
    """A running server. `url` has no path; OpenAI clients want `api` as their base address."""

    url: str
    model: str = MODEL_ALIAS

    # llama.cpp's grammar for a required call allows text before it, and noise never ends. Sent as `logit_bias`, this makes
    # the opening tag the first token; from there the grammar leads.
    prefer_tool_call: ClassVar[dict[str, int]] = {str(256 + len(MERGES)): 100}

    @property
    def api(self) -> str:
        return f"{self.url}/v1"


@contextmanager
def running(folder: Path) -> Iterator[Llama]:
    """A server in its own process, its model and log in `folder`. Raises LlamaUnavailable."""
    if not _installed():
        raise LlamaUnavailable("the packages xllamacpp, gguf and numpy are not installed")
    model = folder / "tiny.gguf"
    if not model.exists():
        write_model(model)
    log = folder / "llama.log"
    command = [sys.executable, "-m", "tests.support.llama", str(model)]
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=ROOT,
            text=True,
        )
    try:
        yield Llama(_address(process, log))
    finally:
        with process:
            process.kill()


def _installed() -> bool:
    return all(importlib.util.find_spec(name) for name in ("xllamacpp", "gguf", "numpy"))


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise LlamaUnavailable(
            f"llama.cpp did not listen within {START_SECONDS} s:\n{log.read_text()[-2000:]}"
        )
    return str(json.loads(line)["url"])


if __name__ == "__main__":
    serve(sys.argv[1])
