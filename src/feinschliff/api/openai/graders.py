"""/v1/fine_tuning/alpha/graders: a grader tried out on one answer."""
import asyncio
import time
from typing import Any

from fastapi import APIRouter
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from feinschliff.api.access import Reader, ServiceOf, Writer
from feinschliff.api.wire import Body, Shown
from feinschliff.app.asking import Models
from feinschliff.app.eval_sample import as_json
from feinschliff.app.evals import check_criterion
from feinschliff.app.grading import Grade, Grading
from feinschliff.core.criteria import Criterion, models_of
from feinschliff.evals.criteria.failed import NotGraded

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["fine-tuning"])
FLAGS = (
    "formula_parse_error", "sample_parse_error", "truncated_observation_error", "unresponsive_reward_error", "invalid_variable_error",
    "other_error", "python_grader_server_error", "python_grader_runtime_error", "model_grader_server_error",
    "model_grader_refusal_error", "model_grader_parse_error",
)  # fmt: skip


class GraderIn(Body):
    grader: Criterion


class TrialIn(GraderIn):
    model_sample: str
    item: dict[str, Any] = Field(default_factory=dict)


class Validated(Shown):
    grader: dict[str, Any]


class TrialMetadata(Shown):
    name: str
    type: str
    errors: dict[str, Any]
    execution_time: float
    scores: dict[str, float]
    token_usage: int | None
    sampled_model_name: str | None


class Trial(Shown):
    reward: float
    metadata: TrialMetadata
    sub_rewards: dict[str, float]
    model_grader_token_usage_per_model: dict[str, int]


@router.post("/validate")
def validate_grader(body: GraderIn, service: ServiceOf, caller: Reader) -> Validated:
    """The grader as it is understood; refused where it cannot work."""
    check_criterion(service, body.grader)
    return Validated(grader=body.grader.model_dump(mode="json", exclude_none=True))


@router.post("/run")
async def run_grader(body: TrialIn, service: ServiceOf, caller: Writer) -> Trial:
    """The reward for one answer. What the grader fails with is told in `metadata.errors`, beside a reward of 0."""
    await run_in_threadpool(check_criterion, service, body.grader)
    grading = Grading(Models(service, caller), python_s=service.settings.limits.python_grader_s)
    sample = {"output_text": body.model_sample, "choices": [{"message": {"role": "assistant", "content": body.model_sample}}]}
    began = time.monotonic()
    grade, failure = Grade(0.0, passed=False), None
    try:
        grade = await grading.grade(body.grader, {"item": body.item, "sample": sample | as_json(body.model_sample)})
    except NotGraded as error:
        failure = error
    finally:
        await asyncio.to_thread(grading.close)
    tokens = {model: used.prompt_tokens + used.completion_tokens for model, used in grade.usage.items()}
    judges = sorted(models_of(body.grader))
    told = TrialMetadata(
        name=body.grader.name, type=body.grader.type, errors=_errors(failure), execution_time=time.monotonic() - began,
        scores=grade.parts or {body.grader.name: grade.score}, token_usage=sum(tokens.values()) if tokens else None,
        sampled_model_name=judges[0] if judges else None,
    )  # fmt: skip
    return Trial(reward=grade.score, metadata=told, sub_rewards=grade.parts, model_grader_token_usage_per_model=tokens)


def _errors(failure: NotGraded | None) -> dict[str, Any]:
    kind, why = (failure.kind, failure.message) if failure else (None, None)
    flags: dict[str, Any] = {flag: flag == kind for flag in FLAGS}
    return flags | {
        "python_grader_server_error_type": why if kind == "python_grader_server_error" else None,
        "python_grader_runtime_error_details": why if kind == "python_grader_runtime_error" else None,
        "model_grader_server_error_details": why if kind in ("model_grader_server_error", "model_grader_parse_error") else None,
    }
