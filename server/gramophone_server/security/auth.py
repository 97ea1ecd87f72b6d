"""Authenticates the caller of each call, and rejects calls without valid credentials."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2

from ..rpc.errors import Context, abort
from ..rpc.handlers import Behavior, Handler, wrap_handler
from .caller import Caller, set_caller
from .tokens import TokenFile

if TYPE_CHECKING:
    from .certificates import ClientCertificates

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# Load balancers have no credentials, and health checks reveal nothing about clients.
OPEN_METHODS = frozenset({f"/{_HEALTH}/Check", f"/{_HEALTH}/Watch"})
"""Methods that need no authentication."""

# Characters: the size of the owner column in the database.
_MAX_NAME = 256


class Authenticator(grpc.aio.ServerInterceptor):
    """Authenticates every call except health checks, by its bearer token or else its connection's certificate.

    `current_caller()` then returns the caller in the handler. Calls without valid credentials end with UNAUTHENTICATED
    before their request is read, even if the method does not exist.

    Args:
        tokens: the clients' tokens; None if the server accepts none.
        certificates: the check of client certificates; None if the server requires none.
        admins: names of administrators, in addition to those in the token file.
    """

    def __init__(
        self, tokens: TokenFile | None, *, certificates: ClientCertificates | None, admins: Collection[str] = ()
    ) -> None:
        self._tokens = tokens
        self._certificates = certificates
        self._admins = frozenset(admins)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Sets the caller and returns the call's handler, or returns a handler that rejects the call."""
        if handler_call_details.method in OPEN_METHODS:
            return await continuation(handler_call_details)
        metadata: Any = handler_call_details.invocation_metadata
        given = [value for key, value in metadata or () if key == "authorization"]
        if given and self._tokens is not None:
            caller = self._caller_by_token(given)
            if caller is None:
                return _rejecting_handler(
                    "the token of this call is not known here; it may be mistyped, or have been removed from the server"
                )
            # Each call has its own context, which its interceptors and its handler share.
            set_caller(self._with_role(caller))
            return await continuation(handler_call_details)
        if self._certificates is not None:
            handler = await continuation(handler_call_details)
            return None if handler is None else self._checking_certificate(handler)
        return _rejecting_handler(
            "this server requires authentication: give the token that `gramophone tokens add` printed, as the metadata "
            "`authorization: Bearer TOKEN`"
        )

    def _caller_by_token(self, given: list[str | bytes]) -> Caller | None:
        if len(given) != 1 or not isinstance(given[0], str) or self._tokens is None:
            return None
        scheme, _, token = given[0].partition(" ")
        return self._tokens.caller(token.strip()) if scheme.lower() == "bearer" else None

    def _certificate_refusal(self, context: Context) -> str | None:
        """Returns why the connection's certificate is not a valid client certificate; None if it is."""
        (pem,) = context.auth_context().get("x509_pem_cert") or (b"",)
        return None if self._certificates is None else self._certificates.refusal(pem)

    def _caller_by_certificate(self, context: Context) -> Caller | None:
        properties = context.auth_context()
        names = [*properties.get("x509_common_name", ()), *properties.get("peer_dns", ())]
        name = next((value.decode(errors="replace") for value in names if value), "")
        # Unprintable characters could imitate another name or break a log line; longer names do not fit the database.
        is_name = name.isprintable() and 0 < len(name) <= _MAX_NAME and "\ufffd" not in name
        return Caller(name, admin=False) if is_name else None

    def _with_role(self, caller: Caller) -> Caller:
        return Caller(caller.name, caller.admin or caller.name in self._admins)

    def _checking_certificate(self, handler: Handler) -> Handler:
        """Wraps a handler so that it first sets the caller by the certificate: only handlers can access it."""

        async def identify(context: Context) -> None:
            if (refusal := self._certificate_refusal(context)) is not None:
                await _reject(context, refusal)
            caller = self._caller_by_certificate(context)
            if caller is None:
                await _reject(
                    context, "the certificate of this connection has no usable name: it needs a printable common name"
                )
            else:
                set_caller(self._with_role(caller))

        def answering(behavior: Behavior) -> Behavior:
            async def answer(request: Any, context: Context) -> Any:
                await identify(context)
                return await behavior(request, context)

            return answer

        def streaming(behavior: Behavior) -> Behavior:
            async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
                await identify(context)
                # When a call is canceled, gRPC closes this generator, which must close the inner one.
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response

            return stream

        return wrap_handler(handler, answering, streaming)


def _rejecting_handler(sentence: str) -> Handler:
    async def reject(requests: object, context: Context) -> None:
        await _reject(context, sentence)

    # A handler of a request stream: gRPC does not read the request before the handler ends the call.
    handler: Handler = grpc.stream_unary_rpc_method_handler(reject)
    return handler


async def _reject(context: Context, sentence: str) -> NoReturn:
    await abort(context, grpc.StatusCode.UNAUTHENTICATED, sentence)
