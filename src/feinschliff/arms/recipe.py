"""An arm's name is its recipe: "tuned+prompt+retrieval" says which model answers and in which context.

A further ingredient is three lines: its name in `core.study.INGREDIENTS`, its material as a field of `Pantry`, and
its entry in `REGISTRY`, whose order is the order of application whatever the order in the name.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from feinschliff.arms.context import Context, composed, plain
from feinschliff.arms.few_shot import Shots, few_shot
from feinschliff.arms.prompt import prompt
from feinschliff.arms.retrieval import retrieval
from feinschliff.core.chat import Example
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import Embedder, Retriever
from feinschliff.core.study import ingredients

PLAIN = "plain"  # the training context with nothing added


@dataclass(frozen=True)
class Pantry:
    """What the recipes of one study are made from; None or empty where the study has none."""

    system_text: str | None = None
    pool: Sequence[Example] = ()
    embedder: Embedder | None = None
    few_shot_k: int = 4
    retriever: Retriever | None = None
    retrieval_k: int = 3
    hosts: frozenset[str] = frozenset()  # ingredients that say who answers, and change nothing of what is asked

    @cached_property
    def shots(self) -> Shots:
        """The embedded pool; computed when the first few-shot recipe is built, then shared."""
        if self.embedder is None:
            raise _missing("few_shot", "an embedding model")
        return Shots.build(self.pool, self.embedder)


def _prompt(pantry: Pantry) -> Context:
    if pantry.system_text is None:
        raise _missing("prompt", "a [prompt] table")
    return prompt(pantry.system_text)


def _few_shot(pantry: Pantry) -> Context:
    return few_shot(pantry.shots, pantry.few_shot_k)


def _retrieval(pantry: Pantry) -> Context:
    if pantry.retriever is None:
        raise _missing("retrieval", "a [retrieval] table")
    return retrieval(pantry.retriever, pantry.retrieval_k)


def _model_only(_: Pantry) -> Context:
    return plain


REGISTRY: dict[str, Callable[[Pantry], Context]] = {
    "base": _model_only,  # these two choose the model that answers
    "tuned": _model_only,
    "prompt": _prompt,  # before retrieval: it replaces the system text, retrieval appends to it
    "few_shot": _few_shot,
    "retrieval": _retrieval,
}


def build(arm: str, pantry: Pantry) -> Context:
    """The context that an arm or a training context is answered in.

    Raises BadStudy for an unknown ingredient and for one whose material the study does not have.
    """
    if arm == PLAIN:
        return plain
    named = [name for name in ingredients(arm) if name not in pantry.hosts]
    for name in named:
        if name not in REGISTRY:
            raise BadStudy(f"arm {arm!r}: {name!r} is not an ingredient", hint=f"There are: {', '.join(REGISTRY)}.")
    return composed([make(pantry) for name, make in REGISTRY.items() if name in named])


def _missing(ingredient: str, what: str) -> BadStudy:
    return BadStudy(
        f"the ingredient {ingredient!r} needs {what}, which this study does not have",
        hint=f"Add it to the study file, or leave {ingredient!r} out of `arms` and `training.contexts`.",
    )
