"""The hyperparameters of a training; all of them affect its result."""

from dataclasses import dataclass, field

# Few channels in the first blocks, whose large feature maps cost most memory bandwidth; more channels in deep blocks.
WIDTHS = {1: 24, 2: 32, 3: 96, 4: 192, 5: 320}
LAYERS = (
    "conv1_1", "conv2_1", "conv2_2", "conv3_1", "conv3_4", "conv4_1", "conv4_2", "conv5_1",
)  # fmt: skip
# Weight of each layer in the loss. conv4_1 dominates the paper's loss, and conv4_2 is the paper's content layer. Layers
# that the paper does not use have a weight as well, because they help the training.
WEIGHTS = dict.fromkeys(LAYERS, 0.5) | {
    "conv1_1": 1.0, "conv2_1": 1.0, "conv3_1": 1.0, "conv4_1": 3.0, "conv4_2": 1.0, "conv5_1": 1.0,
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """The hyperparameters of a training.

    Attributes:
        seed: seed of all random numbers.
        widths: number of channels of each block.
        layers: convolutions of the student, named after the teacher's layers that they approximate.
        weights: weight of each layer in the loss.
        side: side of the training pictures in pixels.
        pairs: number of pairs (a picture and its style) in a batch.
        steps: total number of updates of the student.
        restart: number of updates after which the step size, which has fallen to 0, is reset for the rest of `steps`.
        rate: maximum step size of Muon, and of Adam for the biases, relative to the standard deviation of a parameter's
            initial values. After a short warm-up it falls linearly to 0, twice.
        average: decay of the exponential average of the student's parameters; the model contains the average.
        gram: weight of the error of the Gram matrices relative to that of the features.
        hint: weight of the error of the features at the first layer, which has one position for four of the teacher's.
        gradient: weight of the error of the direction of the style loss's gradient, which is computed for
            `gradient_pairs` pairs of every `gradient_every`th batch.
        gradient_pairs: number of pairs for the error of the gradient.
        gradient_every: number of updates between two computations of the error of the gradient.
        silence: weight of the loss that revives dead channels, which are 0 in a whole batch.
        begin: number of updates before the first walk and the first error of the gradient: walks through an untrained
            student do not help.
        walkers: number of canvases that a walk optimizes at a time.
        fresh: number of new photographs that are added together with each stretch of a walk.
        refresh: number of updates of the student between two stretches.
        stretch: minimum and maximum number of optimizer steps of a stretch.
        ages: number of stretches after which a walk restarts with new canvases.
        capacity: maximum number of pairs in the pool.
        held_out: one in this many photographs is held out for evaluation.
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
        """Returns the relative step size of update number `step`."""
        end = self.restart if step < self.restart <= self.steps else self.steps
        return self.rate * min(1.0, (step + 1) / 100) * (1 - step / end)
