"""Deployments: names under which models answer."""
from collections.abc import Sequence

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from feinschliff.core.service import ProjectId, Tier
from feinschliff.store.paging import Cursor, Page, page
from feinschliff.store.tables import DeploymentRow, ModelRow, PermissionRow


def find_deployment(session: Session, project: ProjectId, name: str) -> DeploymentRow | None:
    return session.scalar(select(DeploymentRow).where(DeploymentRow.project_id == project, DeploymentRow.name == name))


def list_deployments(session: Session, project: ProjectId, cursor: Cursor) -> Page[DeploymentRow]:
    return page(session, DeploymentRow, cursor, DeploymentRow.project_id == project)


def all_deployments(session: Session, project: ProjectId) -> Sequence[DeploymentRow]:
    """In the order of their making."""
    return session.scalars(select(DeploymentRow).where(DeploymentRow.project_id == project).order_by(DeploymentRow.seq)).all()


def deployments_of(session: Session, model: ModelRow) -> Sequence[DeploymentRow]:
    """By the model's own project, and by those that it is granted to."""
    granted = select(PermissionRow.grantee).where(PermissionRow.checkpoint == model.name)
    owners = or_(DeploymentRow.project_id == model.project_id, DeploymentRow.project_id.in_(granted))
    return session.scalars(select(DeploymentRow).where(DeploymentRow.model == model.name, owners).order_by(DeploymentRow.seq)).all()


def overdue(session: Session, *, called_before: int, deployed_before: int) -> Sequence[DeploymentRow]:
    """Those of the standard tier that serve a tuned model and were last called, or put, before the one time, and those of the developer
    tier that were put before the other."""
    used = func.coalesce(DeploymentRow.called_at, DeploymentRow.updated_at)
    idle = and_(DeploymentRow.tier == Tier.STANDARD, DeploymentRow.model.in_(select(ModelRow.name)), used <= called_before)
    old = and_(DeploymentRow.tier == Tier.DEVELOPER, DeploymentRow.updated_at <= deployed_before)
    return session.scalars(select(DeploymentRow).where(or_(idle, old))).all()
