"""The client that makes the current call."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Caller:
    """A client of the server.

    Attributes:
        name: owner of the jobs that the client submits; empty if the server does not authenticate clients.
        admin: whether the client may see and change all jobs.
    """

    name: str
    admin: bool

    def may_see(self, owner: str) -> bool:
        """Returns whether the client may see the jobs of an owner."""
        return self.admin or owner == self.name


# The caller on a server without authentication: all clients count as one.
ANYONE = Caller("", admin=True)
_current: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


def current_caller() -> Caller:
    """Returns the client that makes the current call."""
    return _current.get()


def set_caller(caller: Caller) -> None:
    """Sets the client of the current call; called by the interceptor that authenticates it."""
    _current.set(caller)


def client_of(context: Any) -> str:
    """Returns the key for fair sharing: the client's name or, without authentication, the connection's peer."""
    return current_caller().name or str(context.peer())
