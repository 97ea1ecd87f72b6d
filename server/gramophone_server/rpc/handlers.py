"""Wraps call handlers of all four kinds (unary or streaming requests and responses)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from .errors import Context

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior = Callable[[Any, Context], Any]


def wrap_handler(
    handler: Handler, answering: Callable[[Behavior], Behavior], streaming: Callable[[Behavior], Behavior]
) -> Handler:
    """Returns a handler whose behavior is wrapped.

    Args:
        answering: wraps the behavior of a call with one response.
        streaming: wraps the behavior of a call that streams responses.
    """
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
