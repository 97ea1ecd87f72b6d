"""`python -m gramophone_export.distill`."""

from pathlib import Path

import click

from gramophone_server.engine.device import set_up_cpu
from gramophone_server.models.store import BUILTIN_ROOT

from ..weights import read_weights
from .export import NAME, write_student
from .judge import judge
from .pictures import list_photos
from .plot import plot
from .recipe import Recipe
from .train import LOG, Training

_path = click.Path(path_type=Path)


@click.command()
@click.option("--teacher", type=_path, required=True, help="Weights of VGG-19 in Caffe's preprocessing (vgg_conv.pth).")
@click.option("--photos", type=_path, required=True, help="Folder of photographs.")
@click.option("--folder", type=_path, required=True, help="Where checkpoints and the model go; gone on from if there.")
@click.option("--steps", default=Recipe.steps, show_default=True, help="Updates in all.")
@click.option("--minutes", type=float, help="Stop after so long; the same command goes on.")
@click.option("--install", is_flag=True, help="Put the model into the package, as vgg19-slim.")
@click.option("--seed", default=Recipe.seed, show_default=True)
def main(
    teacher: Path, photos: Path, folder: Path, steps: int, minutes: float | None, install: bool, seed: int
) -> None:
    """Train vgg19-slim, and judge it when it is done."""
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
        judgment = judge(student, training.teacher, list_photos(photos, training.recipe.held_out)[1])
        (folder / "judgment.md").write_text(judgment.table())
        click.echo(judgment.table())


if __name__ == "__main__":
    main()
