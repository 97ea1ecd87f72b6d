"""The ASGI application: checks who calls, and passes each request on to what answers it."""

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from email.utils import formatdate
from typing import Any

from .calls import CallContext, Calls
from .endpoints import Endpoints
from .errors import CallError, Code
from .events import Events
from .guard import Guard
from .leaving import unless_left
from .page import Page
from .requests import Headers, Request, Send, respond, respond_error
from .results import Results
from .submissions import METHODS, Submissions
from .uploads import Uploads

log = logging.getLogger(__name__)

# Headers of all responses.
_ALWAYS = (
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("server", "gramophone"),
)
# Other responses are data: a browser that is sent to one must not run it.
_DATA_POLICY = ("content-security-policy", "default-src 'none'; frame-ancestors 'none'; sandbox")
_JOB = re.compile(r"/jobs/([^/]{1,200})/(events|result|preview)")
_INPUT = re.compile(r"/jobs/([^/]{1,200})/inputs/([^/]{1,200})")
_SUBMIT = re.compile(r"/jobs/(style|content|transfer)")
_IMAGE = re.compile(r"/images/([^/]{1,200})")

Answer = Callable[[Request, Send], Coroutine[Any, Any, None]]
Health = Callable[[], list[str] | None]
Metrics = Callable[[CallContext, str], Awaitable[tuple[bytes, Headers]]]


class App:
    """Answers all requests over HTTP.

    Args:
        health: returns why the server is not serving; None if it is.
        metrics: returns the metrics as (body, headers), for a context and an Accept header; raises CallError.
    """

    def __init__(
        self, endpoints: Endpoints, calls: Calls, guard: Guard, page: Page, health: Health, metrics: Metrics
    ) -> None:
        self._endpoints = endpoints
        self._guard = guard
        self._page = page
        self._health = health
        self._metrics = metrics
        self._events = Events(calls)
        self._results = Results(calls)
        self._submissions = Submissions(calls)
        self._uploads = Uploads(calls)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request; never raises for what a client can cause."""
        more: list[tuple[str, str]] = []
        dressed = _Dressed(send, more)
        try:
            request = Request(scope, receive)
            is_page = not self._endpoints.has(request.path) and self._answers(request) is None
            if request.path != "/healthz":
                self._guard.check_host(request)
            more += self._guard.headers(request)
            self._guard.check_origin(request, is_page=is_page)
            if (preflight := self._guard.preflight(request)) is not None:
                await respond(dressed, 204, b"", preflight)
            else:
                await self._answer(request, dressed)
        except CallError as error:
            if not dressed.started:
                await respond_error(dressed, error)
            else:
                log.debug("the response to %r ended early: %s", scope["path"], error)
                raise
        except Exception:
            log.exception("the request for %r has failed", scope["path"])
            if not dressed.started:
                await respond_error(dressed, CallError(Code.INTERNAL, "the server has failed; its log says why"))

    async def _answer(self, request: Request, send: Send) -> None:
        if self._endpoints.has(request.path):
            await self._call(request, send)
            return
        answers = self._answers(request)
        if answers is None:
            await self._page.answer(request, send)
        elif (answer := answers.get(request.method)) is None:
            allowed = ", ".join(answers)
            message = f"{request.method[:20]} is not possible for {request.path[:200]!r}; use {allowed}"
            raise CallError(Code.UNIMPLEMENTED, message, status=405, headers=[("allow", allowed)])
        else:
            await unless_left(request, answer(request, send))

    async def _call(self, request: Request, send: Send) -> None:
        """Answers Connect and gRPC-Web requests."""
        content_type = request.header("content-type") or ""
        if request.method != "POST":
            message = f"{request.method[:20]} is not possible for methods; use POST"
            raise CallError(Code.UNIMPLEMENTED, message, status=405, headers=[("allow", "POST")])
        if not self._endpoints.takes(request.path, content_type):
            message = (
                f"Content-Type: is {content_type[:60]!r}; write application/json, or application/connect+json for a "
                "method that streams"
            )
            raise CallError(Code.INVALID_ARGUMENT, message, status=415)
        await self._endpoints.answer(request.scope, request.receive, send, request.context)

    def _answers(self, request: Request) -> dict[str, Answer] | None:
        """Returns what answers each HTTP method at the request's path; None if there is nothing."""
        path = request.path
        if match := _JOB.fullmatch(path):
            answer = {"events": self._events.job, "result": self._results.result, "preview": self._results.preview}
            wanted, job_id = answer[match[2]], match[1]
            methods = ("GET",) if match[2] == "events" else ("GET", "HEAD")
            return {method: lambda request, send: wanted(request, send, job_id) for method in methods}
        if match := _INPUT.fullmatch(path):
            of, sha256 = match[1], match[2]
            return {"GET": lambda request, send: self._results.input(request, send, of, sha256)}
        if match := _SUBMIT.fullmatch(path):
            kind = match[1]
            assert kind in METHODS
            return {"POST": lambda request, send: self._submissions.submit(request, send, kind)}
        if match := _IMAGE.fullmatch(path):
            name = match[1]
            return {
                "HEAD": lambda request, send: self._uploads.state(request, send, name),
                "PUT": lambda request, send: self._uploads.put(request, send, name),
            }
        if path == "/events":
            return {"GET": self._events.jobs}
        if path == "/healthz":
            return {"GET": self._answer_health, "HEAD": self._answer_health}
        if path == "/metrics":
            return {"GET": self._answer_metrics, "HEAD": self._answer_metrics}
        return None

    async def _answer_health(self, request: Request, send: Send) -> None:
        reasons = self._health()
        status = {"status": "SERVING"} if reasons is None else {"status": "NOT_SERVING", "reasons": reasons}
        headers = [("content-type", "application/json"), ("cache-control", "no-store")]
        await respond(send, 200 if reasons is None else 503, json.dumps(status).encode(), headers)

    async def _answer_metrics(self, request: Request, send: Send) -> None:
        context = request.context(_nothing())
        data, headers = await self._metrics(context, request.header("accept") or "")
        await respond(send, 200, data, headers)


class _Dressed:
    """Adds the headers that all responses have.

    Attributes:
        started: whether the response has begun.
    """

    def __init__(self, send: Send, more: list[tuple[str, str]]) -> None:
        self._send = send
        self._more = more
        self.started = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            names = {name for name, _ in message["headers"]}
            added = [*_ALWAYS, ("date", formatdate(usegmt=True)), *self._more]
            if b"content-security-policy" not in names:
                added.append(_DATA_POLICY)
            raw = [(name.encode(), value.encode("latin-1")) for name, value in added]
            message = message | {"headers": [*message["headers"], *raw]}
        await self._send(message)


async def _nothing() -> AsyncIterator[bytes]:
    empty: tuple[bytes, ...] = ()
    for request in empty:
        yield request
