"""Each client's recent device time, shared by all fronts; see `scheduling.queue.FairQueue` for the rule."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from ..database import shares

_FORGOTTEN = 1e-3


def charge(connection: sa.Connection, owner: str, seconds: float, half_life: float) -> None:
    """Adds device time to a client's use, after a decay of all uses; a negative amount corrects an earlier one.

    The caller holds the lock of the queue.

    Args:
        half_life: seconds of device time of all clients after which a use is halved.
    """
    fade = 0.5 ** (max(0.0, seconds) / half_life)
    connection.execute(shares.delete().where(shares.c.used * fade <= _FORGOTTEN))
    if fade < 1.0:
        connection.execute(shares.update().values(used=shares.c.used * fade))
    if seconds > 0:
        added = postgresql.insert(shares).values(owner=owner, used=seconds)
        known = {"used": shares.c.used + added.excluded.used}
        connection.execute(added.on_conflict_do_update(index_elements=[shares.c.owner], set_=known))
    else:
        less = sa.func.greatest(0.0, shares.c.used + seconds)
        connection.execute(shares.update().where(shares.c.owner == owner).values(used=less))
