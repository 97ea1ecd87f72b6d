"""The command `python -m gramophone_export.distill`."""

from pathlib import Path

import click

from gramophone_server.engine.device import set_up_cpu
from gramophone_server.models.store import BUILTIN_ROOT

from ..importing.state_dict import read_weights
from .evaluation import evaluate
from .export import NAME, write_student
from .pictures import list_photos
from .plot import plot
from .recipe import Recipe
from .train import LOG, Training

_path = click.Path(path_type=Path)


@click.command()
@click.option("--teacher", type=_path, required=True, help="Weights of VGG-19 in Caffe's preprocessing (vgg_conv.pth).")
@click.option("--photos", type=_path, required=True, help="Folder of photographs.")
@click.option(
    "--folder", type=_path, required=True, help="Folder of the checkpoint, log and model; resumes from a checkpoint."
)
@click.option("--steps", default=Recipe.steps, show_default=True, help="Total number of updates.")
@click.option("--minutes", type=float, help="Stop after this time; the same command resumes.")
@click.option("--install", is_flag=True, help="Install the model into the package, as vgg19-slim.")
@click.option("--seed", default=Recipe.seed, show_default=True, help="Seed of the training.")
def main(
    teacher: Path, photos: Path, folder: Path, steps: int, minutes: float | None, install: bool, seed: int
) -> None:
    """Train vgg19-slim, and evaluate it when the training is complete."""
    set_up_cpu()
    training = Training(Recipe(seed=seed, steps=steps), read_weights(teacher), photos, folder)
    seconds = 60 * minutes if minutes else float("inf")
    done = training.run(seconds=seconds, report=lambda line: click.echo(line))
    student, scales = training.average(), training.teacher.scales
    model = write_student(folder / "models", student, scales, training.recipe, training.step)
    if install:
        model = write_student(BUILTIN_ROOT, student, scales, training.recipe, training.step, name=NAME)
    ended = "done" if done else "stopped"
    click.echo(f"{ended} at step {training.step}: {model.path}, SHA-256 {model.manifest.sha256}")
    (folder / "loss.svg").write_text(plot(folder / LOG))
    if done:
        evaluation = evaluate(student, training.teacher, list_photos(photos, training.recipe.held_out)[1])
        (folder / "evaluation.md").write_text(evaluation.table())
        click.echo(evaluation.table())


if __name__ == "__main__":
    main()
