"""How results are encoded in the files that commands write."""

from __future__ import annotations

from pathlib import Path

import click

from .. import saving
from .console import note

quality_option = click.option(
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1-100",
    help="Quality of a .jpg, .avif or .webp. Default 95; a .webp is lossless.",
)


def check_encoding(output: Path, quality: int | None, bit_depth: int | None = None) -> None:
    """Sees that a result can be written as the suffix of its name says; says if the format has no quality.

    Raises:
        click.BadParameter: it cannot.
    """
    if str(output) != "-":
        try:
            saving.check(output, bit_depth)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="'-o' / '--output'") from None
    if quality is not None and not saving.has_quality(output):
        what = output.suffix if output.suffix and str(output) != "-" else "the PNG on standard output"
        note(f"--quality has no effect on {what}, which is lossless")
