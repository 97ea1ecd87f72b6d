"""Messages from the bridge to the front. The bridge is the process between the front and a Ray cluster."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Connected:
    """The bridge is connected to the cluster, which has places for `workers` workers on its nodes, free or not."""

    workers: int


@dataclass(frozen=True)
class Unreachable:
    """The bridge is not connected; `reason` says why, without a period."""

    reason: str


@dataclass(frozen=True)
class Lost:
    """The last message of a worker's link: how the worker died, beginning with a verb."""

    reason: str


FromBridge = Connected | Unreachable
