"""The command group `gramophone`. Commands of the server and the export package are imported when they are called."""

from functools import partial
from importlib.metadata import entry_points, version
from typing import Any

import click

from . import console
from .again import again
from .completion import completion
from .estimate import estimate
from .jobs import jobs
from .paint import content, style, transfer
from .server import server
from .sweep import sweep

# The extra to install if a command of another package fails to import.
_EXTRAS = {"serve": "server", "health": "server", "studio": "server", "models": "export", "export": "export"}


class _Commands(click.Group):
    """The SDK's commands, and those registered in the entry-point group "gramophone.commands"."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs a command and ends the process with its exit status."""
        command = partial(super().main, *args, standalone_mode=False, **extra)
        return console.run(command) if standalone_mode else command()

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names of all commands."""
        return sorted({*super().list_commands(ctx), *entry_points(group="gramophone.commands").names})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command of that name; None if there is none."""
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        for entry in entry_points(group="gramophone.commands", name=cmd_name):
            try:
                loaded: click.Command = entry.load()
            except ModuleNotFoundError as error:
                return _not_installed(cmd_name, error.name or "a package")
            return loaded
        return None


_STATUS = """
\b
Variables:
  GRAMOPHONE_SERVER  address of the server, as --server
  GRAMOPHONE_TOKEN   token for the server, as --token
  GRAMOPHONE_KEEP    seconds that your own server stays without work; 0 ends it with the command
  GRAMOPHONE_...     each setting of the server, see gramophone serve --help

\b
Exit status:
  0    success
  1    failure of the job, the server, or a file
  2    invalid command or request
  129, 130, 143    ended by a closed terminal, Ctrl-C, SIGTERM
  141  the reader of the output has closed the pipe
"""


@click.group(cls=_Commands, epilog=_STATUS)
@click.version_option(version("gramophone"), prog_name="gramophone")
def main() -> None:
    """Neural style as a service.

    style, content, transfer, sweep and again paint pictures: on the server given by --server, else on a server of your
    own, which is started if needed and stays for some minutes; see `gramophone server`. Ctrl-C cancels their jobs;
    closing the terminal does not.
    """


main.add_command(style)
main.add_command(content)
main.add_command(transfer)
main.add_command(sweep)
main.add_command(again)
main.add_command(completion)
main.add_command(jobs)
main.add_command(estimate)
main.add_command(server)


def _not_installed(name: str, module: str) -> click.Command:
    extra = _EXTRAS.get(name, "server")

    @click.command(
        name,
        short_help=f"Needs pip install 'gramophone[{extra}]'.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def command() -> None:
        raise click.ClickException(f"`gramophone {name}` needs {module}: pip install 'gramophone[{extra}]'")

    return command
