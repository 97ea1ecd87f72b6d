"""The command group `gramophone tokens`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from ..security.tokens import TokenFileError, add_token, read_tokens, remove_token

_file = click.option(
    "--file",
    "path",
    required=True,
    envvar="GRAMOPHONE_TOKENS",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file that `gramophone serve --tokens` reads.",
)


@click.group()
def tokens() -> None:
    """Add, list and remove clients of a server.

    A running server applies changes at the next call. The file holds only hashes of the tokens.
    """


@tokens.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="Let the client see and cancel all jobs.")
@_file
def add(name: str, admin: bool, path: Path) -> None:
    """Add a client and print its token, which cannot be shown again."""
    with _errors():
        # Print only the token, so that scripts can read it from standard output.
        click.echo(add_token(path, name, admin=admin))


@tokens.command("list")
@_file
def list_tokens(path: Path) -> None:
    """List the clients."""
    with _errors():
        for entry in read_tokens(path):
            click.echo(f"{entry.name}  admin" if entry.admin else entry.name)


@tokens.command()
@click.argument("name")
@_file
def remove(name: str, path: Path) -> None:
    """Remove a client: the server rejects its token from then on."""
    with _errors():
        remove_token(path, name)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TokenFileError as error:
        raise click.ClickException(str(error)) from error
