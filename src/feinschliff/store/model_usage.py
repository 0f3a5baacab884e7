"""What models have answered, by day."""
from collections.abc import Collection, Iterator
from typing import Protocol

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from feinschliff.core.service import ProjectId
from feinschliff.store.tables import ModelUsageRow


class Counted(Protocol):
    @property
    def requests(self) -> int: ...

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def cached_tokens(self) -> int: ...

    @property
    def completion_tokens(self) -> int: ...


def add(session: Session, project: ProjectId, model: str, day: int, more: Counted) -> None:
    """`day` is counted from 1970-01-01, UTC."""
    row = session.get(ModelUsageRow, (project, model, day), with_for_update=True)
    if row is None:
        row = ModelUsageRow(project_id=project, model=model, day=day, requests=0, prompt_tokens=0, cached_tokens=0, completion_tokens=0)
        session.add(row)
    row.requests += more.requests
    row.prompt_tokens += more.prompt_tokens
    row.cached_tokens += more.cached_tokens
    row.completion_tokens += more.completion_tokens


def sums(session: Session, project: ProjectId, models: Collection[str]) -> tuple[int, int, int, int]:
    """Requests, prompt tokens, those of them that were known already, and completion tokens, of all days."""
    columns = (ModelUsageRow.requests, ModelUsageRow.prompt_tokens, ModelUsageRow.cached_tokens, ModelUsageRow.completion_tokens)
    query = select(*(func.coalesce(func.sum(c), 0) for c in columns))
    requests, prompt, cached, completion = session.execute(
        query.where(ModelUsageRow.project_id == project, ModelUsageRow.model.in_(models))
    ).one()
    return int(requests), int(prompt), int(cached), int(completion)


def by_model(session: Session) -> Iterator[tuple[str, int, int, int]]:
    """Prompt tokens, those of them that were known already, and completion tokens, of all projects and days."""
    columns = (ModelUsageRow.prompt_tokens, ModelUsageRow.cached_tokens, ModelUsageRow.completion_tokens)
    query = select(ModelUsageRow.model, *(func.sum(c) for c in columns)).group_by(ModelUsageRow.model)
    for model, prompt, cached, completion in session.execute(query):
        yield str(model), int(prompt), int(cached), int(completion)
