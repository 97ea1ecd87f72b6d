"""What each client holds in files, and what of it goes first when there has to be room."""

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from .database import blobs, job_blobs, jobs, uploads

ThingKind = Literal["job", "upload"]


@dataclass(frozen=True)
class Thing:
    """Something that may go.

    Attributes:
        kind: a job that has ended, or an uploaded file.
        key: the id of the job, or the SHA-256 of the upload.
        blobs: its files.
    """

    owner: str
    kind: ThingKind
    key: str
    blobs: tuple[str, ...]


class _Pile:
    """Files, each with how many things use it; `bytes` counts each once."""

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


class _Share:
    """What one client holds: all files; and by kind what may go, the oldest first, with its files."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self.files = _Pile(sizes)
        self.things: dict[ThingKind, deque[Thing]] = {"job": deque(), "upload": deque()}
        self.loose: dict[ThingKind, _Pile] = {"job": _Pile(sizes), "upload": _Pile(sizes)}

    @property
    def loose_bytes(self) -> int:
        return sum(pile.bytes for pile in self.loose.values())

    def larger(self) -> ThingKind | None:
        """The kind of thing that takes most room; None if there is nothing that may go."""
        kinds: list[ThingKind] = [kind for kind, things in self.things.items() if things]
        kinds.sort(key=lambda kind: self.loose[kind].bytes)
        return kinds[-1] if kinds else None


class Holdings:
    """All files that are kept, by whose they are.

    Whoever holds most loses first, so that nobody's files make those of another go who holds less; and of a client's
    uploads and ended jobs those lose that take more room, the oldest first.

    Args:
        sizes: of files; bytes.
        things: what may go, the oldest first.
        staying: files that stay, by owner: of jobs that have not ended, and what there has to be room for.

    Attributes:
        gone: what has been given up.
    """

    def __init__(
        self, sizes: Mapping[str, int], things: Iterable[Thing], staying: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._files = _Pile(sizes)
        self._shares: defaultdict[str, _Share] = defaultdict(lambda: _Share(sizes))
        self.gone: list[Thing] = []
        for owner, name in staying:
            self._files.add([name])
            self._shares[owner].files.add([name])
        for thing in things:
            self._add(thing)

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return self._files.bytes

    def held(self, owner: str) -> int:
        """Bytes of a client's files."""
        return self._shares[owner].files.bytes

    def fit(self, most: int) -> bool:
        """Gives up what has to go so that all files are at most so many bytes; whether they are then."""
        while self.total > most:
            if not self._give_up(max(self._shares.values(), key=lambda share: share.loose_bytes)):
                return False
        return True

    def fit_client(self, owner: str, most: int) -> bool:
        """Likewise for the files of one client, from what is his."""
        while self.held(owner) > most:
            if not self._give_up(self._shares[owner]):
                return False
        return True

    def _add(self, thing: Thing) -> None:
        share = self._shares[thing.owner]
        share.things[thing.kind].append(thing)
        for pile in (self._files, share.files, share.loose[thing.kind]):
            pile.add(thing.blobs)

    def _give_up(self, share: _Share) -> bool:
        kind = share.larger()
        if kind is not None:
            self._drop(share.things[kind][0])
        return kind is not None

    def _drop(self, thing: Thing) -> None:
        share = self._shares[thing.owner]
        self.gone.append(share.things[thing.kind].popleft())
        for pile in (self._files, share.files, share.loose[thing.kind]):
            pile.remove(thing.blobs)


def read_holdings(connection: sa.Connection, owner: str = "", fresh: Mapping[str, int] | None = None) -> Holdings:
    """All that the database knows of, and files that a client is to have beside that, by their sizes in bytes."""
    fresh = fresh or {}
    files: dict[str, list[str]] = defaultdict(list)
    for row in connection.execute(sa.select(job_blobs.c.job_id, job_blobs.c.sha256)):
        files[row.job_id].append(row.sha256)
    rows_of_blobs = connection.execute(sa.select(blobs.c.sha256, blobs.c.size))
    sizes = {row.sha256: row.size if isinstance(row.size, int) else 0 for row in rows_of_blobs}
    rows = connection.execute(sa.select(jobs.c.id, jobs.c.owner, jobs.c.end_time).order_by(jobs.c.end_time)).all()
    ended = [Thing(row.owner, "job", row.id, tuple(files[row.id])) for row in rows if row.end_time is not None]
    stay = [(owner, name) for name in fresh]
    stay += [(row.owner, name) for row in rows if row.end_time is None for name in files[row.id]]
    wanted = sa.select(uploads.c.owner, uploads.c.sha256).order_by(uploads.c.used)
    uploaded = [Thing(row.owner, "upload", row.sha256, (row.sha256,)) for row in connection.execute(wanted)]
    return Holdings({**sizes, **fresh}, [*ended, *uploaded], stay)


def held_bytes(connection: sa.Connection, owner: str, but: Collection[str] = ()) -> int:
    """Bytes of a client's files, each counted once; without some."""
    of_jobs = sa.select(job_blobs.c.sha256).join(jobs, jobs.c.id == job_blobs.c.job_id).where(jobs.c.owner == owner)
    of_uploads = sa.select(uploads.c.sha256).where(uploads.c.owner == owner)
    mine = blobs.c.sha256.in_(sa.union(of_jobs, of_uploads))
    wanted = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.size), 0)).where(mine, blobs.c.sha256.not_in(list(but)))
    return int(connection.execute(wanted).scalar_one())


def all_bytes(connection: sa.Connection, but: Collection[str] = ()) -> int:
    """Bytes of all files; without some."""
    wanted = sa.select(sa.func.coalesce(sa.func.sum(blobs.c.size), 0)).where(blobs.c.sha256.not_in(list(but)))
    return int(connection.execute(wanted).scalar_one())
