"""The ingredient `few_shot`: the training examples most like the question, shown as earlier turns.

Liu et al. 2022 ("What Makes Good In-Context Examples for GPT-3?"): neighbours of the question beat random examples.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feinschliff.arms.context import Context, parted, question_of, with_context
from feinschliff.core.chat import Conversation, Example, Message, user
from feinschliff.core.ports import Embedder, Responder


def _key(question: str) -> str:
    return " ".join(question.casefold().split())


@dataclass(frozen=True)
class Shots:
    """A pool of examples and their questions' embeddings, made once and used by every arm.

    Kept is the first example of each question that has a text answer: a shot is one question and one text.
    """

    pool: tuple[Example, ...]
    embedder: Embedder
    vectors_ND: NDArray[np.float32]  # (n pool, d) unit rows

    @classmethod
    def build(cls, pool: Sequence[Example], embedder: Embedder) -> "Shots":
        first: dict[str, Example] = {}
        for example in pool:
            if example.question.strip() and example.answer.strip():
                first.setdefault(_key(example.question), example)
        kept = tuple(first.values())
        vectors_ND = embedder([e.question for e in kept]) if kept else np.zeros((0, 1), dtype=np.float32)
        return cls(pool=kept, embedder=embedder, vectors_ND=vectors_ND)

    def nearest(self, questions: Sequence[str], k: int) -> list[list[Example]]:
        """For each question the `k` most similar examples, most similar first, equals in pool order.

        Never one that asks the same question (case and blanks aside): it would hand over the answer, and in
        a training context it is the example itself.
        """
        if not self.pool or not questions:
            return [[] for _ in questions]
        return [
            self._nearest(question, query_D, k)
            for question, query_D in zip(questions, self.embedder(questions), strict=True)
        ]

    def _nearest(self, question: str, query_D: NDArray[np.float32], k: int) -> list[Example]:
        order = np.argsort(-(self.vectors_ND @ query_D), kind="stable")[: k + 1]
        return [self.pool[i] for i in order if _key(self.pool[i].question) != _key(question)][:k]


def few_shot(shots: Shots, k: int) -> Context:
    """Puts `k` examples between the system text and the conversation, the most similar last, next to the question.

    Their answers carry weight 0: in a training context they are shown, not trained.
    """

    def apply(conversations: Sequence[Conversation]) -> Sequence[Conversation]:
        chosen = shots.nearest([question_of(c) for c in conversations], k)
        return [_inserted(c, near) for c, near in zip(conversations, chosen, strict=True)]

    return apply


def _inserted(conversation: Conversation, nearest: Sequence[Example]) -> Conversation:
    head, turns = parted(conversation)
    shown: list[Message] = []
    for example in reversed(nearest):
        shown += [user(example.question), Message(role="assistant", content=example.answer, weight=0)]
    return (*head, *shown, *turns)


def with_few_shot(responder: Responder, pool: Sequence[Example], embedder: Embedder, k: int) -> Responder:
    """A responder that sees the `k` examples of `pool` most like each question."""
    return with_context(responder, few_shot(Shots.build(pool, embedder), k))
