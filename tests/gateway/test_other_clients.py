"""Applications that strangers wrote do not notice the gateway either: LangChain, and Simon Willison's `llm`."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.gateway.door import Door, eventually
from tests.support import aimock, programs
from tests.support.oracle.script import text_of

pytestmark = pytest.mark.sqlite

PROMPT = "say something to me"
TEXT = "".join(text_of(5))
VECTOR = [1.0, 2.0, 3.0]


# --- LangChain --------------------------------------------------------------------------------------------------------


@pytest.mark.data_plane
def test_langchain_does_not_notice(door: Door, tmp_path: Path) -> None:
    programs.need_python("langchain", "langchain_openai")
    with aimock.running(tmp_path) as mock:
        provider = door.new_provider(mock.api, None)
        task = {
            "base_url": door.server.api,
            "api_key": door.key.secret,
            "model": "oracle/ok",
            "embedding_model": "embed/ok",
            "json_model": door.new_model("lang-json", provider, "gpt"),
        }
        facts = programs.facts_of_python("langchain", "tests.support.langchain", task)
    assert facts["invoke"] == facts["stream"] == facts["after_tool"] == TEXT
    assert facts["chunks"] == 5
    assert facts["usage"] == [8, 5]
    assert facts["stream_usage"] == [[6, 5]]
    assert facts["tool"] == ["weather", {"city": "Zürich"}]
    assert facts["tool_result"] == "rain in Zürich"
    assert facts["stream_tool"] == {"city": "Zürich"}
    assert facts["structured"] == aimock.STRUCTURED
    assert facts["documents"] == [VECTOR] * 2
    assert facts["query"] == VECTOR
    assert facts["asynchronous"] == [TEXT] * 4
    assert facts["errors"] == {
        "busy": ["OpenAIRateLimitError", 429, None],
        "cut": ["APIError", None, "upstream_error"],
        "model": ["OpenAIModelNotFoundError", 404, "model_not_found"],
    }
    door.assert_nothing_left()


# --- llm --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Llm:
    """The command line `llm` with a folder of its own for its models, keys and logs."""

    folder: Path

    def add(self, door: Door, name: str, model: str) -> None:
        """As its manual says: an entry of extra-openai-models.yaml (JSON is YAML) that names a key."""
        file = self.folder / "extra-openai-models.yaml"
        known = json.loads(file.read_text()) if file.exists() else []
        entry = {"model_id": name, "model_name": model, "api_base": door.server.api}
        abilities = {"supports_tools": True, "supports_schema": True}
        known.append({**entry, "api_key_name": "gatehouse", **abilities})
        file.write_text(json.dumps(known))

    def __call__(self, *arguments: str) -> str:
        """What it prints. Raises ProgramFailed with what it says on standard error."""
        done = programs.python(
            "llm", "-m", "llm", *arguments, env={"LLM_USER_PATH": str(self.folder)}
        )
        if done.returncode:
            raise programs.ProgramFailed(done.stderr)
        return done.stdout.rstrip("\n")


@pytest.fixture
def llm(door: Door, tmp_path: Path) -> Llm:
    programs.need_python("llm", "llm")
    (tmp_path / "keys.json").write_text(json.dumps({"gatehouse": door.key.secret}))
    return Llm(tmp_path)


def test_llm_streams_and_waits_and_is_told_what_went_wrong(door: Door, llm: Llm) -> None:
    llm.add(door, "house", "oracle/llm~ok")
    llm.add(door, "cut", "oracle/llm~cut:2")
    llm.add(door, "nowhere", "no-such-model")
    assert llm("-m", "house", PROMPT) == llm("-m", "house", "--no-stream", PROMPT) == TEXT
    with pytest.raises(programs.ProgramFailed, match="did not give a complete answer"):
        llm("-m", "cut", PROMPT)
    with pytest.raises(programs.ProgramFailed, match="no-such-model"):
        llm("-m", "nowhere", PROMPT)
    kept = "SELECT stream, status FROM usage_requestlog WHERE model = 'oracle/llm~ok' ORDER BY created_at"
    assert eventually(lambda: len(door.server.query(kept)) == 2)
    assert [(bool(stream), status) for stream, status in door.server.query(kept)] == [
        (True, 200),
        (False, 200),
    ]


def test_llm_runs_the_tools_that_a_model_calls_and_keeps_to_a_schema(door: Door, llm: Llm) -> None:
    with aimock.running(llm.folder) as mock:
        llm.add(door, "mock", door.new_model("llm-mock", door.new_provider(mock.api, None), "gpt"))
        function = "def weather(city: str, days: int) -> str:\n    return f'rain in {city}'"
        assert llm("-m", "mock", "--functions", function, "the weather?") == "Rain, then."
        answer = llm("-m", "mock", "--schema", "verdict, score int", "your verdict?")
        assert json.loads(answer) == aimock.STRUCTURED
