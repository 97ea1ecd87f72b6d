"""Downloads a file: resumed where it was cut, checked before it is used."""

import hashlib
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 1 << 20
MOST_BYTES = 4 << 30
"""Of a download."""


class DownloadError(Exception):
    """A download failed; the message says why and what to do."""


def hash_prefix(url: str) -> str:
    """The beginning of the SHA-256 that torchvision writes into its file names, as vgg19-dcbb9e9d.pth; else nothing."""
    match = re.search(r"-([0-9a-f]{8,64})\.[^./]+$", urlsplit(url).path)
    return match[1] if match else ""


def download(
    url: str,
    path: Path,
    *,
    sha256: str,
    progress: Callable[[int, int], None] | None = None,
    timeout: float = 30,
    most: int = MOST_BYTES,
) -> None:
    """Downloads `url` to `path`.

    What has come is kept as `path` with .part appended, and a later call goes on from there.

    Args:
        sha256: the file's SHA-256 in hexadecimal, or the beginning of it; empty if it is not known.
        progress: called with bytes there and bytes in all (0 if the server does not say).
        timeout: seconds without a byte after which it is given up.
        most: bytes that the file may have.

    Raises:
        DownloadError: the server cannot be reached or says no, sends more than `most`, or what came is not the file.
    """
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part, progress, timeout, most)
    except urllib.error.HTTPError as error:
        raise DownloadError(f"{url} answered {error.code} {error.reason}; set another address with --url") from error
    except _TooLargeError:
        part.unlink(missing_ok=True)
        raise DownloadError(
            f"{url} is not the right file: it has more than {most:,} bytes; what had come was deleted"
        ) from None
    except (OSError, EOFError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} could not be downloaded: {reason}. What has come is kept; the same command goes on from there. "
            "Without a network, bring the file here and use `gramophone models import FILE`"
        ) from error
    with part.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(sha256):
        part.unlink()
        raise DownloadError(f"{url} is not the right file: its SHA-256 is {actual}, not {sha256}…; it was deleted")
    part.replace(path)


class _TooLargeError(Exception):
    """More comes than the file may have."""


def _fetch(url: str, part: Path, progress: Callable[[int, int], None] | None, timeout: float, most: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if (
            error.code == 416 and have
        ):  # There is nothing behind what is here: the checksum will tell whether that is it.
            return
        raise
    with response:
        if response.status != 206:  # The server does not resume: begin again.
            have = 0
        left = max(0, int(response.headers.get("Content-Length") or 0))
        total = have + left if left else 0
        if total > most:
            raise _TooLargeError
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                have += len(chunk)
                # Whether or not it said how many there would be.
                if have > most:
                    raise _TooLargeError
                file.write(chunk)
                if progress:
                    progress(have, total)
    if total and have < total:
        raise EOFError(f"the connection closed after {have:,} of {total:,} bytes")
