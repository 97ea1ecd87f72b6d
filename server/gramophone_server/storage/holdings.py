"""Which files each client holds, and which are evicted first to make room."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from .database import blobs, job_blobs, jobs, uploads

EvictableKind = Literal["job", "upload"]


@dataclass(frozen=True)
class Evictable:
    """An ended job or an upload, which may be evicted.

    Attributes:
        owner: the client.
        kind: whether it is a job or an upload.
        key: the id of the job, or the SHA-256 of the upload.
        blobs: names of its files.
    """

    owner: str
    kind: EvictableKind
    key: str
    blobs: tuple[str, ...]


class _FileSet:
    """Reference-counted files; `bytes` counts each file once."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._uses: Counter[str] = Counter()
        self.bytes = 0

    def add(self, names: Iterable[str]) -> None:
        for name in names:
            self.bytes += 0 if self._uses[name] else self._sizes.get(name, 0)
            self._uses[name] += 1

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._uses[name] -= 1
            self.bytes -= 0 if self._uses[name] else self._sizes.get(name, 0)


class _ClientFiles:
    """The files of one client.

    Attributes:
        files: all its files.
        evictable: its ended jobs and its uploads, each with the oldest first.
        evictable_files: the files of these.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.files = _FileSet(sizes)
        self.evictable: dict[EvictableKind, deque[Evictable]] = {"job": deque(), "upload": deque()}
        self.evictable_files: dict[EvictableKind, _FileSet] = {"job": _FileSet(sizes), "upload": _FileSet(sizes)}

    @property
    def evictable_bytes(self) -> int:
        return sum(files.bytes for files in self.evictable_files.values())

    def larger_kind(self) -> EvictableKind | None:
        """Returns the kind whose evictable files take more bytes; None if nothing can be evicted."""
        kinds: list[EvictableKind] = [kind for kind, items in self.evictable.items() if items]
        kinds.sort(key=lambda kind: self.evictable_files[kind].bytes)
        return kinds[-1] if kinds else None


class Holdings:
    """All stored files by client, and the eviction policy.

    Eviction begins with the client that has the most evictable bytes, so that a client's files are never evicted for
    those of a client that holds more. Within a client, it begins with the kind (ended jobs or uploads) that takes more
    bytes, the oldest first.

    Args:
        sizes: bytes of each file.
        evictable: ended jobs and uploads, the oldest first.
        pinned: (owner, file) of files that cannot be evicted: those of unfinished jobs, and those to be added.

    Attributes:
        evicted: the jobs and uploads to evict.
    """

    def __init__(
        self, sizes: Mapping[str, int], evictable: Iterable[Evictable], pinned: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._files = _FileSet(sizes)
        self._clients: defaultdict[str, _ClientFiles] = defaultdict(lambda: _ClientFiles(sizes))
        self.evicted: list[Evictable] = []
        for owner, name in pinned:
            self._files.add([name])
            self._clients[owner].files.add([name])
        for item in evictable:
            self._add(item)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return self._files.bytes

    def held(self, owner: str) -> int:
        """Returns the bytes of a client's files."""
        return self._clients[owner].files.bytes

    def shrink(self, limit: int) -> bool:
        """Evicts until all files take at most `limit` bytes; returns whether that is reached."""
        while self.total > limit:
            if not self._evict_from(max(self._clients.values(), key=lambda client: client.evictable_bytes)):
                return False
        return True

    def shrink_client(self, owner: str, limit: int) -> bool:
        """Evicts from one client until its files take at most `limit` bytes; returns whether that is reached."""
        while self.held(owner) > limit:
            if not self._evict_from(self._clients[owner]):
                return False
        return True

    def _add(self, item: Evictable) -> None:
        client = self._clients[item.owner]
        client.evictable[item.kind].append(item)
        for files in (self._files, client.files, client.evictable_files[item.kind]):
            files.add(item.blobs)

    def _evict_from(self, client: _ClientFiles) -> bool:
        kind = client.larger_kind()
        if kind is None:
            return False
        item = client.evictable[kind].popleft()
        self.evicted.append(item)
        for files in (self._files, client.files, client.evictable_files[kind]):
            files.remove(item.blobs)
        return True


def read_holdings(connection: sa.Connection, owner: str = "", fresh: Mapping[str, int] | None = None) -> Holdings:
    """Reads the holdings from the database.

    Args:
        owner: the client that adds files.
        fresh: the sizes of these files in bytes.
    """
    fresh = fresh or {}
    files: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(sa.select(job_blobs.c.job_id, job_blobs.c.sha256)):
        files[row.job_id].append(row.sha256)
    rows_of_blobs = connection.execute(sa.select(blobs.c.sha256, blobs.c.size))
    sizes = {row.sha256: row.size if isinstance(row.size, int) else 0 for row in rows_of_blobs}
    rows = connection.execute(sa.select(jobs.c.id, jobs.c.owner, jobs.c.end_time).order_by(jobs.c.end_time)).all()
    ended = [Evictable(row.owner, "job", row.id, tuple(files[row.id])) for row in rows if row.end_time is not None]
    pinned = [(owner, name) for name in fresh]
    pinned += [(row.owner, name) for row in rows if row.end_time is None for name in files[row.id]]
    wanted = sa.select(uploads.c.owner, uploads.c.sha256).order_by(uploads.c.used)
    uploaded = [Evictable(row.owner, "upload", row.sha256, (row.sha256,)) for row in connection.execute(wanted)]
    return Holdings({**sizes, **fresh}, [*ended, *uploaded], pinned)


def held_bytes(connection: sa.Connection, owner: str, but: Collection[str] = ()) -> int:
    """Returns the bytes of a client's files, each counted once, except those named in `but`."""
    of_jobs = sa.select(job_blobs.c.sha256).join(jobs, jobs.c.id == job_blobs.c.job_id).where(jobs.c.owner == owner)
    of_uploads = sa.select(uploads.c.sha256).where(uploads.c.owner == owner)
    mine = blobs.c.sha256.in_(sa.union(of_jobs, of_uploads))
    wanted = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.size), 0)).where(mine, blobs.c.sha256.not_in(list(but)))
    return int(connection.execute(wanted).scalar_one())


def all_bytes(connection: sa.Connection, but: Collection[str] = ()) -> int:
    """Returns the bytes of all files except those named in `but`."""
    wanted = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.size), 0)).where(blobs.c.sha256.not_in(list(but)))
    return int(connection.execute(wanted).scalar_one())
