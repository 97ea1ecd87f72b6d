"""The handlers of all methods by name, for calls that do not arrive by gRPC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from .handlers import Handler


@dataclass(frozen=True)
class CallDetails:
    """What interceptors learn about a call: its method, `/service/name`, and its metadata as (key, value)."""

    method: str
    invocation_metadata: Any


class MethodTable:
    """Stands for a server in the generated functions `add_…Servicer_to_server`, and looks their handlers up by name."""

    def __init__(self) -> None:
        self._handlers: dict[str, Handler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Adds the handlers of a service, by the names of its methods."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Ignores the handlers: the generated functions register each of them by its name as well."""

    def find(self, method: str) -> Handler | None:
        """Returns the handler of `/service/name`; None if there is none."""
        return self._handlers.get(method)
