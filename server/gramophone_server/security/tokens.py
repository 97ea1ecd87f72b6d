"""Bearer tokens: random, shown once, kept as hashes in a file that may change while the server runs."""

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
_MOST_BYTES = 16 << 20
# Scanners that look for secrets in repositories and logs go by such prefixes.
PREFIX = "gramophone_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class TokenFileError(Exception):
    """A file of tokens cannot be used; the message is a sentence that says why."""


@dataclass(frozen=True)
class Entry:
    """A client in the file: its name, whether it is an administrator, and the SHA-256 of its token, hexadecimal.

    Such a token has 256 random bits, so nothing is gained by a slow or a salted hash.
    """

    name: str
    admin: bool
    sha256: str


class TokenFile:
    """Finds out whose a token is, by the file as it stands at the time.

    Raises:
        TokenFileError: the file cannot be used at the start. One that becomes unusable later lets nobody in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = file_version(path)
        self._entries = read_tokens(path)

    def caller(self, token: str) -> Caller | None:
        """Whose token that is; None if it is nobody's."""
        self._see()
        digest = _digest(token)
        found = None
        # Every entry is compared, each in constant time, so that how long it takes says nothing about the hashes.
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, digest):
                found = Caller(entry.name, entry.admin)
        return found

    def _see(self) -> None:
        version = file_version(self._path)
        if version != self._version:
            self._version = version
            self.reload()

    def reload(self) -> None:
        """Takes the clients that are in the file now, and none if it cannot be used; the log says which. Blocks."""
        try:
            self._entries = read_tokens(self._path)
        except TokenFileError as error:
            # Going on with the old tokens might let in one that was just removed.
            self._entries = []
            log.error("no token is accepted until this is mended: %s", error)
        else:
            log.info("tokens read again: %d clients", len(self._entries))


def new_token() -> str:
    """A token of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def add_token(path: Path, name: str, *, admin: bool) -> str:
    """Puts a client into the file, which is made if need be, and returns its token, which is kept nowhere.

    Raises:
        TokenFileError: the file cannot be used, or the name cannot, or it is there already.
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
    """Takes a client out of the file, which ends its access at its next call.

    Raises:
        TokenFileError: the file cannot be used, or has no such client.
    """
    entries = read_tokens(path)
    left = [entry for entry in entries if entry.name != name]
    if len(left) == len(entries):
        raise TokenFileError(f"{path} has no token for {name}; it has some for {', '.join(e.name for e in entries)}")
    _write(path, left)


def read_tokens(path: Path) -> list[Entry]:
    """The clients in a file.

    Raises:
        TokenFileError: it is missing, not a file of tokens, or others may write to it.
    """
    try:
        with open_file(path, _MOST_BYTES) as file:
            # Whoever can write it can let themselves in. (Windows has no such bits.)
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o022:
                raise TokenFileError(f"others than its owner may change {path}; run: chmod 600 {path}")
            values = json.loads(read_up_to(file, _MOST_BYTES, path))
        if values["format"] != FORMAT:
            raise TokenFileError(f"{path} is of a format that this version does not know; upgrade gramophone")
        return [_entry(value) for value in values["clients"]]
    except FileNotFoundError:
        raise TokenFileError(
            f"there is no file {path}; make it with: gramophone tokens add NAME --file {path}"
        ) from None
    except OSError as error:
        raise TokenFileError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TokenFileError(f"{path} is not a file of tokens as `gramophone tokens` writes them") from error


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
    """Replaces the file, whole or not at all; only its owner may read it."""
    values = {"format": FORMAT, "clients": [asdict(entry) for entry in entries]}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Its mode is 0600.
        with atomic_file(path) as file:
            file.write(f"{json.dumps(values, indent=1)}\n".encode())
    except OSError as error:
        raise TokenFileError(f"{path} cannot be written: {error.strerror}") from error
