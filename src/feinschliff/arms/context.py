"""The one shape of every ingredient: a pure function on conversations.

The same function prepares what a responder is asked and what a tuned model is trained on, so the two cannot drift.
"""
from collections.abc import Callable, Sequence

from feinschliff.core.chat import Conversation, Example, Message
from feinschliff.core.ports import Reply, Responder

Context = Callable[[Sequence[Conversation]], Sequence[Conversation]]
"""Conversations in, the same number of conversations out, in their order; no state, no randomness."""

SYSTEM_ROLES = ("system", "developer")


def plain(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
    """The bare conversation: nothing added."""
    return conversations


def composed(contexts: Sequence[Context]) -> Context:
    """One context that applies all of them, the first one first."""

    def apply(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        for context in contexts:
            conversations = context(conversations)
        return conversations

    return apply


def with_context(responder: Responder, context: Context) -> Responder:
    """A responder that answers every conversation inside `context`."""

    async def respond(conversations: Sequence[Conversation], /) -> Sequence[Reply]:
        return await responder(context(conversations))

    return respond


def in_context(examples: Sequence[Example], context: Context) -> list[Example]:
    """Training examples as `context` shows them; the gold answer, tools and meta stay as they are."""
    prompts = context([example.prompt for example in examples])
    return [
        example.model_copy(update={"messages": (*prompt, example.messages[-1])})
        for example, prompt in zip(examples, prompts, strict=True)
    ]


def question_of(conversation: Conversation) -> str:
    """The last user text: the query for retrieval and similarity ("" where there is none)."""
    return next((m.content or "" for m in reversed(conversation) if m.role == "user"), "")


def parted(conversation: Conversation) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """The leading system messages, and everything after them."""
    n = next((i for i, m in enumerate(conversation) if m.role not in SYSTEM_ROLES), len(conversation))
    return conversation[:n], conversation[n:]
