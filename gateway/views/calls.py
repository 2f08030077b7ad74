"""The calls, each as a view."""

from typing import Any, Final

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from gateway.views import documented
from gateway.views.base import CallView

#: The provider that every installation can have without an account.
_EXAMPLE_MODEL: Final = "demo/echo"
_CHAT: Final[dict[str, Any]] = {
    "model": _EXAMPLE_MODEL,
    "messages": [{"role": "user", "content": "Hello!"}],
}


class ChatCompletionsView(CallView):
    @documented.call(
        "createChatCompletion", "Chat with a model", "ChatRequest", "ChatAnswer", _CHAT
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """The answer to a conversation. Every parameter that Gatehouse does not know goes to the provider as it is."""
        return await self.call(request)


class CompletionsView(CallView):
    @documented.call(
        "createCompletion",
        "Complete a text",
        "CompletionRequest",
        "CompletionAnswer",
        {"model": _EXAMPLE_MODEL, "prompt": "Hello!"},
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """The older way, for models that still have it."""
        return await self.call(request)


class EmbeddingsView(CallView):
    @documented.call(
        "createEmbedding",
        "Embed texts",
        "EmbeddingRequest",
        "EmbeddingAnswer",
        {"model": "text-embedding-3-small", "input": "Hello!"},
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """A vector for each text."""
        return await self.call(request)


class ModelsView(CallView):
    @documented.models("listModels", "List models", "Models")
    async def get(self, request: Request) -> HttpResponseBase:
        """The models that this key may call, and no others."""
        return await self.call(request)


class ModelView(CallView):
    @documented.models("retrieveModel", "Look at a model", "Model")
    async def get(self, request: Request, model: str) -> HttpResponseBase:
        """One of them by its name, which may hold slashes."""
        return await self.call(request)
