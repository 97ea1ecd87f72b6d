"""Who is calling."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Caller:
    """A client of the server.

    Attributes:
        name: owns the jobs it submits; empty where the server does not tell its clients apart.
        admin: whether it may see and touch everybody's jobs.
    """

    name: str
    admin: bool

    def may_see(self, owner: str) -> bool:
        """Whether jobs of that owner are its to see."""
        return self.admin or owner == self.name


# Where nobody is asked who they are, everybody is the one and only client.
EVERYBODY = Caller("", admin=True)
_current: ContextVar[Caller] = ContextVar("caller", default=EVERYBODY)


def current_caller() -> Caller:
    """Who makes the call that is being handled."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Says who makes the call, for the rest of its handling; for the interceptor that has found out."""
    _current.set(caller)


def client_of(context: Any) -> str:
    """Whose share of the server a call uses: its client's or, where clients are not told apart, its connection's."""
    return current_caller().name or str(context.peer())
