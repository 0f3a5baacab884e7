"""One grader of OpenAI's, put to work on one item and sample."""
import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from feinschliff.app.asking import Answer, Asked, Models
from feinschliff.app.eval_tallies import Usage
from feinschliff.core.chat import Message
from feinschliff.core.criteria import (
    Criterion,
    GraderSampling,
    LabelModel,
    Multi,
    PythonCode,
    Say,
    ScoreModel,
    StringCheck,
    TextSimilarity,
)
from feinschliff.core.errors import FeinschliffError, ModelUnavailable
from feinschliff.core.live import LiveSampling
from feinschliff.core.service_errors import NotFound
from feinschliff.evals.criteria import formula
from feinschliff.evals.criteria.failed import NotGraded
from feinschliff.evals.criteria.similarity import MEASURES
from feinschliff.evals.criteria.templates import Variables, filled
from feinschliff.evals.sandbox.child import Sandbox

JUDGE = LiveSampling(temperature=0.0, seed=42, max_tokens=64)  # the answer is one number or label
NUMBER = re.compile(r'"result"\s*:\s*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)')


@dataclass(frozen=True, slots=True)
class Grade:
    """`sample` is what a judging model was shown and said; `parts` the scores that a formula was worked out from."""

    score: float
    passed: bool
    sample: dict[str, Any] | None = None
    usage: dict[str, Usage] = field(default_factory=dict)
    parts: dict[str, float] = field(default_factory=dict)


class Grading:
    """Graders at work. Python sources get their processes when first needed; `close` ends them."""

    def __init__(self, models: Models, *, python_s: float) -> None:
        self._models, self._python_s = models, python_s
        self._sandboxes: dict[str, tuple[Sandbox, asyncio.Lock]] = {}

    def close(self) -> None:
        for sandbox, _ in self._sandboxes.values():
            sandbox.close()

    async def grade(self, criterion: Criterion, variables: Variables) -> Grade:
        """Raises NotGraded."""
        match criterion:
            case StringCheck():
                right = _checked(criterion, filled(criterion.input, variables), filled(criterion.reference, variables))
                return Grade(float(right), right)
            case TextSimilarity():
                return await self._similarity(criterion, variables)
            case PythonCode():
                score = await self._run(criterion.source, variables)
                return Grade(score, score >= _threshold(criterion.pass_threshold, (0.0, 1.0)))
            case ScoreModel():
                return await self._score(criterion, variables)
            case LabelModel():
                return await self._label(criterion, variables)
            case Multi():
                return await self._multi(criterion, variables)
            case _:
                assert_never(criterion)

    async def _run(self, source: str, variables: Variables) -> float:
        """One at a time, and those that wait occupy no thread."""
        if source not in self._sandboxes:
            self._sandboxes[source] = Sandbox(source, timeout_s=self._python_s), asyncio.Lock()
        sandbox, turn = self._sandboxes[source]
        async with turn:
            return await asyncio.to_thread(sandbox, variables["sample"], variables["item"])

    async def _similarity(self, criterion: TextSimilarity, variables: Variables) -> Grade:
        said, reference = filled(criterion.input, variables), filled(criterion.reference, variables)
        usage: dict[str, Usage] = {}
        if criterion.evaluation_metric == "cosine":
            model, score, used = await self._models.likeness([said, reference])
            usage = {model: used}
        else:
            score = MEASURES[criterion.evaluation_metric](said, reference)
        return Grade(score, score >= _threshold(criterion.pass_threshold, (0.0, 1.0)), usage=usage)

    async def _score(self, criterion: ScoreModel, variables: Variables) -> Grade:
        low, high = criterion.bounds
        wanted = {"type": "number", "minimum": low, "maximum": high}
        ask = f'Answer with JSON: {{"result": a number from {low:g} to {high:g}}}.'
        messages, answer = await self._judged(criterion, variables, ask, wanted, _sampling(criterion.sampling_params))
        found = NUMBER.search(answer.text)  # a number may be cut off after the comma: what is there of it counts
        if found is None:
            raise NotGraded("model_grader_parse_error", f"{criterion.model} gave no number but {answer.text[:200]!r}.")
        score = min(high, max(low, float(found[1])))
        passed = score >= _threshold(criterion.pass_threshold, criterion.bounds)
        return Grade(score, passed, _shown(criterion.model, messages, answer), {criterion.model: answer.usage})

    async def _label(self, criterion: LabelModel, variables: Variables) -> Grade:
        ask = f'Answer with JSON: {{"result": one of {json.dumps(criterion.labels, ensure_ascii=False)}}}.'
        sampling = _sampling(criterion.sampling_params).model_copy(update={"max_tokens": 32 + 2 * max(map(len, criterion.labels))})
        messages, answer = await self._judged(criterion, variables, ask, {"type": "string", "enum": list(criterion.labels)}, sampling)
        try:
            label = json.loads(answer.text)["result"]
        except (ValueError, TypeError, KeyError):
            raise NotGraded("model_grader_parse_error", f"{criterion.model} gave no label but {answer.text[:200]!r}.") from None
        passed = label in criterion.passing_labels
        return Grade(float(passed), passed, _shown(criterion.model, messages, answer), {criterion.model: answer.usage})

    async def _judged(
        self, criterion: ScoreModel | LabelModel, variables: Variables, ask: str, wanted: Mapping[str, Any], sampling: LiveSampling
    ) -> tuple[tuple[Message, ...], Answer]:
        """The judge's answer is held to its form while it is written. The form is also said, at the end, for the model to know."""
        *first, last = said(criterion.input, variables)
        messages = (*first, last.model_copy(update={"content": f"{last.content}\n\n{ask}"}))
        schema = {"type": "object", "properties": {"result": wanted}, "required": ["result"], "additionalProperties": False}
        try:
            return messages, await self._models.ask(criterion.model, Asked(messages, sampling, schema))
        except (NotFound, ModelUnavailable):
            raise
        except FeinschliffError as error:
            raise NotGraded("model_grader_server_error", f"{error.message} {error.hint}".strip()) from None

    async def _multi(self, criterion: Multi, variables: Variables) -> Grade:
        names = list(criterion.by_name)
        grades = await asyncio.gather(*(self.grade(grader, variables) for grader in criterion.by_name.values()))
        parts = {name: grade.score for name, grade in zip(names, grades, strict=True)}
        usage: dict[str, Usage] = {}
        for grade in grades:
            for model, more in grade.usage.items():
                usage[model] = usage.get(model, Usage()) + more
        score = formula.calculated(criterion.calculate_output, parts)
        return Grade(score, score >= _threshold(criterion.pass_threshold, (0.0, 1.0)), usage=usage, parts=parts)


def said(template: Sequence[Say], variables: Variables) -> tuple[Message, ...]:
    """The messages, filled in. Raises NotGraded."""
    return tuple(Message(role=say.role, content=filled(say.content.text, variables)) for say in template)


def _checked(criterion: StringCheck, text: str, reference: str) -> bool:
    match criterion.operation:
        case "eq":
            return text == reference
        case "ne":
            return text != reference
        case "like":
            return reference in text
        case "ilike":
            return reference.casefold() in text.casefold()


def _threshold(given: float | None, bounds: tuple[float, float]) -> float:
    return sum(bounds) / 2 if given is None else given


def _sampling(given: GraderSampling | None) -> LiveSampling:
    if given is None:
        return JUDGE
    chosen = {
        "temperature": given.temperature, "top_p": given.top_p, "seed": given.seed,
        "max_tokens": given.most_tokens and max(given.most_tokens, 16),  # the form itself takes some
    }  # fmt: skip
    return JUDGE.model_copy(update={name: value for name, value in chosen.items() if value is not None})


def _shown(model: str, messages: Sequence[Message], answer: Answer) -> dict[str, Any]:
    used = answer.usage
    return {
        "input": [{"role": m.role, "content": m.content} for m in messages], "output": [{"role": "assistant", "content": answer.text}],
        "finish_reason": answer.finish_reason, "model": model,
        "usage": {
            "total_tokens": used.prompt_tokens + used.completion_tokens, "completion_tokens": used.completion_tokens,
            "prompt_tokens": used.prompt_tokens, "cached_tokens": used.cached_tokens,
        },
    }  # fmt: skip
