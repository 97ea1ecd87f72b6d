"""From a trained student to a model."""

from collections.abc import Mapping
from pathlib import Path

from gramophone_server.models.model import Model

from ..convert import convert
from .networks import STUDENT_INPUT, Student
from .recipe import Recipe

NAME = "vgg19-slim"
# What it is called outside of the package, where the name is taken.
TRIAL = "slim"
DESCRIPTION = "A small network that this project trained to have Gram matrices like VGG-19's, and to be quick."


def write_student(
    root: Path, student: Student, scales: Mapping[str, float], recipe: Recipe, step: int, *, name: str = TRIAL
) -> Model:
    """Writes the student into a folder of models, in float16."""
    return convert(
        root,
        student.weights(),
        name=name,
        preprocessing=STUDENT_INPUT,
        description=DESCRIPTION,
        source=f"gramophone_export.distill, seed {recipe.seed}, {step} steps; teacher vgg19-caffe",
        license="MIT",
        half=True,
        heads=student.heads(scales),
        # In the paper's units conv4_1 is nearly all of the loss, and that is a layer where the student errs: judged by
        # the teacher, pictures are twice as near where every layer has its say.
        loss_scale="relative",
        # To remember 20 pairs takes as long as to go through this network; with 8 its pictures are as near the teacher.
        lbfgs_history=8,
        # A first layer with a stride leaves a grid of dots where only content is asked for; this much takes it away,
        # and costs the other losses nothing (measured).
        tv_weight=1e-5,
    )
