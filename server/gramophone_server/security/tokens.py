"""Bearer tokens of clients: random, shown once, stored as hashes in a file that may change while the server runs."""

import hashlib
import hmac
import json
import logging
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..files import atomic_file, file_version, open_file, read_up_to
from .caller import Caller

log = logging.getLogger(__name__)

FORMAT = 1
_MAX_BYTES = 16 << 20
# Secret scanners for repositories and logs recognize tokens by such a prefix.
PREFIX = "gramophone_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class TokenFileError(Exception):
    """A token file cannot be used; the message is a sentence that says why."""


@dataclass(frozen=True)
class Entry:
    """A client in the file: name, whether it is an administrator, and SHA-256 of its token, hexadecimal.

    A token has 256 random bits, so a slow or salted hash would add no security.
    """

    name: str
    admin: bool
    sha256: str


class TokenFile:
    """Looks up the client of a token in the current content of a file.

    Raises:
        TokenFileError: the file cannot be used at the start. If it becomes unusable later, all tokens are rejected.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = file_version(path)
        self._entries = read_tokens(path)

    def caller(self, token: str) -> Caller | None:
        """Returns the client of a token; None if the token is unknown."""
        self._reload_if_changed()
        digest = _digest(token)
        found = None
        # Compare all entries, each in constant time, so that the duration reveals nothing about the hashes.
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = Caller(entry.name, entry.admin)
        return found

    def _reload_if_changed(self) -> None:
        version = file_version(self._path)
        if version != self._version:
            self._version = version
            self.reload()

    def reload(self) -> None:
        """Reads the file again and logs the result; if the file cannot be used, no token is accepted. Blocks."""
        try:
            self._entries = read_tokens(self._path)
        except TokenFileError as error:
            # The old list may hold a token that was just removed.
            self._entries = []
            log.error("no token is accepted until this is fixed: %s", error)
        else:
            log.info("tokens reloaded: %d clients", len(self._entries))


def new_token() -> str:
    """Returns a new token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def add_token(path: Path, name: str, *, admin: bool) -> str:
    """Adds a client to the file and returns its token, which is not stored. Makes the file if it is missing.

    Raises:
        TokenFileError: the file cannot be used, or the name is invalid or already in the file.
    """
    if not _NAME.fullmatch(name):
        raise TokenFileError(
            f"{name!r} cannot be a client's name: use up to 64 letters, digits, dots, dashes, underscores and @"
        )
    entries = read_tokens(path) if path.exists() else []
    if name in (entry.name for entry in entries):
        raise TokenFileError(f"{path} has a token for {name} already; remove it first")
    token = new_token()
    _write(path, [*entries, Entry(name, admin, _digest(token))])
    return token


def remove_token(path: Path, name: str) -> None:
    """Removes a client from the file; the server rejects the client's next call.

    Raises:
        TokenFileError: the file cannot be used, or has no such client.
    """
    entries = read_tokens(path)
    left = [entry for entry in entries if entry.name != name]
    if len(left) == len(entries):
        raise TokenFileError(f"{path} has no token for {name}; it has some for {', '.join(e.name for e in entries)}")
    _write(path, left)


def read_tokens(path: Path) -> list[Entry]:
    """Returns the clients in a file.

    Raises:
        TokenFileError: the file is missing, is not a token file, or can be written by other users.
    """
    try:
        with open_file(path, _MAX_BYTES) as file:
            # A user who can write the file can add a token. Windows has no such mode bits.
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o022:
                raise TokenFileError(f"other users than its owner can write to {path}; run: chmod 600 {path}")
            values = json.loads(read_up_to(file, _MAX_BYTES, path))
        if values["format"] != FORMAT:
            raise TokenFileError(f"{path} has a format that this version does not know; upgrade gramophone")
        return [_entry(value) for value in values["clients"]]
    except FileNotFoundError:
        raise TokenFileError(
            f"there is no file {path}; make it with: gramophone tokens add NAME --file {path}"
        ) from None
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenFileError(f"{path} is not a token file of `gramophone tokens`") from error


def _entry(value: object) -> Entry:
    match value:
        case {"name": str(name), "admin": bool(admin), "sha256": str(sha256)} if _NAME.fullmatch(name) and re.fullmatch(
            "[0-9a-f]{64}", sha256
        ):
            return Entry(name, admin, sha256)
    raise ValueError("not a client")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write(path: Path, entries: Sequence[Entry]) -> None:
    """Replaces the file atomically; only its owner may read it."""
    values = {"format": FORMAT, "clients": [asdict(entry) for entry in entries]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Temporary files have mode 0600.
        with atomic_file(path) as file:
            file.write(f"{json.dumps(values, indent=1)}\n".encode())
    except OSError as error:
        raise TokenFileError(f"{path} cannot be written: {error.strerror}") from error
