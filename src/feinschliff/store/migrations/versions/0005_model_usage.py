"""What models have answered."""
import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'


def upgrade() -> None:
    op.create_table('model_usage',
    sa.Column('project_id', sa.String(length=80), nullable=False),
    sa.Column('model', sa.String(length=400), nullable=False),
    sa.Column('day', sa.Integer(), autoincrement=False, nullable=False),
    sa.Column('requests', sa.BigInteger(), nullable=False),
    sa.Column('prompt_tokens', sa.BigInteger(), nullable=False),
    sa.Column('cached_tokens', sa.BigInteger(), nullable=False),
    sa.Column('completion_tokens', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['project_id'], ['projects.id'], name=op.f('fk_model_usage_project_id_projects')),
    sa.PrimaryKeyConstraint('project_id', 'model', 'day', name=op.f('pk_model_usage'))
    )
