"""The ingredient `retrieval`: passages found for the question, put into the system text.

Layout of the system message, the parts parted by an empty line:

    <the system text, where there is one>

    Reference:

    <passage>

    <passage>

The chosen passages stand in order of source and text, not of rank. Questions that find the same passages then
have the same prompt up to the question, which training and serving compute once.
"""
from collections.abc import Sequence

from feinschliff.arms.context import Context, parted, question_of, with_context
from feinschliff.core.chat import Conversation, system
from feinschliff.core.ports import Passage, Responder, Retriever

HEADING = "Reference:"


def retrieval(retriever: Retriever, k: int) -> Context:
    """Appends the `k` passages found for a conversation's last user text to its system text."""

    def apply(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        found = retriever([question_of(c) for c in conversations], k=k)
        return [_inserted(c, passages) for c, passages in zip(conversations, found, strict=True)]

    return apply


def _inserted(conversation: Conversation, passages: Sequence[Passage]) -> Conversation:
    if not passages:
        return conversation
    head, turns = parted(conversation)
    ordered = sorted(passages, key=lambda p: (p.source, p.text))
    parts = [m.content for m in head if m.content] + [HEADING] + [p.text for p in ordered]
    return (system("\n\n".join(parts)), *turns)


def with_retrieval(responder: Responder, retriever: Retriever, k: int) -> Responder:
    """A responder that is given the `k` passages found for each question."""
    return with_context(responder, retrieval(retriever, k))
