"""Fills the store of a stopped server with copies of its ended jobs, and files for their results."""

import hashlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from gramophone_server.storage.database import blobs, events, job_blobs, jobs, open_engine

OWNERS, DAYS, BATCH = 20, 20, 5_000


def fill(url: str | sa.URL, folder: Path, number: int) -> None:
    """Adds copies of the ended jobs in a database until it has `number` jobs.

    Each copy has the rows that the server wrote for the job, with an id, a request id and times of its own, one of
    `OWNERS` owners, and a result of its own: the file of the job with a few bytes added. The times are those of the
    last `DAYS` days.

    Args:
        folder: the data folder.
    """
    engine = open_engine(url, safe=False)
    with engine.begin() as connection:
        originals = [_Original(connection, folder, row) for row in connection.execute(sa.select(jobs)).mappings()]
        first, step = time.time() - 86400 * DAYS, 86400 * (DAYS - 0.1) / number
        for start in range(len(originals), number, BATCH):
            numbers = range(start, min(start + BATCH, number))
            copies = [_Copy(originals[n % len(originals)], n, first + step * n) for n in numbers]
            connection.execute(jobs.insert(), [copy.job for copy in copies])
            connection.execute(events.insert(), [row for copy in copies for row in copy.events])
            connection.execute(blobs.insert(), [row for copy in copies for row in copy.write(folder / "blobs")])
            connection.execute(job_blobs.insert(), [row for copy in copies for row in copy.links])
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # The background processes of PostgreSQL do this within minutes; SQLite needs nothing of the kind.
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("VACUUM ANALYZE")
        else:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()


class _Original:
    """The rows and the result of a job that a server has run."""

    def __init__(self, connection: sa.Connection, folder: Path, row: sa.RowMapping) -> None:
        def rows(table: sa.Table) -> list[dict[str, Any]]:
            found = connection.execute(sa.select(table).where(table.c.job_id == row["id"])).mappings()
            return [dict(each) for each in found]

        self.job, self.events, self.links = dict(row), rows(events), rows(job_blobs)
        results = [link["sha256"] for link in self.links if link["is_result"]]
        self.result = (folder / "blobs" / results[0][:2] / results[0]).read_bytes() if results else None


class _Copy:
    """The rows of a copy."""

    def __init__(self, original: _Original, number: int, created: float) -> None:
        later = created - original.job["create_time"]
        name = f"{int(created * 1e6):014x}{secrets.token_hex(8)}"
        self.job = {
            **original.job, "id": name, "owner": f"client-{number % OWNERS}", "request_id": secrets.token_hex(16),
            "create_time": created,
            **{at: original.job[at] and original.job[at] + later for at in ("start_time", "end_time")},
        }  # fmt: skip
        self.events = [{**row, "job_id": name, "time": row["time"] + later} for row in original.events]
        self._result = None if original.result is None else original.result + number.to_bytes(8)
        digest = None if self._result is None else hashlib.sha256(self._result).hexdigest()
        self.links = [
            {**link, "job_id": name, "sha256": digest if link["is_result"] else link["sha256"]}
            for link in original.links
        ]

    def write(self, folder: Path) -> Iterator[dict[str, Any]]:
        """Writes the file of the result, and yields its row."""
        if self._result is not None:
            digest = hashlib.sha256(self._result).hexdigest()
            path = folder / digest[:2] / digest
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(self._result)
            yield {"sha256": digest, "size": len(self._result)}
