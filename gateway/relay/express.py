"""The express edge: a call is answered in the server's own task, before Django sees it."""

from gateway.relay.driver import Conversation, Message, Receive, Send
from gateway.relay.endpoints import Endpoint
from gateway.relay.relay import Relay


async def serve(
    relay: Relay, found: tuple[Endpoint, str], scope: Message, receive: Receive, send: Send
) -> None:
    """Answer one call of the table."""
    await Conversation(relay, receive, send).run(found[0], found[1], scope)
