"""Downloads a file: resumes an interrupted download, and verifies the file before it is used."""

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
"""Maximum bytes of a download."""


class DownloadError(Exception):
    """A download failed; the message says why and what to do."""


def hash_prefix(url: str) -> str:
    """Returns the beginning of the SHA-256 in the file name of a URL, such as vgg19-dcbb9e9d.pth; "" if there is none.

    torchvision's file names contain it.
    """
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

    The bytes received so far are stored as `path` with .part appended; after an interruption, the next call resumes.

    Args:
        url: address of the file.
        path: where to store the file.
        sha256: the file's SHA-256 in hexadecimal, or the beginning of it; empty if it is not known.
        progress: called with the bytes received and the total bytes (0 if the server does not state it).
        timeout: seconds without data after which the download fails.
        most: maximum bytes of the file.

    Raises:
        DownloadError: the server cannot be reached, refuses, or sends more than `most` bytes; or the checksum is wrong.
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
            f"{url} is not the right file: it has more than {most:,} bytes; the partial file was deleted"
        ) from None
    except (OSError, EOFError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"{url} could not be downloaded: {reason}. The partial file is kept; run the same command to resume. "
            "Without a network, copy the file to this machine and use `gramophone models import FILE`"
        ) from error
    with part.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(sha256):
        part.unlink()
        raise DownloadError(f"{url} is not the right file: its SHA-256 is {actual}, not {sha256}…; it was deleted")
    part.replace(path)


class _TooLargeError(Exception):
    """The server sends more bytes than the file may have."""


def _fetch(url: str, part: Path, progress: Callable[[int, int], None] | None, timeout: float, most: int) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # The partial file is already complete or too long: the checksum decides.
            return
        raise
    with response:
        if response.status != 206:  # The server does not support resuming: start from the beginning.
            have = 0
        left = max(0, int(response.headers.get("Content-Length") or 0))
        total = have + left if left else 0
        if total > most:
            raise _TooLargeError
        with part.open("ab" if have else "wb") as file:
            while chunk := response.read(CHUNK):
                have += len(chunk)
                # Check again here: the server may state no length or a wrong one.
                if have > most:
                    raise _TooLargeError
                file.write(chunk)
                if progress:
                    progress(have, total)
    if total and have < total:
        raise EOFError(f"the connection closed after {have:,} of {total:,} bytes")
