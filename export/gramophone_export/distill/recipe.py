"""The numbers of a training, all of which decide its result."""

from dataclasses import dataclass, field

# Narrow where a step goes through the memory most, wide where a position stands for many pixels.
WIDTHS = {1: 24, 2: 32, 3: 96, 4: 192, 5: 320}
LAYERS = (
    "conv1_1", "conv2_1", "conv2_2", "conv3_1", "conv3_4", "conv4_1", "conv4_2", "conv5_1",
)  # fmt: skip
# What a layer counts in the loss. conv4_1 is nearly all of the paper's loss, and conv4_2 is the paper's content layer;
# the layers that the paper does not use are there to be learned from.
WEIGHTS = dict.fromkeys(LAYERS, 0.5) | {
    "conv1_1": 1.0, "conv2_1": 1.0, "conv3_1": 1.0, "conv4_1": 3.0, "conv4_2": 1.0, "conv5_1": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A training.

    Attributes:
        widths: channels of each block.
        layers: convolutions of the student, named after the teacher's layers that they learn.
        weights: what each layer counts in the loss.
        side: pixels a side of the pictures learned from.
        pairs: pictures with their styles in a batch.
        steps: updates of the student in all.
        restart: updates after which the step size, having fallen to 0, begins anew from what is left of `steps`.
        rate: step size of Muon, and of Adam for the biases, relative to the deviation that a parameter was drawn with;
            after a short rise it falls to 0 along a line, twice.
        average: decay of the average of the student's parameters, which is what is shipped.
        gram: what the error of Gram matrices counts beside that of features.
        hint: what the error of features counts at the first layer, where there is one for four of the teacher's.
        gradient: what the direction of the style loss's gradient counts, over `gradient_pairs` pairs of every
            `gradient_every`th batch.
        silence: what it counts, channel by channel, how far those that are 0 all over a batch are from speaking up.
        begin: updates before the first walk, and before gradients count: a beginner's walks teach nothing.
        walkers: canvases that are optimized at a time.
        fresh: photographs that are taken in beside every stretch of a walk.
        refresh: updates of the student between two stretches of the walks.
        stretch: least and most optimizer steps of a stretch.
        ages: stretches until a canvas begins anew.
        capacity: pictures that the pool remembers.
        held_out: every so many photographs, one is kept for judging.
    """

    seed: int = 19
    widths: dict[int, int] = field(default_factory=lambda: dict(WIDTHS))
    layers: tuple[str, ...] = LAYERS
    weights: dict[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    side: int = 96
    pairs: int = 4
    steps: int = 6_000
    restart: int = 4_500
    rate: float = 0.02
    average: float = 0.99
    gram: float = 1.0
    hint: float = 0.2
    gradient: float = 1.5
    gradient_pairs: int = 2
    gradient_every: int = 2
    silence: float = 0.003
    begin: int = 500
    walkers: int = 8
    fresh: int = 16
    refresh: int = 24
    stretch: tuple[int, int] = (8, 28)
    ages: int = 10
    capacity: int = 640
    held_out: int = 9

    def learning_rate(self, step: int) -> float:
        """The relative step size at an update."""
        end = self.restart if step < self.restart <= self.steps else self.steps
        return self.rate * min(1.0, (step + 1) / 100) * (1 - step / end)
