"""Error messages in terms of the command's own options and arguments."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping

import click

from .. import (
    FieldViolation,
    GramophoneError,
    InvalidRequestError,
    JobCancelledError,
    UnauthenticatedError,
    UnavailableError,
)
from ..v1 import options_pb2
from .console import fail

_PICTURES = "gramophone.pictures"
# Fields of requests and arguments of Client whose command-line option has another name.
_OPTION_NAMES = {
    "init_image": "init",
    "created_after": "since",
    "page_size": "limit",
    "states": "state",
    "kinds": "kind",
    "format": "output",
    "target": "server",
    "root_certificates": "ca",
    "certificate": "cert",
    "private_key": "key",
}
_ARGUMENTS = {
    " (on the command line: --tls, --ca)": "",
    "tls=True": "--tls",
    "root_certificates": "--ca",
    "private_key": "--key",
}
_UNREACHABLE = "cannot be reached"
# Enum values of the contract, and their words on the command line.
_CONSTANT = re.compile("[A-Z]+(?:_[A-Z0-9]+)+")
# Fields of a request that descriptions mention.
_FIELD = re.compile(r"\b(?:options|styles\[\d+\])(?:\.[a-z_]+)+")
_WORDS = {
    name: name.removeprefix(enum.values[0].name.removesuffix("UNSPECIFIED")).lower()
    for enum in options_pb2.DESCRIPTOR.enum_types_by_name.values()
    for name in enum.values_by_name
}
_JOB = re.compile(r"(style|content|transfer)\.(?=options|submission|styles|content|style_|content_)")


def name_pictures(names: Mapping[str, str]) -> None:
    """Makes error messages name the files of pictures.

    Args:
        names: name of each picture's file, by the path of its field in the request.
    """
    click.get_current_context().meta[_PICTURES] = dict(names)


@contextlib.contextmanager
def errors_as_sentences() -> Iterator[None]:
    """Ends the command with a message instead of a traceback if the block raises; status 2 for bad requests, else 1."""
    try:
        yield
    except InvalidRequestError as error:
        fail(sentence_of(error), 2)
    except FileNotFoundError as error:
        fail(f"there is no file {error.filename}", 2)
    except UnicodeError:
        fail("an option or argument has bytes that are not valid UTF-8 text", 2)
    except (ValueError, TypeError, OverflowError) as error:
        fail(_with_options(str(error)), 2)
    except JobCancelledError as error:
        fail(str(error), 130)
    except UnauthenticatedError as error:
        fail(_unauthenticated(error), 1)
    except UnavailableError as error:
        hint = " `gramophone serve` starts a server; --server gives its address." if _UNREACHABLE in str(error) else ""
        fail(f"{error}{hint}", 1)
    except BrokenPipeError:
        # The reader has closed the pipe: end silently.
        raise
    except (GramophoneError, OSError) as error:
        fail(str(error), 1)


def sentence_of(error: Exception) -> str:
    """Returns the message of an error; that of an invalid request has a line for each invalid option or argument."""
    lines = [_sentence(violation) for violation in error.violations] if isinstance(error, InvalidRequestError) else []
    return "\n".join(lines) or str(error)


def option_of(field: str) -> str:
    """Returns the running command's name for a field of a request: an option, an argument, or the picture's file."""
    context = click.get_current_context(silent=True)
    if context is None:
        return field
    path = _JOB.sub("", field).removeprefix("options.").removeprefix("submission.")
    for place, name in context.meta.get(_PICTURES, {}).items():
        if path == place or path.startswith(f"{place}."):
            return str(name)
    parts = re.sub(r"\[\d+\]", "", path).split(".")
    # Use the innermost name that is an option: for `style_layers[0].weight`, this is --style-layers.
    for part in (*reversed(parts), *(part.partition("_")[2] for part in parts)):
        if (option := _option(context.command, part)) is not None:
            return option
    return field


def _sentence(violation: FieldViolation) -> str:
    description = _CONSTANT.sub(lambda match: _WORDS.get(match[0], match[0]), violation.description)
    description = _FIELD.sub(lambda match: option_of(match[0]), description)
    # Most descriptions continue the sentence after the name of the field.
    colon = ":" if description.startswith(("there ", "the ")) else ""
    return f"{option_of(violation.field)}{colon} {description}"


def _option(command: click.Command, name: str) -> str | None:
    for parameter in command.params:
        if parameter.name in (name, _OPTION_NAMES.get(name), f"{name}s"):
            if isinstance(parameter, click.Option):
                return next((name for name in parameter.opts if name.startswith("--")), parameter.opts[0])
            return parameter.human_readable_name
    return None


def _with_options(message: str) -> str:
    """Replaces the names of arguments in an error message of the SDK by the command's options."""
    word, space, rest = message.partition(" ")
    context = click.get_current_context(silent=True)
    option = _option(context.command, word) if context is not None else None
    for argument, name in _ARGUMENTS.items():
        rest = rest.replace(argument, name)
    return f"{option or word}{space}{rest}"


def _unauthenticated(error: UnauthenticatedError) -> str:
    context = click.get_current_context(silent=True)
    given = {} if context is None else context.params
    if given.get("token") or given.get("cert"):
        return (
            f"{error}. Give another token with --token or $GRAMOPHONE_TOKEN, another certificate with --cert and --key"
        )
    server = given.get("server")
    return (
        f"the server{f' at {server}' if server else ''} requires authentication: give --token TOKEN, or set "
        "$GRAMOPHONE_TOKEN, which other users cannot see; or --cert FILE and --key FILE, if it requires certificates"
    )
