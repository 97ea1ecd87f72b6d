"""Configures logs, as text or as JSON, for the front and the workers."""

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
# Fields of every log line of the current call or job.
_marks: ContextVar[Mapping[str, str]] = ContextVar("marks", default=_NO_MARKS)
_FIELDS = ("job_id", "trace_id", "span_id")


def mark(**marks: str) -> None:
    """Adds marks (`job_id`, `trace_id`, `span_id`) to all further log lines of the current call or task."""
    _marks.set({**_marks.get(), **marks})


@contextmanager
def marked(marks: Mapping[str, str]) -> Iterator[None]:
    """Sets the marks of log lines in the block; they replace all earlier marks."""
    token = _marks.set(marks)
    try:
        yield
    finally:
        _marks.reset(token)


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON.

    Fields: time (ISO 8601, UTC), level, logger, message; and if known job_id, trace_id, span_id and exception. The ids
    come from the record's `extra` if it has a job_id, else from the marks of the current call or task.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line without a line break at its end; line breaks inside are escaped."""
        line: dict[str, str] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        marks = _marks.get()
        for field in _FIELDS:
            # Do not mix ids: a job's trace differs from that of the call that logs about the job.
            value = getattr(record, field, "") if hasattr(record, "job_id") else marks.get(field, "")
            if value:
                line[field] = str(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _without_ended_calls(record: logging.LogRecord) -> bool:
    """Returns False for gRPC's tracebacks about a response that is sent after the end of its call.

    The client left, or gRPC refused a message that is too long. Neither is an error of the server.
    """
    return not (record.exc_info and type(record.exc_info[1]).__name__ == "ExecuteBatchError")


def configure(format: Format, level: str) -> None:
    """Sends the log of this process to standard error, from `level` ("debug", …, "error") up."""
    handler = logging.StreamHandler()
    if format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_without_ended_calls)
    logging.basicConfig(level=level.upper(), handlers=[handler])
