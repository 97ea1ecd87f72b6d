"""Logs as text for a person or as JSON for a machine, in the front and in the workers alike."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

Format = Literal["text", "json"]

_NO_MARKS: Mapping[str, str] = MappingProxyType({})
# What every line says that is written while a call or a job is being handled.
_marks: ContextVar[Mapping[str, str]] = ContextVar("marks", default=_NO_MARKS)
_FIELDS = ("job_id", "trace_id", "span_id")


def mark(**marks: str) -> None:
    """Adds marks (`job_id`, `trace_id`, `span_id`) to the lines of the call or task at hand, from now on."""
    _marks.set({**_marks.get(), **marks})


@contextmanager
def marked(marks: Mapping[str, str]) -> Iterator[None]:
    """Has the lines that are written in the block carry those marks and no others."""
    token = _marks.set(marks)
    try:
        yield
    finally:
        _marks.reset(token)


class JsonFormatter(logging.Formatter):
    """A JSON object a line: time (ISO 8601, UTC), level, logger, message; job_id, trace_id, span_id and exception where
    there are such.

    A mark comes from the record's `extra`, or else from the call or task in which it was written.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end; line breaks within it are escaped."""
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        around = _marks.get()
        for field in _FIELDS:
            # Marks of a job go together: its trace is not that of the call in which it is spoken of.
            value = getattr(record, field, "") if hasattr(record, "job_id") else around.get(field, "")
            if value:
                line[field] = str(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _without_ended_calls(record: logging.LogRecord) -> bool:
    """False for what gRPC writes, with a traceback, of an answer that comes after the end of its call.

    Its client left, or gRPC refused a message that is too long. Neither is a fault of the server.
    """
    return not (record.exc_info and type(record.exc_info[1]).__name__ == "ExecuteBatchError")


def configure(format: Format, level: str) -> None:
    """Has this process log to standard error, from `level` ("debug", …, "error") on."""
    handler = logging.StreamHandler()
    if format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_without_ended_calls)
    logging.basicConfig(level=level.upper(), handlers=[handler])
