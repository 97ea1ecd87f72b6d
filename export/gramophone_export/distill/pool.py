"""The replay pool of training pairs: pictures with their styles, and the teacher's targets for both."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .networks import LayerTargets, Teacher


@dataclass
class Entry:
    """A picture, and the teacher's targets for it, which are computed when they are first needed.

    Attributes:
        picture: (3, S, S), 0 to 1, float16.
    """

    picture: Tensor
    _targets: dict[str, LayerTargets] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, picture: Tensor) -> "Entry":
        """Returns an entry for a picture (3, S, S) of any floating type."""
        return cls(picture.half())

    def targets(self, teacher: Teacher) -> dict[str, LayerTargets]:
        """Returns the training targets of the picture at each layer."""
        if not self._targets:
            # Compute them for one picture at a time: the result then does not depend on the rest of a batch, which can
            # be another one after an interruption.
            self._targets = teacher.targets(self.picture.float())
        return self._targets


@dataclass
class Pair:
    """A picture and the style that it is compared with; the teacher's gradient is computed when first needed."""

    picture: Entry
    style: Entry
    _gradient: Tensor | None = field(default=None, repr=False)

    def gradient(self, teacher: Teacher) -> Tensor:
        """Returns the teacher's gradient (3, S, S) of the style loss; see `Teacher.gradient`."""
        if self._gradient is None:
            self._gradient = teacher.gradient(self.picture.picture.float(), self.style.targets(teacher))
        return self._gradient


class Pool:
    """The latest training pairs.

    Args:
        capacity: maximum number of pairs.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._pairs: list[Pair] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, pair: Pair) -> None:
        """Adds a pair, and drops the oldest one if the pool is full."""
        self._pairs = [*self._pairs, pair][-self._capacity :]

    def draw(self, number: int, generator: torch.Generator) -> list[Pair]:
        """Returns random pairs without repetition, at most `number`."""
        order = torch.randperm(len(self._pairs), generator=generator)
        return [self._pairs[i] for i in order[:number].tolist()]

    def state(self) -> dict[str, Any]:
        """Returns the distinct pictures, and the pairs as indices of pictures."""
        entries = list({id(e): e for pair in self._pairs for e in (pair.picture, pair.style)}.values())
        numbers = {id(entry): i for i, entry in enumerate(entries)}
        pairs = [(numbers[id(p.picture)], numbers[id(p.style)]) for p in self._pairs]
        return {"pictures": [e.picture for e in entries], "pairs": pairs}

    def load(self, state: dict[str, Any]) -> None:
        """Resumes from a state."""
        entries = [Entry(picture) for picture in state["pictures"]]
        self._pairs = [Pair(entries[a], entries[b]) for a, b in state["pairs"]]
