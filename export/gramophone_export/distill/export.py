"""Writes a trained student as a model."""

from collections.abc import Mapping
from pathlib import Path

from gramophone_server.models.graph import Parameters
from gramophone_server.models.model import Model

from ..convert import convert
from .networks import STUDENT_INPUT, Student
from .recipe import Recipe

NAME = "vgg19-slim"
# Name of a student outside the package, because `NAME` is the built-in model.
TRIAL = "slim"
DESCRIPTION = "A small network that this project trained to have Gram matrices like VGG-19's, and to be quick."


def write_student(
    root: Path, student: Student, scales: Mapping[str, float], recipe: Recipe, step: int, *, name: str = TRIAL
) -> Model:
    """Writes the student into a folder of models, in float16, and returns the model.

    Args:
        root: the folder of models.
        student: the trained student.
        scales: the teacher's root mean square at each layer.
        recipe: settings of the training, for the manifest.
        step: number of updates of the training, for the manifest.
        name: name of the model.
    """
    return convert(
        root,
        Parameters.of_vgg(student.weights(), student.heads(scales)),
        name=name,
        preprocessing=STUDENT_INPUT,
        description=DESCRIPTION,
        source=f"gramophone_export.distill, seed {recipe.seed}, {step} steps; teacher vgg19-caffe",
        license="MIT",
        half=True,
        # In the paper's units conv4_1 dominates the loss, and the student is inaccurate at this layer. With relative
        # losses, the pictures are twice as close to the target according to the teacher.
        loss_scale="relative",
        # With 20 pairs, L-BFGS takes as long as this network; with 8, the pictures are as close to the target.
        lbfgs_history=8,
        # The stride of the first layer causes a grid of dots in content reconstructions. This weight removes it without
        # increasing the other losses (measured).
        tv_weight=1e-5,
    )
