"""Files that must stay in a region, and the jobs that are trained on them."""
import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'


def upgrade() -> None:
    for table in ('files', 'uploads', 'jobs'):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column('stays_in', sa.JSON(none_as_null=True), nullable=True))
