"""The calls, each as a view."""

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from gateway.views import documented
from gateway.views.base import CallView
from gateway.views.shapes import calls as shapes


class ChatCompletionsView(CallView):
    @documented.call(
        "createChatCompletion", "Chat with a model", shapes.CHAT_REQUEST, shapes.CHAT_ANSWER
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """The answer to a conversation. Every parameter that Gatehouse does not know goes to the provider as it is."""
        return await self.call(request)


class CompletionsView(CallView):
    @documented.call(
        "createCompletion",
        "Complete a text",
        shapes.COMPLETION_REQUEST,
        shapes.COMPLETION_ANSWER,
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """The older way, for models that still have it."""
        return await self.call(request)


class EmbeddingsView(CallView):
    @documented.call(
        "createEmbedding",
        "Embed texts",
        shapes.EMBEDDING_REQUEST,
        shapes.EMBEDDING_ANSWER,
    )
    async def post(self, request: Request, model: str = "") -> HttpResponseBase:
        """A vector for each text."""
        return await self.call(request)


class ModelsView(CallView):
    @documented.models("listModels", "List models", shapes.MODELS)
    async def get(self, request: Request) -> HttpResponseBase:
        """The models that this key may call, and no others."""
        return await self.call(request)


class ModelView(CallView):
    @documented.models("retrieveModel", "Look at a model", shapes.MODEL)
    async def get(self, request: Request, model: str) -> HttpResponseBase:
        """One of them by its name, which may hold slashes."""
        return await self.call(request)
