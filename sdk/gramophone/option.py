"""The description of an option of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .brief import Value

Type = Literal["integer", "number", "boolean", "choice", "text", "duration", "image"]


@dataclass(frozen=True, repr=False)
class Option(Value):
    """An option of jobs, generated from the contract.

    Attributes:
        name: name of the keyword argument.
        path: path of the request's field, such as "options.preview.every".
        type: type of its values; a duration is in seconds.
        group: heading of the group in which help texts list it.
        help: description.
        default: description of the default.
        range: description of the allowed numbers.
        unit: unit of its numbers.
        example: example value.
        choices: for a choice, the allowed words and their numbers in the contract.
        values: the only allowed numbers; empty if a range is allowed.
        bounds: minimum and maximum of the field's type.
        sent: word that the client sends if the user gives no value; empty for none.
        image_path: path of the field for a picture, if the option accepts a picture instead of a word; else empty.
        weights_path: path of the field for several words with weights, if the option accepts them; else empty.
    """

    name: str
    path: str
    type: Type
    group: str
    help: str = ""
    default: str = ""
    range: str = ""
    unit: str = ""
    example: str = ""
    choices: Mapping[str, int] = field(default_factory=dict)
    values: tuple[int, ...] = ()
    bounds: tuple[int, int] = (0, 0)
    sent: str = ""
    image_path: str = ""
    weights_path: str = ""
