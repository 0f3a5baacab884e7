"""Integrations of jobs, and their places in traces."""
import sqlalchemy as sa
from alembic import op

revision = '0007'
down_revision = '0006'


def upgrade() -> None:
    op.create_table('job_integrations',
    sa.Column('job_id', sa.String(length=80), nullable=False),
    sa.Column('number', sa.Integer(), autoincrement=False, nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_job_integrations_job_id_jobs')),
    sa.PrimaryKeyConstraint('job_id', 'number', name=op.f('pk_job_integrations'))
    )
    with op.batch_alter_table('jobs', schema=None) as batch_op:
        batch_op.add_column(sa.Column('traceparent', sa.String(length=64), nullable=True))
