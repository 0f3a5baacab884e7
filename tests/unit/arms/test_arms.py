import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from feinschliff.arms.context import in_context
from feinschliff.arms.few_shot import Shots, few_shot, with_few_shot
from feinschliff.arms.prompt import prompt, with_prompt
from feinschliff.arms.recipe import REGISTRY, Pantry, build
from feinschliff.arms.retrieval import retrieval, with_retrieval
from feinschliff.core.chat import Conversation, Example, assistant, system, user
from feinschliff.core.errors import BadStudy
from feinschliff.core.ports import Passage, Reply, Responder
from feinschliff.core.study import INGREDIENTS


def letters(texts: Sequence[str]) -> NDArray[np.float32]:
    """Similar spelling, similar vector: counts of a–z, unit length."""
    rows = [[text.lower().count(chr(97 + i)) + 1e-3 for i in range(26)] for text in texts]
    counts_ND = np.array(rows, dtype=np.float32)
    return counts_ND / np.linalg.norm(counts_ND, axis=1, keepdims=True)


def pair(question: str, answer: str) -> Example:
    return Example(messages=(user(question), assistant(answer)))


async def echo(conversations: Sequence[Conversation], /) -> Sequence[Reply]:
    """A responder that answers with what it was shown."""
    shown = ["\n".join(f"{m.role}: {m.content}" for m in c) for c in conversations]
    return [Reply(text=text, input_tokens=0, output_tokens=0) for text in shown]


def answers(responder: Responder, *conversations: Conversation) -> list[str]:
    async def ask() -> Sequence[Reply]:
        return await responder(conversations)

    return [reply.text for reply in asyncio.run(ask())]


def passages(queries: Sequence[str], /, *, k: int) -> Sequence[Sequence[Passage]]:
    """Ranks "b" above "a" for every question but the empty one, which finds nothing."""
    ranked = [Passage("about b", "b", 2.0), Passage("about a", "a", 1.0)]
    return [ranked[:k] if query else [] for query in queries]


POOL = [pair("aaa", "A"), pair("aab", "AB"), pair("zzz", "Z"), pair(" AAB ", "again")]


def test_the_prompt_replaces_the_system_text() -> None:
    talk = (system("old"), user("q1"), assistant("a1"), user("q2"))
    assert prompt("new")([talk, (user("q"),)]) == [(system("new"), *talk[1:]), (system("new"), user("q"))]


def test_the_nearest_examples_come_last_and_never_the_question_itself() -> None:
    [shown] = few_shot(Shots.build(POOL, letters), 2)([(system("s"), user("aab"))])
    assert [(m.role, m.content) for m in shown] == [
        ("system", "s"),
        ("user", "zzz"),
        ("assistant", "Z"),
        ("user", "aaa"),
        ("assistant", "A"),
        ("user", "aab"),
    ]


def test_shots_are_one_text_answer_a_question() -> None:
    pool = [*POOL, pair("yyy", ""), Example(messages=(system("no question"), assistant("x")))]
    assert [e.question for e in Shots.build(pool, letters).pool] == ["aaa", "aab", "zzz"]
    assert few_shot(Shots.build([], letters), 3)([(user("q"),)]) == [(user("q"),)]


def test_passages_follow_the_system_text_in_corpus_order() -> None:
    talk = (system("Be brief."), user("q"))
    assert retrieval(passages, 2)([talk]) == [
        (system("Be brief.\n\nReference:\n\nabout a\n\nabout b"), user("q")),
    ]
    assert retrieval(passages, 1)([(user("q"),), (user(""),)]) == [
        (system("Reference:\n\nabout b"), user("q")),
        (user(""),),
    ]


def test_each_ingredient_wraps_a_responder() -> None:
    asked = (user("aab"),)
    assert answers(with_prompt(echo, "P"), asked) == ["system: P\nuser: aab"]
    assert answers(with_few_shot(echo, POOL, letters, 1), asked) == ["user: aaa\nassistant: A\nuser: aab"]
    assert answers(with_retrieval(echo, passages, 1), asked) == ["system: Reference:\n\nabout b\nuser: aab"]


PANTRY = Pantry(
    system_text="P", pool=POOL, embedder=letters, few_shot_k=1, retriever=passages, retrieval_k=1
)


@pytest.mark.parametrize("arm", ["prompt+few_shot+retrieval", "retrieval+few_shot+prompt", "tuned+retrieval+prompt+few_shot"])
def test_a_recipe_does_not_depend_on_the_order_of_its_name(arm: str) -> None:
    [shown] = build(arm, PANTRY)([(user("aab"),)])
    assert [m.content for m in shown] == ["P\n\nReference:\n\nabout b", "aaa", "A", "aab"]


@pytest.mark.parametrize("arm", ["base", "tuned", "plain"])
def test_model_only_arms_add_nothing(arm: str) -> None:
    assert build(arm, Pantry())([(user("q"),)]) == [(user("q"),)]


def test_training_sees_what_answering_sees_and_trains_only_the_gold_answer() -> None:
    context = build("prompt+few_shot+retrieval", PANTRY)
    examples = [pair("aab", "AB"), pair("zzz", "Z")]
    trained = in_context(examples, context)
    assert [e.prompt for e in trained] == list(context([e.prompt for e in examples]))
    assert [e.answer for e in trained] == ["AB", "Z"]
    shown = [m for e in trained for m in e.prompt if m.role == "assistant"]
    assert shown
    assert all(m.weight == 0 for m in shown)
    assert "AB" not in [m.content for m in trained[0].prompt]  # its own answer is not handed over


def test_every_ingredient_of_the_core_has_a_recipe() -> None:
    assert set(REGISTRY) == set(INGREDIENTS)


@pytest.mark.parametrize("arm", ["prompt", "few_shot", "retrieval", "prmpt"])
def test_missing_material_and_unknown_ingredients_are_refused(arm: str) -> None:
    with pytest.raises(BadStudy, match=arm) as caught:
        build(arm, Pantry())
    assert caught.value.hint
