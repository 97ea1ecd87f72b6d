"""Pictures that commands read and write. Commands check all files before they paint anything."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from .. import saving
from .console import deliver

Picture = str | bytes
"""The path of a picture, or the picture's bytes if they were read from a pipe."""

STDIO = "-"
SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The suffixes by which files in a folder count as pictures; a file that is named may have any other."""
# Maximum bytes read from a pipe: the server's default limit for a picture.
_MAX_BYTES = 128 << 20


class PictureType(click.ParamType[Picture]):
    """A readable picture file, or `-` for standard input."""

    name = "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Picture:
        """Returns the path; for standard input or a file that is not regular, such as a pipe, the bytes."""
        if isinstance(value, bytes):
            return value
        try:
            return _from_standard_input() if value == STDIO else _readable(value)
        except _UnusableError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Makes the shell complete names of files."""
        return [CompletionItem(incomplete, type="file")]


@dataclass(frozen=True)
class Folder:
    """A folder of pictures.

    Attributes:
        path: the folder as it was given.
        pictures: paths of the picture files in it, sorted by name; at least one.
    """

    path: str
    pictures: tuple[str, ...]


class PicturesType(PictureType):
    """A picture as PictureType has it, or a folder of pictures."""

    name = "FILE|FOLDER"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Returns a Folder, or the picture as PictureType does."""
        if isinstance(value, Folder) or value == STDIO or not os.path.isdir(os.path.expanduser(value)):
            return value if isinstance(value, Folder) else super().convert(value, param, ctx)
        try:
            pictures = tuple(_pictures_in(value))
        except OSError as error:
            self.fail(f"{shown(value)} cannot be read: {error.strerror}", param, ctx)
        if not pictures:
            self.fail(f"{shown(value)} is a folder without pictures ({', '.join(SUFFIXES)})", param, ctx)
        return Folder(value, pictures)


class MaskType(PictureType):
    """A picture, or `-` for no mask."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Picture:
        """Returns "-" for no mask, else the picture as PictureType does."""
        return value if value == STDIO else super().convert(value, param, ctx)


class PictureOrWordType(PictureType):
    """A picture, or one of the given words."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        self.name = "|".join((*words, "FILE"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Picture:
        """Returns the word, or the picture as PictureType does."""
        return str(value) if value in self._words else super().convert(value, param, ctx)

    def fail(self, message: str, param: click.Parameter | None = None, ctx: click.Context | None = None) -> NoReturn:
        """Fails with a message that lists the allowed words."""
        super().fail(f"{message}; give a picture, or one of {', '.join(self._words)}", param, ctx)


PICTURE, PICTURES, MASK = PictureType(), PicturesType(), MaskType()


class _UnusableError(Exception):
    """A file cannot be used; the message says why."""


def shown(path: str | Path | bytes) -> str:
    """Returns a path for display; control characters are escaped, so that they do not affect the terminal."""
    if isinstance(path, bytes):
        return "standard input"
    text = str(path)
    return text if text.isprintable() and text else repr(text)


def plan(contents: Sequence[Picture], output: str) -> list[Path]:
    """Returns the output path for each content.

    Args:
        contents: the pictures to paint.
        output: the path of a single result, a folder, or a pattern with `{stem}` for the stem of the content's name.

    Raises:
        click.BadParameter: several results would have the same path.
    """
    name = output
    if output.endswith(("/", os.sep)) or (len(contents) > 1 and Path(output).is_dir()):
        name = os.path.join(output, "{stem}.png")
    if "{stem}" not in name:
        if len(contents) > 1:
            _refuse(
                f"{len(contents)} pictures cannot all be written to {shown(output)}; give a folder, such as "
                "-o painted/, or a pattern, such as -o '{stem}-painted.png'"
            )
        return [Path(name)]
    paths = [Path(name.replace("{stem}", Path(shown(content)).stem)) for content in contents]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        _refuse(
            f"several pictures would be written to {shown(twice[0])}; their names must differ, or paint them one by one"
        )
    return paths


def check_output(output: Path, inputs: Iterable[Picture]) -> None:
    """Checks that a result can be written.

    Raises:
        click.BadParameter: it cannot be written, or it would overwrite an input.
    """
    if str(output) == STDIO:
        if sys.stdout.isatty():
            _refuse("a picture cannot be written to a terminal; redirect it: -o - > out.png")
        return
    try:
        _check_place(output, list(inputs))
    except (OSError, ValueError) as error:
        _refuse(f"{shown(output)} cannot be written: {getattr(error, 'strerror', None) or error}")


def save(output: Path, data: bytes, quality: int | None = None) -> None:
    """Writes a result to a file in the format of its suffix (see `saving.save`), or to standard output for `-`.

    Raises:
        click.ClickException: the file cannot be written.
        StandardOutputError: standard output cannot be written.
    """
    if str(output) == STDIO:
        deliver(data)
        return
    try:
        saving.save(output, data, quality)
    except OSError as error:
        raise click.ClickException(f"{shown(output)} cannot be written: {error.strerror or error}") from error


def expanded(arguments: Sequence[Picture | Folder]) -> list[Picture]:
    """Returns the pictures of arguments, those of a folder in the place of the folder."""
    return [picture for one in arguments for picture in (one.pictures if isinstance(one, Folder) else (one,))]


def check_folders(arguments: Sequence[Picture | Folder], outputs: Sequence[Path]) -> None:
    """Checks that no result is written into a folder of contents, where the next command would take it as a content.

    Raises:
        click.BadParameter: a result is written there.
    """
    places = {output.expanduser().parent.resolve() for output in outputs}
    for folder in (one for one in arguments if isinstance(one, Folder)):
        if Path(folder.path).expanduser().resolve() in places:
            _refuse(
                f"the results would be in {shown(folder.path)}, among the pictures to paint; name another folder, such "
                "as -o painted/"
            )


def _pictures_in(folder: str) -> Iterator[str]:
    for name in sorted(os.listdir(os.path.expanduser(folder))):
        path = os.path.join(folder, name)
        if Path(name).suffix.lower() in SUFFIXES and name[0] != "." and os.path.isfile(os.path.expanduser(path)):
            yield path


def _readable(value: str) -> Picture:
    path = Path(value).expanduser()
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            example = shown(os.path.join(value, "photo.png"))
            raise _UnusableError(f"{shown(value)} is a folder, not a picture; name a file in it, such as {example}")
        with path.open("rb") as file:
            if stat.S_ISREG(mode) and file.read(1):
                return value
            # A pipe can be read only once, so keep its bytes.
            data = b"" if stat.S_ISREG(mode) else _bounded(file.read(_MAX_BYTES + 1), shown(value))
    except FileNotFoundError:
        if any(sign in value for sign in "*?["):
            raise _UnusableError(f"no file matches {shown(value)}; there is no file {shown(value)} either") from None
        raise _UnusableError(f"there is no file {shown(value)}") from None
    except (OSError, ValueError) as error:
        raise _UnusableError(f"{shown(value)} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise _UnusableError(f"{shown(value)} is empty, so it is not a picture")
    return data


def _from_standard_input() -> bytes:
    if sys.stdin is None:
        raise _UnusableError("standard input is closed, so no picture can be read from it")
    if sys.stdin.isatty():
        raise _UnusableError("standard input is a terminal; redirect it: gramophone … - < photo.png")
    try:
        data = _bounded(sys.stdin.buffer.read(_MAX_BYTES + 1), "standard input")
    except OSError as error:
        raise _UnusableError(f"standard input cannot be read: {error.strerror}") from None
    if not data:
        raise _UnusableError("standard input is empty (it can be used for one picture only)")
    return data


def _bounded(data: bytes, name: str) -> bytes:
    if len(data) > _MAX_BYTES:
        raise _UnusableError(f"{name} has more than {_MAX_BYTES >> 20} MiB, the limit for a picture")
    return data


def _check_place(output: Path, inputs: Sequence[Picture]) -> None:
    path = output.expanduser()
    if path.is_dir() or str(output).endswith(os.sep):
        _refuse(f"{shown(output)} is a folder; name the file in it, such as {shown(output / 'out.png')}")
    if path.exists() and not path.is_file():
        _refuse(f"{shown(output)} is not a regular file; name a regular file, or write to standard output with -o -")
    for picture in inputs:
        if isinstance(picture, str) and path.exists() and path.samefile(Path(picture).expanduser()):
            _refuse(f"{shown(output)} is an input picture and would be overwritten; name another file")
    try:
        saving.check(path)
    except ValueError as error:
        _refuse(str(error))
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        _refuse(f"{shown(output)} cannot be written: {shown(folder)} is not a folder")
    # Create a temporary file to check that the folder is writable.
    with tempfile.TemporaryFile(dir=folder, prefix=".gramophone-"):
        pass


def _refuse(message: str) -> NoReturn:
    raise click.BadParameter(message, param_hint="'-o' / '--output'")
