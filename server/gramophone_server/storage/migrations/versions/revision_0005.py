"""Indexes for stores with many ended jobs, and the blobs that deleted jobs and uploads had."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the indexes and the table, with the blobs that nothing uses."""
    op.drop_index("jobs_by_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_index("jobs_by_owner", "jobs", ["owner", "id"])
    op.create_index("jobs_by_owner_and_state", "jobs", ["owner", "state", "id"])
    op.create_index("blobs_of_uploads", "uploads", ["sha256"])
    op.create_table(
        "freed",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    op.execute(
        "INSERT INTO freed (sha256) SELECT sha256 FROM blobs "
        "WHERE sha256 NOT IN (SELECT sha256 FROM job_blobs UNION SELECT sha256 FROM uploads)"
    )
