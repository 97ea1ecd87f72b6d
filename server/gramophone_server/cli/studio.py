"""`gramophone studio`."""

import socket
import sys
import threading
import webbrowser
from dataclasses import replace
from typing import Any

import click

from gramophone import runtime
from gramophone.grouped_help import GroupedCommand

from ..http.page import Page
from ..settings import Entry, HttpSettings, Settings, build, entries
from .options import SettingOption
from .serve import serve_until_stopped

# The page is at the same address each day, if the port is free: a browser keeps its settings by address.
_PORT = 8765
# Settings of `gramophone serve` that this command does not have: it serves this machine only, until it is stopped.
_WITHOUT = frozenset(
    {"host", "port", "http", "until_stdin_closes", "kept_for", "leave_after", "insecure", "tls_certificate", "tls_key"}
    | {"client_ca", "tokens", "admins", "http_hosts", "http_origins"}
)


def _studio(browser: bool, **values: Any) -> None:
    """Open the web page of a server on this machine in the browser.

    Uses the server of `gramophone serve --http` if you run one, else starts one, which runs until Ctrl-C.
    """
    if not Page().exists:
        raise click.ClickException("the web page is not part of this installation; build it with `make web`")
    running = next((record.url for record in runtime.running() if record.url), None)
    if running is not None:
        click.echo(f"the page is at {running}, of the server that runs already", err=True)
        if browser:
            webbrowser.open(running)
        return
    settings = build(Settings, values)
    http = HttpSettings(http=f"127.0.0.1:{_PORT if _is_free(_PORT) else 0}")
    connection = replace(settings.connection, port=0)

    def show(url: str) -> None:
        click.echo(f"the page is at {url}; Ctrl-C stops the server, and the next start continues its jobs", err=True)
        if browser:
            # A browser in the terminal would block the server.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    serve_until_stopped(replace(settings, http=http, connection=connection), show)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":
            # As for the server, connections that were closed a moment ago do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _options() -> list[click.Parameter]:
    kept: list[Entry] = [entry for entry in entries(Settings) if entry.name not in _WITHOUT]
    browser = click.Option(
        ["--browser/--no-browser"], default=True, help="Open the page in the browser.  [default: yes]"
    )
    return [browser, *(SettingOption(entry) for entry in kept)]


studio = GroupedCommand("studio", callback=_studio, params=_options(), help=_studio.__doc__)
