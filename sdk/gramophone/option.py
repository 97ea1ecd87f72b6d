"""What an option of jobs is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .brief import Value

Type = Literal["integer", "number", "boolean", "choice", "text", "duration", "image"]


@dataclass(frozen=True, repr=False)
class Option(Value):
    """An option of jobs, as the contract has it.

    Attributes:
        name: of the keyword option.
        path: the field of the request that it sets, such as "options.preview.every".
        type: of its values; a duration is in seconds.
        group: the heading below which it is shown.
        help: what it means.
        default: what leaving it out means, in words.
        range: the numbers allowed, in words.
        unit: of its numbers.
        example: a value that can be written.
        choices: words with the numbers that they stand for in the contract.
        values: the only numbers allowed; empty for a range.
        bounds: the least and the greatest number that its field can hold.
        sent: the word that is sent where none is given; empty for none.
        image_path: the field for a picture, where one may be given instead of a word.
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
