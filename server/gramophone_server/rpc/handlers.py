"""Puts something around the handlers of calls, whichever of their four kinds they are of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from .errors import Context

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = Callable[[Any, Context], Any]


def wrapped(
    handler: Handler, answering: Callable[[Behavior], Behavior], streaming: Callable[[Behavior], Behavior]
) -> Handler:
    """The handler with its behavior wrapped, by `streaming` if it streams responses and else by `answering`."""
    make: Any
    behavior: Any
    wrap = streaming if handler.response_streaming else answering
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            make, behavior = grpc.unary_unary_rpc_method_handler, handler.unary_unary
        case False, True:
            make, behavior = grpc.unary_stream_rpc_method_handler, handler.unary_stream
        case True, False:
            make, behavior = grpc.stream_unary_rpc_method_handler, handler.stream_unary
        case _:
            make, behavior = grpc.stream_stream_rpc_method_handler, handler.stream_stream
    made: Handler = make(wrap(behavior), handler.request_deserializer, handler.response_serializer)
    return made
