"""The ingredient `prompt`: an engineered system text."""
from collections.abc import Sequence

from feinschliff.arms.context import Context, parted, with_context
from feinschliff.core.chat import Conversation, system
from feinschliff.core.ports import Responder


def prompt(system_text: str) -> Context:
    """Replaces whatever system messages a conversation begins with by `system_text`."""
    message = system(system_text)

    def apply(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        return [(message, *parted(conversation)[1]) for conversation in conversations]

    return apply


def with_prompt(responder: Responder, system_text: str) -> Responder:
    """A responder that is given `system_text` as its instructions."""
    return with_context(responder, prompt(system_text))
