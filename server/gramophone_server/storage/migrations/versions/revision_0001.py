"""Jobs, their events and their files: the tables of the first servers.

Only the name of the revision is of use: new databases get the latest tables at once.
"""

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing: a database of this revision has been made by a server that did not know Alembic."""
