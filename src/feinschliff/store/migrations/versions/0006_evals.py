"""Evaluations."""
import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'


def upgrade() -> None:
    op.create_table('evals',
    sa.Column('project_id', sa.String(length=80), nullable=False),
    sa.Column('name', sa.String(length=512), nullable=False),
    sa.Column('definition', sa.JSON(), nullable=False),
    sa.Column('meta', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('updated_at', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('id', sa.String(length=80), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_evals_project_id_projects')),
    sa.PrimaryKeyConstraint('seq', name=op.f('pk_evals')),
    sa.UniqueConstraint('id', name=op.f('uq_evals_id'))
    )
    op.create_index(op.f('ix_evals_project_id'), 'evals', ['project_id'])
    op.create_table('eval_runs',
    sa.Column('project_id', sa.String(length=80), nullable=False),
    sa.Column('eval_id', sa.String(length=80), nullable=False),
    sa.Column('name', sa.String(length=512), nullable=False),
    sa.Column('status', sa.String(length=16), nullable=False),
    sa.Column('model', sa.String(length=400), nullable=False),
    sa.Column('source', sa.JSON(), nullable=False),
    sa.Column('meta', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('n_items', sa.Integer(), nullable=False),
    sa.Column('tallies', sa.JSON(), nullable=False),
    sa.Column('error', sa.JSON(none_as_null=True), nullable=True),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('id', sa.String(length=80), nullable=False),
    sa.ForeignKeyConstraint(['eval_id'], ['evals.id'], name=op.f('fk_eval_runs_eval_id_evals'), ondelete='CASCADE'),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_eval_runs_project_id_projects')),
    sa.PrimaryKeyConstraint('seq', name=op.f('pk_eval_runs')),
    sa.UniqueConstraint('id', name=op.f('uq_eval_runs_id'))
    )
    for column in ('eval_id', 'project_id', 'status'):
        op.create_index(op.f(f'ix_eval_runs_{column}'), 'eval_runs', [column])
    op.create_table('eval_items',
    sa.Column('run_id', sa.String(length=80), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('status', sa.String(length=8), nullable=False),
    sa.Column('content', sa.JSON(), nullable=False),
    sa.Column('created_at', sa.BigInteger(), nullable=False),
    sa.Column('seq', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), nullable=False),
    sa.Column('id', sa.String(length=80), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['eval_runs.id'], name=op.f('fk_eval_items_run_id_eval_runs'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('seq', name=op.f('pk_eval_items')),
    sa.UniqueConstraint('id', name=op.f('uq_eval_items_id')),
    sa.UniqueConstraint('run_id', 'number', name=op.f('uq_eval_items_run_id_number'))
    )
