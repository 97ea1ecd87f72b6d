"""The option --quality, and the check of output formats."""

from __future__ import annotations

from pathlib import Path

import click

from .. import saving
from .console import note

quality_option = click.option(
    "--quality",
    type=click.IntRange(1, 100),
    metavar="1-100",
    help="Quality of a .jpg, .avif or .webp.  [default: 95; .webp: lossless]",
)


def check_encoding(output: Path, quality: int | None, bit_depth: int | None = None) -> None:
    """Checks that a result can be written in the format of its suffix; prints a note if --quality has no effect.

    Args:
        bit_depth: bits per channel of the result; None for the default, 8.

    Raises:
        click.BadParameter: the suffix is not of a known format, or the format has fewer bits per channel.
    """
    if str(output) != "-":
        try:
            saving.check(output, bit_depth)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="'-o' / '--output'") from None
    if quality is not None and not saving.has_quality(output):
        what = output.suffix if output.suffix and str(output) != "-" else "the PNG on standard output"
        note(f"--quality has no effect on {what}, which is lossless")
