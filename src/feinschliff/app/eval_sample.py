"""One item of a run: a model's answer to it where one is asked, then every criterion's grade."""
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from feinschliff.app.asking import Answer, Asked, Models
from feinschliff.app.eval_tallies import ItemResult, ItemStatus, Usage
from feinschliff.app.grading import Grade, Grading, said
from feinschliff.core.chat import Message
from feinschliff.core.criteria import Criterion, Say
from feinschliff.core.errors import FeinschliffError, ModelUnavailable
from feinschliff.core.eval_runs import Asking, DataSource, ItemReference, Line, Sampling
from feinschliff.core.live import LiveSampling
from feinschliff.core.service_errors import NotFound
from feinschliff.evals.criteria.failed import NotGraded
from feinschliff.evals.criteria.templates import looked_up

SAYS: TypeAdapter[tuple[Say, ...]] = TypeAdapter(tuple[Say, ...])
NO_ERROR = {"code": "", "message": ""}  # the published schema has no null here
NO_USAGE = {"total_tokens": 0, "completion_tokens": 0, "prompt_tokens": 0, "cached_tokens": 0}


@dataclass(frozen=True, slots=True)
class Judging:
    """What all items of a run have in common."""

    source: DataSource
    criteria: Sequence[Criterion]
    models: Models
    grading: Grading

    async def judge(self, number: int, line: Line) -> ItemResult:
        """Raises NotFound, ModelUnavailable where a model is gone: then no other item can be judged either."""
        usage: dict[str, Usage] = {}
        try:
            sample, shown = await self._sampled(line, usage)
        except (NotFound, ModelUnavailable):
            raise
        except FeinschliffError as error:
            shown = _sample_shown(self.source, (), None) | {"error": _told(error)}
            return self._result(number, line, usage, [error] * len(self.criteria), shown)
        grades: list[Grade | FeinschliffError] = []
        for criterion in self.criteria:
            grades.append(await self._graded(criterion, line.item, sample, usage))
        return self._result(number, line, usage, grades, shown)

    async def _graded(
        self, criterion: Criterion, item: Mapping[str, Any], sample: Mapping[str, Any], usage: dict[str, Usage]
    ) -> Grade | FeinschliffError:
        try:
            grade = await self.grading.grade(criterion, {"item": item, "sample": sample})
        except (NotFound, ModelUnavailable):
            raise
        except FeinschliffError as error:
            return error
        for model, used in grade.usage.items():
            usage[model] = usage.get(model, Usage()) + used
        return grade

    async def _sampled(self, line: Line, usage: dict[str, Usage]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What graders see as `sample`, and what is shown of it."""
        if not isinstance(self.source, Asking):
            return _brought(line.sample), _sample_shown(self.source, (), line.sample)
        messages = _messages(self.source, line.item)
        sampling = self.source.sampling_params
        answer = await self.models.ask(self.source.model, Asked(messages, _live(sampling), _schema(sampling)))
        usage[self.source.model] = answer.usage
        return _seen(answer, self.source.model, messages), _sample_shown(self.source, messages, answer)

    def _result(
        self, number: int, line: Line, usage: dict[str, Usage], grades: Sequence[Grade | FeinschliffError], shown: dict[str, Any]
    ) -> ItemResult:
        passed = tuple(grade.passed if isinstance(grade, Grade) else None for grade in grades)
        status: ItemStatus = "error" if None in passed else "pass" if all(passed) else "fail"
        results = [_result_shown(criterion, grade) for criterion, grade in zip(self.criteria, grades, strict=True)]
        content = {"datasource_item": line.item, "results": results, "sample": shown}
        return ItemResult(number=number, status=status, passed=passed, usage=usage, content=content)


def _messages(source: Asking, item: Mapping[str, Any]) -> tuple[Message, ...]:
    """Raises NotGraded where the item has not what the messages are made of."""
    variables = {"item": item}
    match source.input_messages:
        case ItemReference(item_reference=reference):
            try:
                return said(SAYS.validate_python(looked_up(reference, variables)), variables)
            except ValidationError:
                raise NotGraded("invalid_variable_error", f"{reference} is no list of messages.") from None
        case template:
            return said(template.template, variables)


def _live(sampling: Sampling) -> LiveSampling:
    return LiveSampling(
        max_tokens=sampling.max_completion_tokens, temperature=sampling.temperature, top_p=sampling.top_p, seed=sampling.seed
    )


def _schema(sampling: Sampling) -> dict[str, Any] | None:
    form = sampling.format
    if form is None or form.type not in ("json_object", "json_schema"):
        return None
    nested = None if form.json_schema is None else form.json_schema.schema_
    return nested or form.schema_ or {"type": "object"}


def _seen(answer: Answer, model: str, messages: Sequence[Message]) -> dict[str, Any]:
    message = {"role": "assistant", "content": answer.text}
    seen: dict[str, Any] = {
        "output_text": answer.text, "output_tools": [], "choices": [{"index": 0, "message": message, "finish_reason": answer.finish_reason}],
        "model": model, "input": [{"role": m.role, "content": m.content} for m in messages], "finish_reason": answer.finish_reason,
    }  # fmt: skip
    return seen | as_json(answer.text)


def _brought(sample: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an item brings with it. Its text is also there as JSON, where it is some."""
    given = dict(sample or {})
    text = given.get("output_text")
    return as_json(text) | given if isinstance(text, str) else given


def as_json(text: str) -> dict[str, Any]:
    try:
        return {"output_json": json.loads(text)}
    except (ValueError, RecursionError):
        return {}  # a template that names it then says so


def _sample_shown(source: DataSource, messages: Sequence[Message], made: Answer | Mapping[str, Any] | None) -> dict[str, Any]:
    """The published schema demands every field, for samples that nobody was asked for too."""
    sampling = source.sampling_params if isinstance(source, Asking) else Sampling()
    shown: dict[str, Any] = {
        "input": [{"role": m.role, "content": m.content or ""} for m in messages], "output": [], "finish_reason": "",
        "model": source.model if isinstance(source, Asking) else "", "usage": NO_USAGE, "error": NO_ERROR,
        "temperature": sampling.temperature, "max_completion_tokens": sampling.max_completion_tokens or 0, "top_p": sampling.top_p,
        "seed": sampling.seed,
    }  # fmt: skip
    match made:
        case Answer(text=text, finish_reason=reason, usage=used):
            counts = {"completion_tokens": used.completion_tokens, "prompt_tokens": used.prompt_tokens, "cached_tokens": used.cached_tokens}
            total = {"total_tokens": used.prompt_tokens + used.completion_tokens}
            return shown | {"output": [{"role": "assistant", "content": text}], "finish_reason": reason, "usage": counts | total}
        case {"output_text": str(text)}:
            return shown | {"output": [{"role": "assistant", "content": text}], "finish_reason": "stop"}
        case _:
            return shown


def _result_shown(criterion: Criterion, grade: Grade | FeinschliffError) -> dict[str, Any]:
    """A score that there is none of is shown as 0, with the reason beside it: the published schema has no null here."""
    named = {"name": criterion.name, "type": criterion.type}
    if isinstance(grade, Grade):
        parts = {"sub_scores": grade.parts} if grade.parts else {}
        return named | {"score": grade.score, "passed": grade.passed, "sample": grade.sample} | parts
    return named | {"score": 0.0, "passed": False, "sample": None, "error": _told(grade)}


def _told(error: FeinschliffError) -> dict[str, str]:
    code = error.kind if isinstance(error, NotGraded) else error.code
    return {"code": code, "message": f"{error.message} {error.hint}".strip()}
