"""The tables of the first servers: jobs, their events and their files.

Only the number of this revision is needed: a new database gets the latest tables directly.
"""

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Does nothing: databases of this revision were created by servers without Alembic."""
