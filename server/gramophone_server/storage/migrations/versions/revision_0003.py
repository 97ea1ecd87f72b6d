"""Alembic records the schema revision; older servers see a schema version that is too high for them."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Sets the old schema version to its final value."""
    op.execute("UPDATE schema_version SET version = 3")
