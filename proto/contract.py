"""Reads the contract from protoc's descriptors: fields with their rules and comments, and enums."""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "gramophone.v1"
_CONSTANT = re.compile(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b")
_FIELD = descriptor_pb2.FieldDescriptorProto
# Minimum and maximum of the integer types.
_WHOLE = {
    _FIELD.TYPE_INT32: (-(2**31), 2**31 - 1), _FIELD.TYPE_UINT32: (0, 2**32 - 1),
    _FIELD.TYPE_INT64: (-(2**63), 2**63 - 1), _FIELD.TYPE_UINT64: (0, 2**64 - 1),
}  # fmt: skip
_OTHER = {
    _FIELD.TYPE_DOUBLE: "number", _FIELD.TYPE_FLOAT: "number", _FIELD.TYPE_STRING: "text", _FIELD.TYPE_BOOL: "boolean",
    _FIELD.TYPE_ENUM: "choice",
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A value of an enum: its name in the contract, its word ("lbfgs" for OPTIMIZER_LBFGS), its number, its comment."""

    name: str
    word: str
    number: int
    comment: str


@dataclass(frozen=True)
class Field:
    """A field of a message.

    Attributes:
        path: path of the field in the message passed to `Contract.fields`, such as "preview.every".
        option: name of the option that libraries offer for this field.
        type: "integer", "number", "boolean", "choice", "weights", "text", "duration" or "image"; "weights" is that of a
            repeated message of a choice and its weight.
        enum: for a choice, the name of its enum, such as "Optimizer".
        choices: for a choice, the allowed values of its enum, without the zero value.
        comment: the field's comment in the contract.
        rules: the field's FieldRules message.
        bounds: for an integer, minimum and maximum of its type.
        image: path of the field that takes a picture for the same option; empty for none.
        weights: path of the field that takes several choices with weights for the same option; empty for none.
    """

    path: str
    option: str
    type: str
    enum: str
    choices: tuple[Choice, ...]
    comment: str
    rules: Any
    bounds: tuple[int, int]
    image: str = ""
    weights: str = ""

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path.rpartition(".")[2]

    @cached_property
    def values(self) -> tuple[int, ...]:
        """The only allowed numbers; empty if all numbers within the bounds are allowed."""
        return tuple(int(value) for value in self.rules.values) if self.type == "integer" else ()

    def word(self, value: str) -> str:
        """The word of an enum value; other text is returned unchanged."""
        return next((choice.word for choice in self.choices if choice.name == value), value)

    @property
    def sent(self) -> str:
        """The word that libraries send when the user gives no value; empty for none."""
        return self.word(self.rules.library_value)

    @property
    def default(self) -> str:
        """Description of what happens when the user of a library gives no value."""
        rules = self.rules
        if self.sent:
            return self.sent
        if rules.default_style:
            words = {kind: self.word(getattr(rules, f"default_{kind}")) for kind in ("style", "content", "transfer")}
            return _by_kind(words)
        return self.word(rules.default_value) or rules.default_by

    @property
    def constant(self) -> str:
        """The default as a word or a number, if it is the same for every job; else empty."""
        return self.word(self.rules.default_value)

    @property
    def example(self) -> str:
        """An example value."""
        return self.rules.example or self.constant or (self.choices[0].word if self.choices else "1")

    @property
    def range(self) -> str:
        """Description of the allowed numbers; empty for fields that are not numbers."""
        rules, unit = self.rules, f" {self.rules.unit}" if self.rules.unit else ""
        if self.type not in ("integer", "number", "duration"):
            return ""
        if self.values:
            return " or ".join(map(str, self.values)) + unit
        is_whole = self.type == "integer"
        low = rules.minimum if rules.HasField("minimum") else self.bounds[0] if is_whole else None
        high = rules.maximum if rules.HasField("maximum") else self.bounds[1] if is_whole else None
        return f"{'0, or ' if rules.or_zero else ''}{_between(low, high, rules.minimum_excluded)}{unit}"


class Contract:
    """The messages, enums and comments of the .proto files below a folder."""

    def __init__(self, folder: Path) -> None:
        files = _descriptors(folder)
        pool = DescriptorPool()
        self._comments: dict[tuple[str, str], str] = {}
        self._messages: dict[str, Any] = {}
        self._enums: dict[str, Any] = {}
        for file in files.file:
            pool.Add(file)  # type: ignore[no-untyped-call]
            self._read(file)
        # Message classes of this pool, because only they know the extension.
        self._rules = pool.FindExtensionByName(f"{PACKAGE}.rules")  # type: ignore[no-untyped-call]
        self._options = GetMessageClass(pool.FindMessageTypeByName("google.protobuf.FieldOptions"))  # type: ignore[no-untyped-call]

    def enums(self) -> dict[str, tuple[Choice, ...]]:
        """All enums by name, with their values except the zero value."""
        return {name: self._choices(name, []) for name in self._enums}

    def words(self) -> dict[str, str]:
        """The word of each enum value, by its name in the contract."""
        names = [(enum.value[0].name.removesuffix("UNSPECIFIED"), enum.value[1:]) for enum in self._enums.values()]
        return {value.name: value.name.removeprefix(prefix).lower() for prefix, values in names for value in values}

    def comment(self, *path: str) -> str:
        """The comment of a message, a field, an enum or an enum value, as one paragraph; enum values appear as words.

        Args:
            path: name of the message or enum, then the name of the field or value, if any.
        """
        comment = self._comments.get((path[0], ".".join(path[1:])), "")
        words = self.words()
        return _CONSTANT.sub(lambda name: f"`{words[name[0]]}`" if name[0] in words else name[0], comment)

    def fields(self, message: str, *, at: str = "", prefix: str = "") -> list[Field]:
        """The fields of a message that libraries offer as options; nested messages are replaced by their fields.

        Repeated messages are left out, except those of a choice and its weight that have an option.

        Args:
            message: name of the message.
            at: path of the message, with a dot at its end.
            prefix: prefix of the names of its options.
        """
        found: list[Field] = []
        for field in self._messages[message].field:
            path, option = f"{at}{field.name}", prefix + field.name
            inner = field.type_name.removeprefix(f".{PACKAGE}.")
            if field.type == _FIELD.TYPE_MESSAGE and inner not in ("InputImage", ".google.protobuf.Duration"):
                if field.label != _FIELD.LABEL_REPEATED:
                    found += self.fields(inner, at=f"{path}.", prefix=f"{option}_" if inner.endswith("Options") else "")
                elif self._rules_of(field).option:
                    found.append(self._field(message, field, path, option, inner))
                continue
            found.append(self._field(message, field, path, option, inner))
        return found

    def nested(self, message: str) -> dict[str, str]:
        """The fields of a message whose type is another message of options, with the name of that type."""
        names = {field.name: field.type_name.removeprefix(f".{PACKAGE}.") for field in self._messages[message].field}
        return {field: name for field, name in names.items() if name.endswith("Options")}

    def _field(self, message: str, field: Any, path: str, option: str, inner: str) -> Field:
        rules = self._rules_of(field)
        if field.label == _FIELD.LABEL_REPEATED:
            kind = "weights"
        elif inner in ("InputImage", ".google.protobuf.Duration"):
            kind = "image" if inner == "InputImage" else "duration"
        else:
            kind = "integer" if field.type in _WHOLE else _OTHER[field.type]
        choices = self._choices(inner, list(rules.values)) if kind == "choice" else ()
        return Field(
            path, rules.option or option, kind, inner if kind in ("choice", "weights") else "", choices,
            self.comment(message, field.name), rules, _WHOLE.get(field.type, (0, 0)),
        )  # fmt: skip

    def _rules_of(self, field: Any) -> Any:
        return self._options.FromString(field.options.SerializeToString()).Extensions[self._rules]

    def _choices(self, enum: str, allowed: list[str]) -> tuple[Choice, ...]:
        values = self._enums[enum].value
        prefix = values[0].name.removesuffix("UNSPECIFIED")
        return tuple(
            Choice(value.name, value.name.removeprefix(prefix).lower(), value.number, self.comment(enum, value.name))
            for value in values
            if value.number and (not allowed or value.name in allowed)
        )

    def _read(self, file: Any) -> None:
        if file.package != PACKAGE:
            return
        self._messages |= {message.name: message for message in file.message_type}
        self._enums |= {enum.name: enum for enum in file.enum_type}
        for location in file.source_code_info.location:
            match tuple(location.path):
                case (4, i):
                    key = (file.message_type[i].name, "")
                case (4, i, 2, j):
                    key = (file.message_type[i].name, file.message_type[i].field[j].name)
                case (5, i):
                    key = (file.enum_type[i].name, "")
                case (5, i, 2, j):
                    key = (file.enum_type[i].name, file.enum_type[i].value[j].name)
                case _:
                    continue
            self._comments[key] = re.sub(r"\s+", " ", location.leading_comments).strip()


def _descriptors(folder: Path) -> descriptor_pb2.FileDescriptorSet:
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("gramophone/v1/*.proto"))
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "contract.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--include_imports", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={out}", *names], cwd=folder, check=True)
        return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())


def _by_kind(words: dict[str, str]) -> str:
    """Joins defaults by kind: "square for style, longest_side for content and transfer"."""
    kinds: dict[str, list[str]] = {}
    for kind, word in words.items():
        kinds.setdefault(word, []).append(kind)
    return ", ".join(f"{word} for {' and '.join(of)}" for word, of in kinds.items())


def _between(low: float | None, high: float | None, low_excluded: bool) -> str:
    """Describes bounds in words; None means no bound."""
    if low is None:
        return "any number" if high is None else f"at most {_number(high)}"
    if low_excluded:
        return f"greater than {_number(low)}" + ("" if high is None else f", at most {_number(high)}")
    return f"at least {_number(low)}" if high is None else f"{_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"
