"""What files and jobs come to, in characters, tokens and seconds."""
import sqlalchemy as sa
from alembic import op

revision = '0003'
down_revision = '0002'


def upgrade() -> None:
    with op.batch_alter_table('files', schema=None) as batch_op:
        batch_op.add_column(sa.Column('sizes', sa.JSON(none_as_null=True), nullable=True))
    op.create_table('job_usage',
    sa.Column('job_id', sa.String(length=80), nullable=False),
    sa.Column('region', sa.String(length=64), nullable=False),
    sa.Column('expected_tokens', sa.BigInteger(), nullable=False),
    sa.Column('expected_seconds', sa.Float(), nullable=False),
    sa.Column('tokens', sa.BigInteger(), nullable=False),
    sa.Column('seconds', sa.Float(), nullable=False),
    sa.ForeignKeyConstraint(['job_id'], ['jobs.id'], name=op.f('fk_job_usage_job_id_jobs')),
    sa.PrimaryKeyConstraint('job_id', name=op.f('pk_job_usage'))
    )
    with op.batch_alter_table('job_usage', schema=None) as batch_op:
        batch_op.create_index(batch_op.f('ix_job_usage_region'), ['region'], unique=False)
