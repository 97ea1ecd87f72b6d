"""Binds a database to a data folder, and allows event sequences up to the contract's limit."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the ownership table and widens the sequence column."""
    op.create_table(
        "ownership",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("database_id", sa.String(64), nullable=False),
        sa.Column("folder_id", sa.String(128), nullable=False),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("folder", sa.Text, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("doubted", sa.Float, nullable=False),
    )
    # Integers of SQLite always have 64 bits.
    if op.get_context().dialect.name != "sqlite":
        op.alter_column("events", "sequence", type_=sa.BigInteger, existing_type=sa.Integer, existing_nullable=False)
