"""What the student learns from: pictures beside their styles, and what the teacher sees in both."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .networks import Lesson, Teacher


@dataclass
class Entry:
    """A picture (3, S, S) of 0 to 1, float16, and what the teacher sees in it, found when it is first needed."""

    picture: Tensor
    _lesson: dict[str, Lesson] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, picture: Tensor) -> "Entry":
        """An entry of a picture of any precision."""
        return cls(picture.half())

    def lesson(self, teacher: Teacher) -> dict[str, Lesson]:
        """What there is to learn from it at each layer."""
        if not self._lesson:
            # One picture at a time: so it does not depend on what else is asked for, before or after an interruption.
            self._lesson = teacher.lesson(self.picture.float())
        return self._lesson


@dataclass
class Pair:
    """A picture and the style it is compared with, and the teacher's gradient of that once it was needed."""

    picture: Entry
    style: Entry
    _gradient: Tensor | None = field(default=None, repr=False)

    def gradient(self, teacher: Teacher) -> Tensor:
        """(3, S, S), see `Teacher.gradient`."""
        if self._gradient is None:
            self._gradient = teacher.gradient(self.picture.picture.float(), self.style.lesson(teacher))
        return self._gradient


class Pool:
    """The latest pairs, up to a number of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pairs: list[Pair] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pair: Pair) -> None:
        """Adds a pair; the oldest makes room."""
        self._pairs = [*self._pairs, pair][-self._capacity :]

    def draw(self, number: int, generator: torch.Generator) -> list[Pair]:
        """Pairs by chance, each at most once."""
        order = torch.randperm(len(self._pairs), generator=generator)
        return [self._pairs[i] for i in order[:number].tolist()]

    def state(self) -> dict[str, Any]:
        """The pictures, each once, and which are pairs."""
        entries = list({id(e): e for pair in self._pairs for e in (pair.picture, pair.style)}.values())
        numbers = {id(entry): i for i, entry in enumerate(entries)}
        pairs = [(numbers[id(p.picture)], numbers[id(p.style)]) for p in self._pairs]
        return {"pictures": [e.picture for e in entries], "pairs": pairs}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        entries = [Entry(picture) for picture in state["pictures"]]
        self._pairs = [Pair(entries[a], entries[b]) for a, b in state["pairs"]]
