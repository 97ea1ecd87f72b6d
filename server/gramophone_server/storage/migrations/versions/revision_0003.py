"""Alembic says which revision a database is of; servers from before that see a number that is too high for them."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Leaves in the old table the last number that it will have."""
    op.execute("UPDATE schema_version SET version = 3")
