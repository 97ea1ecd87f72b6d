"""Generates Python types and the reference page from the options of the contract."""

import textwrap
from collections.abc import Iterator
from dataclasses import replace

from contract import Contract, Field

_MARK = "Generated from proto/ by `make proto`; do not edit."
_TYPES = {
    "integer": "int", "number": "float", "boolean": "bool", "text": "str", "duration": "float", "image": "ImageLike",
}  # fmt: skip
# Fields of a request whose members are options of jobs, and their types.
_JOB_MESSAGES = {"options": "SynthesisOptions", "submission": "Submission"}


def job_options(contract: Contract) -> list[tuple[str, Field]]:
    """The options of jobs, each with the name of the request's field that contains it."""
    return [(at, field) for at, message in _JOB_MESSAGES.items() for field in contract.fields(message)]


def sdk_module(contract: Contract) -> str:
    """The text of sdk/gramophone/options.py: words of enums, the options of jobs as a TypedDict and as a table."""
    fields = job_options(contract)
    return "\n".join(
        [
            f'"""The options of jobs, and the words of the enums. {_MARK}"""',
            "",
            "from __future__ import annotations",
            "",
            "from collections.abc import Mapping, Sequence",
            "from typing import TYPE_CHECKING, Literal",
            "",
            "from typing_extensions import TypedDict",
            "",
            "from .option import Option",
            "",
            "if TYPE_CHECKING:",
            "    from .images import ImageLike",
            "else:",
            "    # A web framework that validates a request by these types must accept bytes only: a path in a request",
            "    # would make it read a file of this machine.",
            "    ImageLike = bytes",
            "",
            *_words(contract, [field for _, field in fields]),
            "",
            "",
            "class Options(TypedDict, total=False):",
            '    """The options that all three kinds of job share. Missing options get the server\'s defaults."""',
            "",
            *_typed(fields),
            "",
            "",
            "OPTIONS: tuple[Option, ...] = (",
            *_table(fields),
            ")",
            '"""The same options as a table, for programs."""',
            "",
        ]
    )


def server_module(contract: Contract) -> str:
    """The text of server/gramophone_server/messages/options.py: the options of a job with all defaults filled in."""
    weighted = [field.enum for field in contract.fields("SynthesisOptions") if field.type == "weights"]
    messages = (*contract.nested("SynthesisOptions").values(), *weighted, "SynthesisOptions")
    parts = [
        f'"""The options of a job, with every default filled in. {_MARK}"""',
        "",
        "from dataclasses import dataclass, field",
        "from typing import Literal",
        "",
        *_words(contract, []),
    ]
    for message in messages:
        parts += ["", "", "@dataclass(frozen=True, kw_only=True)", f"class {message}:"]
        parts += [*_docstring(contract.comment(message), "    "), ""]
        parts += _members(contract, message)
    return "\n".join([*parts, ""])


def reference(contract: Contract) -> str:
    """The text of docs/reference/options.md."""
    lines = [
        "# Options of jobs",
        "",
        f"<!-- {_MARK} -->",
        "",
        "Options are keyword arguments of `Client.style`, `content` and `transfer`, command-line options of",
        "`gramophone style`, `content` and `transfer` (with dashes instead of underscores), and fields of the",
        "requests. An explicit value that equals the default behaves like a missing one.",
    ]
    groups: dict[str, list[tuple[str, Field]]] = {}
    for at, field in job_options(contract):
        groups.setdefault(field.rules.group or "Job", []).append((at, field))
    for group, fields in groups.items():
        lines += [
            "",
            f"## {group}",
            "",
            "| option | field | values | default | meaning |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += [_row(at, field) for at, field in fields]
    lines += ["", "## Pictures, layers and weights", ""]
    lines += ["| field | values | default | meaning |", "| --- | --- | --- | --- |"]
    for message in ("StyleSource", "LayerWeight", "TransferStyleRequest"):
        for field in contract.fields(message):
            if field.comment and not field.path.startswith(tuple(f"{at}." for at in _JOB_MESSAGES)):
                cells = f"`{message}.{field.path}`", _values(field), field.default or "required", _cell(field.comment)
                lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Words", ""]
    for name, choices in contract.enums().items():
        if any(field.enum == name for _, field in job_options(contract)):
            lines += [f"**{name}.** {contract.comment(name)}", ""]
            lines += [f"* `{choice.word}`: {choice.comment}" for choice in choices] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _words(contract: Contract, fields: list[Field]) -> Iterator[str]:
    for name, choices in contract.enums().items():
        yield f"{name} = Literal[{_quoted(choice.word for choice in choices)}]"
        yield from _docstring(contract.comment(name), "")
    for field in fields:
        if field.rules.values and field.enum:
            yield f"{_alias(field)} = Literal[{_quoted(choice.word for choice in field.choices)}]"
            yield from _docstring(field.comment, "")


def _typed(fields: list[tuple[str, Field]]) -> Iterator[str]:
    for _, field in _merged(fields):
        yield f"    {field.option}: {_type(field)}"
        yield from _docstring(" ".join(_described(field)), "    ")


def _table(fields: list[tuple[str, Field]]) -> Iterator[str]:
    for at, field in _merged(fields):
        choices = {choice.word: choice.number for choice in field.choices}
        parts = {
            "name": field.option, "path": f"{at}.{field.path}", "type": field.type,
            "group": field.rules.group or "Job", "help": field.comment, "default": field.default,
            "range": field.range, "example": field.example, "unit": field.rules.unit, "sent": field.sent,
        }  # fmt: skip
        body = [f"{name}={_literal(value)}" for name, value in parts.items() if value]
        body += [f"choices={choices!r}"] if choices else []
        body += [f"values={field.values!r}"] if field.values else []
        body += [f"bounds={field.bounds!r}"] if field.type == "integer" else []
        body += [f"image_path={f'{at}.{field.image}'!r}"] if field.image else []
        body += [f"weights_path={f'{at}.{field.weights}'!r}"] if field.weights else []
        yield f"    Option({', '.join(body)}),"


def _merged(fields: list[tuple[str, Field]]) -> list[tuple[str, Field]]:
    """The fields, with fields of the same option (a word; a picture or words with weights) merged into one."""
    found: dict[str, tuple[str, Field]] = {}
    for at, field in fields:
        known = found.get(field.option)
        if known is None:
            found[field.option] = at, field
        elif field.type == "weights":
            found[field.option] = at, replace(known[1], weights=field.path)
        else:
            # The user gives the picture itself instead of the word "image".
            words = tuple(choice for choice in known[1].choices if choice.word != "image")
            found[field.option] = at, replace(known[1], choices=words, image=field.path)
    return list(found.values())


def _type(field: Field) -> str:
    if field.type != "choice":
        return _TYPES[field.type]
    if field.weights:
        return f"{field.enum} | Sequence[{field.enum}] | Mapping[{field.enum}, float]"
    if field.image:
        return f"Literal[{_quoted(choice.word for choice in field.choices)}] | ImageLike"
    return _alias(field) if field.rules.values else field.enum


def _members(contract: Contract, message: str) -> Iterator[str]:
    nested, done = contract.nested(message), set()
    for found in contract.fields(message):
        head = found.path.partition(".")[0]
        if "." in found.path:
            if head not in done:
                done.add(head)
                yield f"    {head}: {nested[head]} = field(default_factory={nested[head]})"
            continue
        if found.type == "image":
            continue
        if found.type == "weights":
            yield f"    {found.name}: tuple[{found.enum}, ...] = ()"
            continue
        kind = f"Literal[{_quoted(c.word for c in found.choices)}]" if found.rules.values and found.enum else found.enum
        # A duration without a default is None: no limit.
        absent = found.type == "duration" and not found.constant
        kind = kind or _TYPES[found.type] + (" | None" if absent else "")
        default = " = None" if absent else f" = {_value(found)}" if found.constant else ""
        yield f"    {found.name}: {kind}{default}"


def _value(field: Field) -> str:
    """The constant default of a field as a Python literal."""
    if field.type in ("number", "duration"):
        return repr(float(field.constant))
    if field.type == "boolean":
        return field.constant.capitalize()
    return field.constant if field.type == "integer" else repr(field.constant)


def _described(field: Field) -> Iterator[str]:
    yield field.comment
    if field.range:
        yield f"{field.range[0].upper()}{field.range[1:]}."
    if field.default:
        yield f"Default {field.default}."


def _row(at: str, field: Field) -> str:
    cells = f"`{field.option}`", f"`{at}.{field.path}`", _values(field), field.default or "none", _cell(field.comment)
    return f"| {' | '.join(cells)} |"


def _values(field: Field) -> str:
    if field.choices:
        return ", ".join(f"`{choice.word}`" for choice in field.choices)
    words = {"image": "a picture", "text": "text", "boolean": "true, false", "weights": "words with weights"}
    return field.range or words[field.type]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _alias(field: Field) -> str:
    return "".join(part.capitalize() for part in field.option.split("_"))


def _quoted(words: object) -> str:
    return ", ".join(f'"{word}"' for word in words)  # type: ignore[attr-defined]


def _literal(text: str) -> str:
    """A Python string literal; a long string is split into several."""
    lines = textwrap.wrap(text, 90, drop_whitespace=False)
    return repr(text) if len(lines) < 2 else f"({' '.join(map(repr, lines))})"


def _docstring(text: str, indent: str) -> Iterator[str]:
    lines = textwrap.wrap(text, 112 - len(indent)) or [""]
    if len(lines) == 1:
        yield f'{indent}"""{lines[0]}"""'
        return
    yield f'{indent}"""{lines[0]}'
    yield from (indent + line for line in lines[1:])
    yield f'{indent}"""'
