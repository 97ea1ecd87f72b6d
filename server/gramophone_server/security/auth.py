"""Finds out who makes each call, and ends the calls of those who do not say."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn

import grpc
from grpc_health.v1 import health_pb2

from ..rpc.errors import Context, abort
from ..rpc.handlers import Behavior, Handler, wrapped
from .caller import Caller, set_caller
from .tokens import TokenFile

if TYPE_CHECKING:
    from .certificates import ClientCertificates

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
# What load balancers ask, who have no credentials, and which tells nothing of any client.
OPEN = frozenset({f"/{_HEALTH}/Check", f"/{_HEALTH}/Watch"})

# Characters, as many as the database of jobs keeps.
_LONGEST_NAME = 256


class Authenticator(grpc.aio.ServerInterceptor):
    """Authenticates every call but health checks, by its bearer token or else by its connection's certificate.

    What the handler then calls `current_caller()` is who it is. Any other call ends with UNAUTHENTICATED before its
    request is read, whether or not there is such a method.

    Args:
        tokens: whose tokens are whose; None if there are none.
        certificates: judges the certificates that connections carry; None if they carry none.
        admins: names of clients that are administrators, beside those that the tokens say are.
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
        """Lets the call pass with its caller set, or gives it a handler that refuses it."""
        if handler_call_details.method in OPEN:
            return await continuation(handler_call_details)
        metadata: Any = handler_call_details.invocation_metadata
        given = [value for key, value in metadata or () if key == "authorization"]
        if given and self._tokens is not None:
            caller = self._of_token(given)
            if caller is None:
                return _refusal(
                    "the token of this call is not known here; it may be mistyped, or have been removed from the server"
                )
            # The handler runs in the same context as its interceptor, and each call in one of its own.
            set_caller(self._with_role(caller))
            return await continuation(handler_call_details)
        if self._certificates is not None:
            handler = await continuation(handler_call_details)
            return None if handler is None else self._by_certificate(handler)
        return _refusal(
            "this server asks who calls: give the token that `gramophone tokens add` printed, which travels as the "
            "metadata `authorization: Bearer TOKEN`"
        )

    def _of_token(self, given: list[str | bytes]) -> Caller | None:
        if len(given) != 1 or not isinstance(given[0], str) or self._tokens is None:
            return None
        scheme, _, token = given[0].partition(" ")
        return self._tokens.caller(token.strip()) if scheme.lower() == "bearer" else None

    def _refusal_of(self, context: Context) -> str | None:
        """Why the connection's certificate is no client's; None if it is one."""
        (pem,) = context.auth_context().get("x509_pem_cert") or (b"",)
        return None if self._certificates is None else self._certificates.refusal(pem)

    def _of_certificate(self, context: Context) -> Caller | None:
        properties = context.auth_context()
        names = [*properties.get("x509_common_name", ()), *properties.get("peer_dns", ())]
        name = next((value.decode(errors="replace") for value in names if value), "")
        # What cannot be printed could pass for another name, or break a line of the log; what is longer is not kept.
        is_name = name.isprintable() and 0 < len(name) <= _LONGEST_NAME and "\ufffd" not in name
        return Caller(name, admin=False) if is_name else None

    def _with_role(self, caller: Caller) -> Caller:
        return Caller(caller.name, caller.admin or caller.name in self._admins)

    def _by_certificate(self, handler: Handler) -> Handler:
        """The handler behind one that sets the caller by the certificate, which only a handler gets to see."""

        async def identify(context: Context) -> None:
            if (refusal := self._refusal_of(context)) is not None:
                await _refuse(context, refusal)
            caller = self._of_certificate(context)
            if caller is None:
                await _refuse(
                    context, "the certificate of this connection names nobody: it needs a printable common name"
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
                # A call that is cancelled closes this generator, which has to close the one behind it.
                async with aclosing(behavior(request, context)) as responses:
                    async for response in responses:
                        yield response

            return stream

        return wrapped(handler, answering, streaming)


def _refusal(sentence: str) -> Handler:
    async def refuse(requests: object, context: Context) -> None:
        await _refuse(context, sentence)

    # Taken for a stream of requests, the call ends before anything it sends has been read.
    handler: Handler = grpc.stream_unary_rpc_method_handler(refuse)
    return handler


async def _refuse(context: Context, sentence: str) -> NoReturn:
    await abort(context, grpc.StatusCode.UNAUTHENTICATED, sentence)
